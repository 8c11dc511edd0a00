"""Kubeflow Pipelines: submit the definition, watch the run and return its result as the other backends do."""
