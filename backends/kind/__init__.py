"""A kind cluster with KServe for local use and tests."""
