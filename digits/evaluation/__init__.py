"""Metrics, the report, and the verdict on an answer."""
