"""What runs: the components and the one Kubeflow Pipelines definition. Wiring only; the work is in `digits`."""

# Here, and not beside the definition, for whoever wants the names without importing kfp.
NAME = "digits-recognizer"
EXPERIMENT = "digits-recognizer-kfp"
STEPS = ("fetch-mnist", "collect-feedback", "prepare", "train", "evaluate", "publish", "deploy")
