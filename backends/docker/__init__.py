"""The docker backend: steps, object store and endpoint are containers of our own images."""
