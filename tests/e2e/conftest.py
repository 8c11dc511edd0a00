"""Fixtures of the e2e lane."""

from cluster_fixtures import cluster_settings, digits_images, namespace, small_releases

__all__ = ["cluster_settings", "digits_images", "namespace", "small_releases"]
