"""The servers that dev.bench.serving compares with ours. Each module runs in an environment of its own."""
