"""The base of the backends that run kfp.local in a child process on this machine."""
