"""A handwritten-digit classifier, from MNIST to a KServe endpoint: the domain, free of any engine.

Nothing here imports kfp, docker or kubernetes; those live behind `backends`.
"""

__version__ = "0.1.0"
