"""What runs: the components and the one Kubeflow Pipelines definition. Wiring only; the work is in `digits`."""
