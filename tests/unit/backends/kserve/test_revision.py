"""The specification of an InferenceService: the release and its address."""

from __future__ import annotations

import json

import pytest

from backends.kserve.revision import Revision, inference_service
from digits.errors import EndpointError
from tests.helpers.kubernetes_api import RELEASE, URI


def test_a_revision_survives_its_annotation() -> None:
    """A rollback reads from the annotation the revision that was stored, with its id and version."""
    revision = Revision.for_release(RELEASE, URI, "predictor:1")
    again = Revision(**json.loads(revision.to_json()))
    assert again == revision
    assert again.id == revision.id
    assert again.version == "0123456789ab"
    live = inference_service("digits", revision, previous="x")
    assert Revision.from_live(live) == revision
    assert Revision("s3://b/models/digits/ba9876543210/").version == "ba9876543210"


def test_only_folders_that_kserve_fetches_are_deployed() -> None:
    """KServe does not fetch file://, and without the final slash it would fetch version 10 with version 1."""
    assert Revision.for_release(RELEASE, "gs://b/models/digits/0123456789ab/", "").version == "0123456789ab"
    for uri in ("file:///store/models/digits/0123456789ab/", URI.removesuffix("/"), "s3", "/s3/"):
        with pytest.raises(EndpointError, match="s3://bucket/folder/"):
            Revision.for_release(RELEASE, uri, "")
