"""Prediction for many pictures, without the endpoint: Parquet parts and a manifest in a store, each written once.

    plan.json             release, task and digest of the input, written first
    part-00000.parquet    a row for each picture: name, class, label, probabilities, verdict, release
    manifest.json         the plan, counts, and the SHA-256 of each part, written last

Parts are created conditionally and their content depends on the release and the pictures alone. So several programs may
work on the same output, each on all parts or on its share of them, and one that was killed is continued by the same
command.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.data.batch_input import Batch, Load, Shard
from digits.data.number import decide
from digits.data.pictures import FORMATS
from digits.errors import DataError, MissingError, ObjectMissing, StoreError, UsageError
from digits.evaluation.verdict import SURE, judge
from digits.files import canonical_json, parse_json, sha256_of
from digits.serving.slot import LoadedModel
from digits.store import ObjectStore

PLAN, MANIFEST = "plan.json", "manifest.json"
MAX_PICTURES = 20_000  # of a part
MAX_PIXELS = 16_000_000  # of the images of a part, if each picture has one; a number has up to 16
CHUNK = 1000  # images that a worker holds as float32, too
VERDICTS = ("sure", "unsure", "empty", "damaged")

Progress = Callable[[int, int], object]  # called with the pictures that are done, and all of the share


def plan_batch(model: LoadedModel, batch: Batch, store: ObjectStore) -> dict[str, Any]:
    """Write the plan to a store, unless the same one is there. Return it.

    Raises:
        UsageError: the store has the plan of another batch or release, or a file that the manifest would replace.
        MissingError: there are no pictures.
        StoreError: the store refused a write.
    """
    if not batch.count:
        raise MissingError("there are no pictures: expected at least one, got 0", remedy="give other PICTURES")
    size = max(1, min(MAX_PICTURES, MAX_PIXELS // int(np.prod(model.task.shape)), batch.limit))
    plan = {"schema": 1, "release": model.version, "task": model.task.name, "input": batch.digest}
    plan |= {"pictures": batch.count, "part_size": size}
    if not store.exists(PLAN) and store.exists(MANIFEST) and b'"part_size"' not in store.get(MANIFEST):
        raise UsageError(f"{store.uri} has a {MANIFEST} that no batch wrote", remedy="give another place as OUTPUT")
    if store.create(PLAN, canonical_json(plan)):
        return plan
    found = read_plan(store)
    if differing := sorted(key for key in plan if found.get(key) != plan[key]):
        remedy = "give another place, or remove what is there"
        if differing == ["release"]:  # there is another champion since
            remedy = f"add --release {found.get('release')} to continue it, or {remedy}"
        raise UsageError(
            f"{store.uri} has the predictions for another batch: {', '.join(differing)} of {PLAN} differ", remedy=remedy
        )
    return plan


def read_plan(store: ObjectStore, key: str = PLAN) -> dict[str, Any]:
    """Return the plan, or the manifest, in a store; {} if there is none, or a damaged one."""
    try:
        plan = parse_json(store.get(key))
    except (ObjectMissing, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def predict_batch(
    model: LoadedModel,
    batch: Batch,
    store: ObjectStore,
    on_progress: Progress = lambda *_: None,
    *,
    share: tuple[int, int] = (1, 1),
    threads: int = 0,
) -> dict[str, Any]:
    """Write the predictions for a batch to a store. Return the manifest.

    `share` (i, n) limits this to the i-th of n shares of the parts, which writes no manifest. `threads` is the number
    of parts in work at the same time; 0: one for each processor.

    Raises:
        UsageError: the store has the plan of another batch or release, or files that the parts would replace.
        DataError: none of the pictures can be read.
        StoreError: the store refused a write, or parts were removed meanwhile.
    """
    plan, (index, shares) = plan_batch(model, batch, store), share
    size, identity, earlier = plan["part_size"], sha256_of(canonical_json(plan)), read_plan(store, MANIFEST)
    known: Any = earlier.get("parts") if plan.items() <= earlier.items() else None
    total = sum(min(size, batch.count - start) for start in range((index - 1) * size, batch.count, shares * size))
    digests, verdicts, done = dict[str, str](), Counter[str](), 0
    pending: deque[tuple[str, Future[tuple[bytes, Counter[str]]]]] = deque()

    def finish_first() -> None:
        nonlocal done
        name, future = pending.popleft()
        content, found = future.result()
        digests[name] = sha256_of(content)
        verdicts.update(found)
        done += found.total()
        on_progress(done, total)

    workers = threads or os.cpu_count() or 1  # the model and the decoding of pictures release Python's lock
    pool = ThreadPoolExecutor(workers)
    try:
        for n, load in islice(enumerate(batch.shards(size)), index - 1, None, shares):
            name = f"part-{n:05d}.parquet"
            digest = known.get(name, "") if isinstance(known, dict) else ""
            pending.append((name, pool.submit(_part, model, store, name, load, identity, digest)))
            if len(pending) > workers:  # bounds the memory
                finish_first()
        while pending:
            finish_first()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C, a part may need minutes to its end
    manifest = plan | {"verdicts": {name: verdicts[name] for name in VERDICTS}, "parts": digests}
    if shares == 1:
        if verdicts["damaged"] == batch.count:
            problem = next(batch.shards(1))().problems.get(0, "it was not when the others were read")
            raise DataError(
                f"none of the {batch.count} pictures can be read; the first: {problem}",
                remedy=f"give pictures of the formats {', '.join(FORMATS)}, or files of images with a usual ending",
            )
        if missing := [name for name in digests if not store.exists(name)]:
            raise StoreError(
                f"{store.uri}: {', '.join(missing[:3])} and in all {len(missing)} parts were removed meanwhile",
                remedy="run the same command again, which writes them again",
            )
        store.put(MANIFEST, json.dumps(manifest, indent=2, sort_keys=True).encode())
    return manifest


def _part(
    model: LoadedModel, store: ObjectStore, name: str, load: Load, identity: str, digest: str
) -> tuple[bytes, Counter[str]]:
    """Return the content of a part and its verdicts; predict and write it if it is missing, damaged or of another plan.

    `identity` is the SHA-256 of the plan, which each of its parts states. `digest` is that of the part in the manifest
    of an earlier call, '' if there was none.

    Raises:
        UsageError: there is a file of that name that no batch wrote.
    """
    found = _existing(store, name, identity, digest)
    if found:
        return found
    content, verdicts = _encode(model, load(), identity)
    if not store.create(name, content):  # another program was first, or the part is damaged
        found = _existing(store, name, identity, digest)
        if found:
            return found
        store.put(name, content)
    return content, verdicts


def _existing(store: ObjectStore, name: str, identity: str, digest: str) -> tuple[bytes, Counter[str]] | None:
    from pyarrow import ArrowException, parquet

    try:
        content = store.get(name)
        table = parquet.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read()
        verdicts = Counter(table["verdict"].to_pylist()) if "verdict" in table.column_names else Counter()
    except (ObjectMissing, ArrowException, OSError, ValueError):
        return None
    if (plan := (table.schema.metadata or {}).get(b"digits.plan")) is None:
        raise UsageError(f"{store.uri} has a {name} that no batch wrote", remedy="give another place as OUTPUT")
    intact = plan == identity.encode() and digest in ("", sha256_of(content)) and verdicts.keys() <= set(VERDICTS)
    return (content, verdicts) if intact else None


def _as_text(name: str) -> str:
    """Return the name of a file as text, with escapes for bytes that are no UTF-8."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _answer(model: LoadedModel, shard: Shard) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """Return the probabilities of a shard's digits, whether each is doubtful, and how many digits each picture has."""
    images = shard.images.reshape(-1, *model.task.input_shape)
    chunks = (
        images[start : start + CHUNK].astype(np.float32) / np.float32(255) for start in range(0, len(images), CHUNK)
    )
    shares = np.concatenate([*map(model.run, chunks), np.empty((0, len(model.task.labels)), np.float32)])
    counts, doubtful = np.asarray(shard.counts, np.int64), np.asarray(shard.doubtful, bool)
    if not shard.undecided:
        return shares, doubtful, counts
    ends = np.cumsum(counts)[:-1]
    parts, flags = np.split(shares, ends), np.split(doubtful, ends)
    for picture, digits in shard.undecided.items():
        decided, answers = decide(digits, list(parts[picture]))
        parts[picture], flags[picture] = np.stack(answers), np.array([digit.doubtful for digit in decided])
    return np.concatenate(parts), np.concatenate(flags), np.array(list(map(len, parts)), np.int64)


def _encode(model: LoadedModel, shard: Shard, identity: str) -> tuple[bytes, Counter[str]]:
    """Return the predictions for a shard as a Parquet file, and its verdicts."""
    import pyarrow
    from pyarrow import parquet

    labels, count = model.task.labels, len(shard.names)
    shares, doubtful, counts = _answer(model, shard)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]  # of each picture's images
    single = counts == 1
    own = shares[first[single]]
    classes = np.zeros(count, np.int32)
    classes[single] = own.argmax(axis=1)
    threshold = model.sure_from
    verdicts = np.full(count, "empty", object)
    sure = (own.max(axis=1, initial=0) >= (threshold or SURE)) & ~doubtful[first[single]]
    verdicts[single] = np.where(sure, "sure", "unsure")
    names = np.full(count, None, object)
    names[single] = np.asarray(labels, object)[classes[single]]
    for index in np.flatnonzero(counts > 1):  # a number
        part = slice(int(first[index]), int(first[index] + counts[index]))
        names[index] = "".join(labels[each] for each in shares[part].argmax(axis=1))
        verdicts[index] = judge(shares[part], doubtful[part].tolist(), threshold, model.task).state
    verdicts[list(shard.problems)] = "damaged"
    ends = np.cumsum(single, dtype=np.int32) * np.int32(len(labels))
    offsets, flat = pyarrow.array(np.concatenate([np.zeros(1, np.int32), ends])), pyarrow.array(own.reshape(-1))
    columns = {
        "name": pyarrow.array(list(map(_as_text, shard.names)), pyarrow.string()),
        "class": pyarrow.array(classes, mask=~single),
        "label": pyarrow.array(names, pyarrow.string()),
        "probabilities": pyarrow.ListArray.from_arrays(offsets, flat, mask=pyarrow.array(~single)),
        "verdict": pyarrow.array(verdicts, pyarrow.string()),
        "release": pyarrow.array([model.version] * count, pyarrow.string()),
    }
    table = pyarrow.table(columns).replace_schema_metadata({"digits.plan": identity})
    buffer, coded = io.BytesIO(), ["label", "verdict", "release"]
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=coded, write_page_checksum=True)
    return buffer.getvalue(), Counter(verdicts.tolist())
