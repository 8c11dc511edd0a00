"""KServe: InferenceServices through the Kubernetes API."""
