"""The servers that dev.bench.serving measures beside ours. Each module here runs in an environment of its own."""
