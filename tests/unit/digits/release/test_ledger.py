"""The ledger loses no promotion, detects tampering, and is rolled back step by step."""

from __future__ import annotations

import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digits.errors import ReleaseError, UsageError
from digits.files import canonical_json
from digits.release import ledger, seen
from digits.store import Trust
from digits.store.file import FileStore
from tests.helpers.signing import new_keys, signed_store
from tests.helpers.small_releases import small_release

ACTIONS = {"g": "gate", "p": "promote", "r": "rollback"}


def test_promotions_since_the_last_manual_one_are_references() -> None:
    """A manual promotion removes all earlier references, the gate's add to it, and a rollback removes what it undid."""

    def references(*steps: str) -> list[str]:
        chain = [ledger.Entry(n, step[1:], ACTIONS[step[0]], "", "", "", "") for n, step in enumerate(steps)]
        return ledger.references(chain)

    assert references() == []
    assert references("ga", "gb", "gc") == ["a", "b", "c"]
    assert references("ga", "gb", "pc", "gd") == ["c", "d"]
    assert references("ga", "gb", "gc", "ra", "gd") == ["a", "d"]
    assert references("ga", "pb", "ra", "gc") == ["a", "c"]


def test_the_ledger_is_a_chain(store: FileStore, tmp_path: Path) -> None:
    """Each entry holds the digest of the one before, and promoting the champion again adds none."""
    versions = [small_release(store, tmp_path, seed) for seed in range(3)]
    for version in [*versions, versions[-1]]:
        ledger.promote(store, version, f"because of {version}")
    entries = ledger.entries(store)
    assert [entry.version for entry in entries] == versions
    assert [entry.n for entry in entries] == [1, 2, 3]
    assert [entry.previous for entry in entries] == ["", *versions[:2]]
    assert (ledger.champion(store), ledger.previous(store)) == (versions[2], versions[1])


@pytest.mark.parametrize("how", ["changed", "removed", "replaced", "not JSON"])
def test_tampering_with_the_ledger_is_detected(how: str, store: FileStore, tmp_path: Path) -> None:
    """A changed, deleted or replaced entry breaks the chain, and the error names it."""
    for seed in range(3):
        ledger.promote(store, small_release(store, tmp_path, seed), "good")
    assert len(ledger.entries(store)) == 3
    keys = store.keys(ledger.folder(store))
    if how == "changed":
        store.put(keys[1], store.get(keys[1]).replace(b"good", b"evil"))
    elif how == "removed":
        store.delete(keys[1])
    elif how == "replaced":
        store.put(keys[1], store.get(keys[0]))
    else:
        store.put(keys[1], b"{")
    with pytest.raises(ReleaseError, match="ledger entry"):
        ledger.entries(store)


def test_a_ledger_without_its_first_entry_is_not_continued(store: FileStore, tmp_path: Path) -> None:
    """A promotion is refused, as by a run, because an entry that follows a broken chain would not repair it."""
    versions = [small_release(store, tmp_path, seed) for seed in range(3)]
    for version in versions[:2]:
        ledger.promote(store, version, "good")
    store.delete(store.keys(ledger.folder(store))[0])
    left = store.keys(ledger.folder(store))
    with pytest.raises(ReleaseError, match="does not follow the one before it"):
        ledger.promote(store, versions[2], "better")
    assert store.keys(ledger.folder(store)) == left


@pytest.mark.parametrize("name", [".DS_Store", "notes.txt", "00000001.json~"])
def test_a_file_that_is_not_an_entry_is_ignored(store: FileStore, tmp_path: Path, name: str) -> None:
    """The files that a file manager or an editor leaves next to the entries change nothing."""
    version = small_release(store, tmp_path)
    ledger.promote(store, version, "good")
    store.put(ledger.folder(store) + name, b"\xff\xfe")
    assert (ledger.champion(store), len(ledger.entries(store))) == (version, 1)
    ledger.promote(store, small_release(store, tmp_path, 1), "better")
    assert ledger.rollback(store).version == version


@pytest.mark.parametrize(
    "change", ["short", "nested", {"n": True}, {"version": ""}, {"version": ["a"]}, {"previous": None}, {"why": 5}]
)
def test_a_damaged_newest_entry_is_an_error(change: str | dict[str, object], store: FileStore, tmp_path: Path) -> None:
    """Reading the champion fails with the name of the entry."""
    ledger.promote(store, small_release(store, tmp_path), "good")
    (key,) = store.keys(ledger.folder(store))
    texts = {"short": b'{"n": 1}', "nested": b"[" * 100_000}
    store.put(key, texts[change] if isinstance(change, str) else canonical_json(json.loads(store.get(key)) | change))
    with pytest.raises(ReleaseError, match=r"ledger entry .*00000001"):
        ledger.champion(store)


def test_a_damaged_ledger_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    """Its entries and signatures are kept aside, also twice, and the new ledger is one of this user's choice."""
    store, _ = signed_store(tmp_path)
    version = small_release(store, tmp_path / "made")
    prefix = ledger.folder(store)
    for promoted in (2, 1):
        for _ in range(promoted):  # the second one changes nothing
            ledger.promote(store, version, "good")
        former = {key.removeprefix(prefix): store.get(key) for key in store.keys(prefix) if key.count("/") == 2}
        former["00000001.json"] = b"damaged"
        store.put(f"{prefix}00000001.json", b"damaged")
        with pytest.raises(ReleaseError, match="damaged") as caught:
            ledger.promote(store, version, "again")
        assert "digits promote VERSION --new-ledger" in caught.value.remedy
        aside = ledger.set_aside(store)
        assert {key.removeprefix(aside): store.get(key) for key in store.keys(aside)} == former
        assert ledger.entries(store) == []
    assert ledger.promote(store, version, "again").n == 1
    assert ledger.champion(store) == version


@pytest.mark.parametrize("what", ["folder", "link"])
def test_an_occupied_key_ends_the_promotion(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A folder or a broken link under the next entry's key ends promotion and rollback with an error that names it."""
    monkeypatch.setattr(ledger, "LISTING_SECONDS", 0)
    versions = [small_release(store, tmp_path, seed) for seed in range(3)]
    for version in versions[:2]:
        ledger.promote(store, version, "good")
    occupied = store.root / ledger.folder(store) / "00000003.json"
    if what == "folder":
        (occupied / "x").mkdir(parents=True)
    else:
        occupied.symlink_to("nowhere")
    for attempt in (lambda: ledger.promote(store, versions[2], "better"), lambda: ledger.rollback(store)):
        with pytest.raises(ReleaseError, match=r"00000003\.json in file://.* its name is taken"):
            attempt()
    assert ledger.champion(store) == versions[1]


def test_an_entry_with_another_number_ends_the_promotion(store: FileStore, tmp_path: Path) -> None:
    """A newest entry that was replaced by an earlier one is damaged, because its own number would come next again."""
    for seed in range(2):
        ledger.promote(store, small_release(store, tmp_path, seed), "good")
    first, second = store.keys(ledger.folder(store))
    store.put(second, store.get(first))
    with pytest.raises(ReleaseError, match=r"00000002\.json is damaged: its number is 1"):
        ledger.promote(store, small_release(store, tmp_path, 2), "better")


def test_concurrent_promotions_are_all_kept(store: FileStore, tmp_path: Path) -> None:
    """Eight threads promote eight releases: eight entries, one chain, each release once."""
    versions = [small_release(store, tmp_path, seed) for seed in range(8)]
    barrier = threading.Barrier(8)

    def promote(version: str) -> None:
        barrier.wait(10)
        ledger.promote(store, version, "concurrent")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(promote, versions))
    entries = ledger.entries(store)
    assert sorted(entry.version for entry in entries) == sorted(versions)
    assert ledger.champion(store) == entries[-1].version


def test_an_entry_after_one_that_is_not_the_newest_is_refused(store: FileStore, tmp_path: Path) -> None:
    """A promotion that was decided against an earlier champion is not recorded."""
    first, second, third = (small_release(store, tmp_path, seed) for seed in range(3))
    last = ledger.promote(store, first, "first")
    ledger.promote(store, second, "came first")
    assert ledger.append(store, last, third, "better than the first") is None
    assert [entry.version for entry in ledger.entries(store)] == [first, second]


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_a_damaged_release_is_not_promoted(store: FileStore, tmp_path: Path, damage: str) -> None:
    """A promotion or a rollback to a release with a damaged file is refused before the ledger records it."""
    first, second = (small_release(store, tmp_path, seed) for seed in range(2))
    ledger.promote(store, first, "first")
    ledger.promote(store, second, "second")
    key = f"models/digits/{first}/model.keras"
    store.delete(key) if damage == "deleted" else store.put(key, b"damaged")
    for change in (lambda: ledger.promote(store, first, "again"), lambda: ledger.rollback(store)):
        with pytest.raises(ReleaseError, match=r"model\.keras"):
            change()
    assert ledger.champion(store) == second


def test_each_rollback_goes_one_champion_back(store: FileStore, tmp_path: Path) -> None:
    """The first champion has none before it."""
    versions = [small_release(store, tmp_path, seed) for seed in range(3)]
    with pytest.raises(ReleaseError, match="no earlier champion"):
        ledger.rollback(store)
    for version in versions:
        ledger.promote(store, version, "good")
    assert ledger.rollback(store).version == versions[1]
    assert ledger.previous(store) == versions[0]
    assert ledger.rollback(store).version == versions[0]
    with pytest.raises(ReleaseError, match="no earlier champion"):
        ledger.rollback(store)
    assert [entry.action for entry in ledger.entries(store)] == ["promote"] * 3 + ["rollback"] * 2
    ledger.promote(store, versions[2], "again")
    assert (ledger.champion(store), ledger.previous(store)) == (versions[2], versions[0])


def test_rollbacks_after_a_repeated_promotion_end_at_the_first_champion(store: FileStore, tmp_path: Path) -> None:
    """After A, B, A two rollbacks restore B and then the first A, and a third is refused."""
    a, b = (small_release(store, tmp_path, seed) for seed in range(2))
    for version in (a, b, a):
        ledger.promote(store, version, "good")
    assert (ledger.rollback(store).version, ledger.previous(store)) == (b, a)
    assert (ledger.rollback(store).version, ledger.previous(store)) == (a, "")
    with pytest.raises(ReleaseError, match="no earlier champion"):
        ledger.rollback(store)
    ledger.promote(store, b, "again")
    assert (ledger.rollback(store).version, ledger.previous(store)) == (a, "")


@pytest.fixture
def signed(tmp_path: Path) -> FileStore:
    """A store with a signed ledger of three champions."""
    store, _ = signed_store(tmp_path)
    for seed in range(3):
        ledger.promote(store, small_release(store, tmp_path, seed), "good")
    return store


def test_each_entry_is_signed(signed: FileStore) -> None:
    """Entries and signatures come in pairs, also after a rollback, and readers accept them."""
    ledger.rollback(signed)
    keys = signed.keys(ledger.folder(signed))
    assert sum(key.endswith(".sig") for key in keys) == len(ledger.entries(signed)) == 4


@pytest.mark.parametrize("how", ["no signature", "another entry's", "removed last", "removed all", "forged"])
def test_a_changed_signed_ledger_is_refused(how: str, signed: FileStore) -> None:
    """A ledger with a valid chain is refused if a signature, or an entry that was seen, is missing."""
    assert ledger.champion(signed)
    entries = [key for key in signed.keys(ledger.folder(signed)) if key.endswith(".json")]
    signature = next(
        key for key in signed.keys(ledger.folder(signed)) if key.startswith(entries[-1][:-5]) and "sig" in key
    )
    if how == "no signature":
        signed.delete(signature)
    elif how == "another entry's":
        signed.put(
            signature, signed.get(next(key for key in signed.keys(ledger.folder(signed)) if key.endswith(".sig")))
        )
    elif how == "removed last":
        signed.delete(entries[-1])
    elif how == "removed all":
        for key in entries:
            signed.delete(key)
    else:
        last, trust = ledger.newest(signed), signed.trust
        signed.trust = Trust()
        assert ledger.append(signed, last, ledger.entries(signed)[0].version, "forged")
        signed.trust = trust
    for known in (True, False):
        with pytest.raises(ReleaseError):
            ledger.champion(signed, known=known)


def test_what_was_seen_is_remembered_by_the_next_process(signed: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in DIGITS_HOME outlives the process, and the error names it."""
    assert ledger.champion(signed)
    monkeypatch.setattr(seen, "_memory", {})
    for key in signed.keys(ledger.folder(signed)):
        if key.split("/")[-1].startswith("00000003"):
            signed.delete(key)
    with pytest.raises(ReleaseError, match=r"lacks entry 3 .* seen before") as refused:
        ledger.champion(signed)
    assert str(signed.trust.seen) in refused.value.remedy


def test_an_entry_needs_a_trusted_signing_key(signed: FileStore, tmp_path: Path) -> None:
    """With trusted keys, no promotion, rollback or new ledger begins without one of them, and nothing is written."""
    before = signed.keys(ledger.folder(signed))
    changes = (
        lambda: ledger.promote(signed, ledger.previous(signed), "x"),
        lambda: ledger.rollback(signed),
        lambda: ledger.set_aside(signed),
    )
    for key in ("", str(new_keys(tmp_path, name="other")[0])):
        signed.trust = dataclasses.replace(signed.trust, signing_key=key)
        for change in changes:
            with pytest.raises(UsageError, match="accepts only"):
                change()
    assert signed.keys(ledger.folder(signed)) == before


def test_earlier_entries_stay_valid_after_their_key_is_withdrawn(signed: FileStore, tmp_path: Path) -> None:
    """The newest entry needs a trusted key; the chain covers the earlier ones."""
    private, public = new_keys(tmp_path, name="new")
    signed.trust = dataclasses.replace(signed.trust, keys=str(public), signing_key=str(private))
    with pytest.raises(ReleaseError, match="is signed by key"):
        ledger.champion(signed)
    trust, signed.trust = signed.trust, dataclasses.replace(signed.trust, keys="")
    ledger.sign_newest(signed)
    signed.trust = trust
    assert len(ledger.entries(signed)) == 3
