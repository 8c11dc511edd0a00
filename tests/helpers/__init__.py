"""Helpers of the tests; the only modules that test modules share."""
