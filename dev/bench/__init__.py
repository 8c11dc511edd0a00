"""Comparisons with peers, measured side by side."""
