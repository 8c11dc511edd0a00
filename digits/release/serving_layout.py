"""The champion in TensorFlow Serving's layout, for KServe's stock TensorFlow runtime: `models/detect-digits/<n>/`."""

from __future__ import annotations

from digits.errors import ReleaseError
from digits.release import ledger, releases
from digits.store import ObjectStore

SERVING = "models/detect-digits/"
MAX_VERSIONS = 2


def write_serving_layout(store: ObjectStore) -> str:
    """Copy the champion's SavedModel to `models/detect-digits/<n>/`, and return this prefix. n is its ledger number.

    TensorFlow Serving serves the highest number, so the runtime follows the champion. Only MAX_VERSIONS are kept.
    """
    champion = ledger.newest(store)
    if champion is None:
        raise ReleaseError("there is no champion yet", remedy="digits run")
    prefix = f"{SERVING}{champion.n}/"
    files = releases.load(store, champion.version)["files"]
    # The graph is copied last, because TensorFlow Serving does not load a version without a graph.
    for name in sorted((n for n in files if n.startswith("saved_model/")), key=lambda n: n.endswith("saved_model.pb")):
        key = prefix + name.removeprefix("saved_model/")
        if not store.exists(key):
            store.put(key, store.get(releases.release_prefix(champion.version) + name, sha256=files[name]))
    for key in store.keys(SERVING):
        number = key.split("/")[2]
        if number.isdigit() and int(number) <= champion.n - MAX_VERSIONS:
            store.delete(key)
    return prefix
