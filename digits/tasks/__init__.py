"""Task files: what is recognised in which pictures."""
