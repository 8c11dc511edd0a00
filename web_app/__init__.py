"""The drawing page and its same-origin gateway."""
