"""The same with Docker: steps, object store and endpoint are containers of our own images."""
