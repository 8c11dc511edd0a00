"""Kubeflow Pipelines: the definition submitted to it, watched, and told of as on the laptop."""
