"""Fixtures of the e2e lane."""

from tests.helpers.cluster_fixtures import (
    cluster_images,
    cluster_settings,
    digits_images,
    namespace,
    small_releases,
    steps_image,
)
from tests.helpers.page_fixtures import between, browser, endpoint_url, gallery, lab, site, visit, visit_at

__all__ = [
    "between",
    "browser",
    "cluster_images",
    "cluster_settings",
    "digits_images",
    "endpoint_url",
    "gallery",
    "lab",
    "namespace",
    "site",
    "small_releases",
    "steps_image",
    "visit",
    "visit_at",
]
