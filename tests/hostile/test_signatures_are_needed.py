"""Nothing that a writer of the store has changed is loaded where keys are trusted, and nothing valid is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from digits.errors import DigitsError
from digits.files import sha256_of
from digits.release import attachments, ledger, releases, signatures
from digits.serving.slot import LedgerWatcher, ModelSlot, load
from digits.settings import Settings
from digits.store import Trust, open_store
from digits.store.file import FileStore
from tests.helpers.signing import new_keys
from tests.helpers.support import Finished, another_release

EACH = 30  # mutations of each kind


@dataclasses.dataclass
class Attacked:
    """A store with three signed champions, of which the last is served, and a writer who has no trusted key."""

    settings: Settings
    store: FileStore
    versions: list[str]  # by ledger entry
    own_key: Any  # of the attacker
    before: dict[str, bytes | None] = dataclasses.field(default_factory=dict)

    @property
    def champion(self) -> str:
        return releases.release_prefix(self.store, self.versions[-1])

    def put(self, key: str, content: bytes | None) -> None:
        """Replace an object, or delete it if `content` is None, until `restore`."""
        if key not in self.before:
            self.before[key] = self.store.get(key) if self.store.exists(key) else None
        self.store.delete(key) if content is None else self.store.put(key, content)

    def restore(self) -> None:
        for key, content in self.before.items():
            self.store.delete(key) if content is None else self.store.put(key, content)
        self.before = {}

    def put_manifest(self, manifest: dict[str, Any]) -> None:
        self.put(self.champion + releases.MANIFEST, json.dumps(manifest).encode())

    def sign_champion(self, key: Any) -> bytes:
        """Sign what the champion's folder holds now."""
        names = [name.removeprefix(self.champion) for name in self.store.keys(self.champion)]
        digests = {n: sha256_of(self.store.get(self.champion + n)) for n in names if n != releases.SIGNATURE}
        return signatures.sign_digests(key, self.versions[-1], digests, releases.SIGNATURE)


@pytest.fixture(scope="module")
def attacked(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    folder = tmp_path_factory.mktemp("attacked")
    private, public = new_keys(folder / "keys")
    settings = finished.copy(folder / "home")
    settings = dataclasses.replace(settings, trusted_keys=str(public), signing_key=str(private))
    store = open_store(settings)
    assert isinstance(store, FileStore)
    trust, store.trust = store.trust, Trust(signing_key=str(private))
    attachments.attach(store, releases.load(store, finished.version))
    ledger.sign_newest(store)
    store.trust = trust
    versions = [finished.version]
    for seed in (1, 2):
        versions.append(another_release(store, finished.version, seed=seed)["version"])
        ledger.promote(store, versions[-1], "better")
    attacker = signatures.read_signing_key(str(new_keys(folder / "attacker")[0]))
    return Attacked(settings, store, versions, attacker)


def by_the_ledger(attacked: Attacked, _: Path) -> str:
    """Load the champion as a predictor process or container does. Return the version, '' if none is loaded."""
    slot = ModelSlot()
    LedgerWatcher(slot, attacked.settings).poll()
    return slot.current.version if slot.current else ""


def by_a_deployment(attacked: Attacked, folder: Path) -> str:
    """Load the champion as a deployment to KServe does: read the ledger, copy the release's folder, load it."""
    try:
        champion = ledger.champion(attacked.store)
        releases.load_whole(attacked.store, champion)
        return in_a_pod(attacked, folder, champion)
    except DigitsError:
        return ""


def in_a_pod(attacked: Attacked, folder: Path, release: str = "") -> str:
    """Load the third release as a pod does whose InferenceService was made before the attack."""
    release = release or attacked.versions[-1]
    shutil.copytree(attacked.store.root / releases.release_prefix(attacked.store, release), folder, dirs_exist_ok=True)
    try:
        return load(folder, attacked.settings.trusted_keys, release).version
    except DigitsError:
        return ""
    finally:
        shutil.rmtree(folder)


def weights(attacked: Attacked, dice: random.Random) -> None:
    key = attacked.champion + "model.onnx"
    content = bytearray(attacked.store.get(key))
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    attacked.put(key, bytes(content))
    if dice.random() < 0.5:
        _adapt_manifest(attacked, "model.onnx", bytes(content))


def graph(attacked: Attacked, dice: random.Random) -> None:
    key = attacked.champion + "model.onnx"
    model = onnx.load_from_string(attacked.store.get(key))
    tensor = dice.choice(model.graph.initializer)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values + dice.choice([1, -1])).astype(values.dtype), tensor.name))
    attacked.put(key, model.SerializeToString())
    _adapt_manifest(attacked, "model.onnx", model.SerializeToString())


def _adapt_manifest(attacked: Attacked, name: str, content: bytes) -> None:
    found = json.loads(attacked.store.get(attacked.champion + releases.MANIFEST))
    found["files"][name] = sha256_of(content)
    attacked.put_manifest(found)


def manifest(attacked: Attacked, dice: random.Random) -> None:
    found = json.loads(attacked.store.get(attacked.champion + releases.MANIFEST))
    part = dice.choice(["created", "metrics", "golden", "mlflow_run", "build"])
    found[part] = {"accuracy": dice.random()} if part == "metrics" else f"x{dice.random()}"
    attacked.put_manifest(found)


def signature(attacked: Attacked, dice: random.Random) -> None:
    key = attacked.champion + releases.SIGNATURE
    bundle = json.loads(attacked.store.get(key))
    envelope = bundle["dsseEnvelope"]
    part = dice.choice(["payload", "sig", "hint", "cut"])
    if part == "cut":
        attacked.put(key, attacked.store.get(key)[: -dice.randrange(1, 100)])
        return
    holder, field = {
        "payload": (envelope, "payload"),
        "sig": (envelope["signatures"][0], "sig"),
        "hint": (bundle["verificationMaterial"]["publicKey"], "hint"),
    }[part]
    place = dice.randrange(len(holder[field]) - 4)  # the last digits of Base64 may carry no bits
    old = holder[field]
    holder[field] = old[:place] + ("A" if old[place] != "A" else "B") + old[place + 1 :]
    attacked.put(key, json.dumps(bundle).encode())


def swapped_key(attacked: Attacked, dice: random.Random) -> None:
    if dice.random() < 0.5:
        weights(attacked, dice)
    bundle = json.loads(attacked.sign_champion(attacked.own_key))
    if dice.random() < 0.5:  # claim to be the trusted key
        trusted = next(iter(signatures.read_keys(attacked.settings.trusted_keys)))
        bundle["verificationMaterial"]["publicKey"]["hint"] = trusted
    attacked.put(attacked.champion + releases.SIGNATURE, json.dumps(bundle).encode())


def missing_signature(attacked: Attacked, dice: random.Random) -> None:
    if dice.random() < 0.5:
        weights(attacked, dice)
    attacked.put(attacked.champion + releases.SIGNATURE, dice.choice([None, b"", b"{}", b"null"]))


def replayed_champion(attacked: Attacked, dice: random.Random) -> None:
    earlier = releases.release_prefix(attacked.store, dice.choice(attacked.versions[:-1]))
    names = [name.removeprefix(earlier) for name in attacked.store.keys(earlier)]
    wanted = names if dice.random() < 0.5 else [releases.SIGNATURE, *([releases.MANIFEST] * dice.randrange(2))]
    for name in wanted:
        attacked.put(attacked.champion + name, attacked.store.get(earlier + name))


def removed_entry(attacked: Attacked, dice: random.Random) -> None:
    keys = attacked.store.keys(ledger.folder(attacked.store))
    numbers = sorted({key.split("/")[-1].split(".")[0] for key in keys})
    first = dice.randrange(len(numbers))
    gone = numbers[first:] if dice.random() < 0.5 else numbers[first : first + 1]
    for key in keys:
        if key.split("/")[-1].split(".")[0] in gone and (dice.random() < 0.7 or key.endswith(".json")):
            attacked.put(key, None)


def reordered_entries(attacked: Attacked, dice: random.Random) -> None:
    keys = [key for key in attacked.store.keys(ledger.folder(attacked.store)) if key.endswith(".json")]
    one, two = dice.sample(keys, 2)
    contents = attacked.store.get(one), attacked.store.get(two)
    for key, content in zip((two, one), contents, strict=True):
        if dice.random() < 0.5:  # with the number of its new place
            content = content.replace(b'"n":', b'"n":' + key[-6:-5].encode() + b',"m":', 1)
        attacked.put(key, content)


def other_provenance(attacked: Attacked, dice: random.Random) -> None:
    earlier = releases.release_prefix(attacked.store, dice.choice(attacked.versions[:-1]))
    name = dice.choice(releases.ATTACHED)
    attacked.put(attacked.champion + name, dice.choice([None, attacked.store.get(earlier + name)]))


OF_THE_LEDGER = [removed_entry, reordered_entries]
OF_THE_RELEASE = [
    weights,
    graph,
    manifest,
    signature,
    swapped_key,
    missing_signature,
    replayed_champion,
    other_provenance,
]


@contextlib.contextmanager
def attack(attacked: Attacked, mutate: Callable[[Attacked, random.Random], None], seed: int) -> Iterator[None]:
    """Change the store while the block runs."""
    mutate(attacked, random.Random(f"{mutate.__name__} {seed}"))
    assert any(
        content != (attacked.store.get(key) if attacked.store.exists(key) else None)
        for key, content in attacked.before.items()
    )
    try:
        yield
    finally:
        attacked.restore()


@pytest.mark.parametrize("mutate", [*OF_THE_RELEASE, *OF_THE_LEDGER], ids=lambda mutate: mutate.__name__)
def test_no_mutation_is_loaded(mutate: Any, attacked: Attacked, tmp_path: Path) -> None:
    """No change to a signed release or ledger is loaded by a predictor, a deployment or a pod; the original is."""
    loaders = [by_the_ledger, by_a_deployment] + [in_a_pod] * (mutate in OF_THE_RELEASE)
    for seed in range(EACH):
        with attack(attacked, mutate, seed):
            loaded = {loader.__name__: loader(attacked, tmp_path / "pod") for loader in loaders}
            assert set(loaded.values()) == {""}, f"{mutate.__name__} {seed}: {loaded}"
    assert {loader(attacked, tmp_path / "pod") for loader in loaders} == {attacked.versions[-1]}


def test_a_new_key_replaces_the_old_one(attacked: Attacked, tmp_path: Path) -> None:
    """Once the old key is not trusted, only what the new one signed is loaded; what is served is served on."""
    old = Path(attacked.settings.trusted_keys)
    private, public = new_keys(tmp_path / "new")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    shutil.copy(old, trusted / "old.pub")
    settings = dataclasses.replace(attacked.settings, trusted_keys=str(trusted))
    rotated = dataclasses.replace(attacked, settings=settings)
    slot = ModelSlot()
    watcher = LedgerWatcher(slot, settings)
    assert watcher.poll()
    shutil.copy(public, trusted / "new.pub")
    assert watcher.poll()
    assert by_the_ledger(rotated, tmp_path) == attacked.versions[-1]

    (trusted / "old.pub").unlink()
    assert not watcher.poll()
    assert slot.current is not None
    assert slot.rejected["why"]
    assert by_the_ledger(rotated, tmp_path) == ""

    attacked.store.trust, before = Trust(signing_key=str(private)), attacked.store.trust
    attachments.attach(attacked.store, releases.load(attacked.store, attacked.versions[-1]))
    ledger.sign_newest(attacked.store)
    attacked.store.trust = before
    assert watcher.poll()
    assert slot.rejected == {}
    assert by_the_ledger(rotated, tmp_path) == attacked.versions[-1]
