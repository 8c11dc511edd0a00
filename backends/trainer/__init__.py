"""Kubeflow Trainer: a training by several pods of a cluster."""
