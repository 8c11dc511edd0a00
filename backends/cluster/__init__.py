"""Kubernetes: a kind cluster of our own, the API of any cluster, and releases behind KServe's InferenceServices."""
