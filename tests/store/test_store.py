"""The store returns what was written, or nothing; never anything else."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from advbench.errors import StoreError
from advbench.store import Store, canonical_json, digest_of

KEY_INPUTS = {"kind": "cell", "eps": 0.3}
RECORD = {"status": "ok", "bits": [1, 0, 1]}
TENSORS = {"images": torch.rand(3, 1, 4, 4), "labels": torch.arange(3)}
KEY = digest_of(KEY_INPUTS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.write_record("cells", KEY_INPUTS, RECORD)
    store.write_tensors(KEY_INPUTS, TENSORS, {"seconds": 1.5})
    return store


def entry(store: Store, suffix: str) -> Path:
    (path,) = store.root.rglob(f"{KEY}{suffix}")
    return path


def test_written_entries_are_read_back(store: Store) -> None:
    assert store.read_record("cells", KEY) == RECORD
    stored = store.read_tensors(KEY)
    assert stored is not None
    assert stored[1] == {"seconds": 1.5}
    assert all(torch.equal(stored[0][name], tensor) for name, tensor in TENSORS.items())


def test_tensors_with_the_channels_last_in_memory_can_be_written(store: Store) -> None:
    images = torch.rand(2, 5, 4, 3).permute(0, 3, 1, 2)
    store.write_tensors({"kind": "other"}, {"images": images}, {})
    stored = store.read_tensors(digest_of({"kind": "other"}))
    assert stored is not None
    assert torch.equal(stored[0]["images"], images)


def test_a_missing_entry_causes_no_warning(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    assert store.read_record("cells", "0" * 64) is None
    assert store.read_tensors("0" * 64) is None
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped early", "flipped late", "foreign"])
def test_a_damaged_entry_is_a_miss_with_a_warning(
    store: Store, suffix: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = entry(store, suffix)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-7]
    elif damage == "empty":
        content = bytearray()
    elif damage == "foreign":
        content = bytearray(b'{"record": {"status": "ok"}}')
    else:
        content[len(content) // 3 if damage == "flipped early" else -9] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert (store.read_record("cells", KEY) if suffix == ".json" else store.read_tensors(KEY)) is None
    assert str(path) in caplog.text


def test_the_checksum_covers_every_byte_of_an_entry(store: Store) -> None:
    path = entry(store, ".safetensors")
    content = path.read_bytes()
    for offset in range(0, len(content), 5):
        changed = bytearray(content)
        changed[offset] ^= 4
        path.write_bytes(changed)
        stored = store.read_tensors(KEY)
        if stored is not None:
            assert torch.equal(stored[0]["images"], TENSORS["images"])
            assert torch.equal(stored[0]["labels"], TENSORS["labels"])


def test_values_that_look_like_the_structure_of_an_entry_are_read_back(store: Store) -> None:
    tricky = {"name": '","record":{"a":1},"sha256":"', "nested": {"before": 1, "record": {"sha256": "0" * 64}}}
    store.write_record("cells", tricky, {"status": "ok", "value": tricky})
    assert store.read_record("cells", digest_of(tricky)) == {"status": "ok", "value": tricky}


@pytest.mark.parametrize("after", [b"", b" ", b"0", b'{"status":"ok"}'])
def test_a_record_with_trailing_content_is_a_miss(store: Store, after: bytes) -> None:
    path = entry(store, ".json")
    text = b'{"status":"error"}' + after
    written = json.dumps({"sha256": hashlib.sha256(text).hexdigest()}, separators=(",", ":")).encode()
    key_inputs = path.read_bytes().split(b',"record":')[0]
    path.write_bytes(key_inputs + b',"record":' + text + b"," + written[1:])
    assert store.read_record("cells", KEY) == (None if after else {"status": "error"})


@pytest.mark.parametrize("content", [b"", b"{", b'{"material":{},"record":{},"sha256":""}', b"[" * 5000])
def test_content_that_is_not_an_entry_is_a_miss(store: Store, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    entry(store, ".json").write_bytes(content)
    assert store.read_record("cells", KEY) is None
    assert "is damaged and is not used" in caplog.text


def test_an_entry_under_the_name_of_another_is_a_miss(store: Store) -> None:
    other = digest_of({"kind": "cell", "eps": 0.1})
    for suffix in (".json", ".safetensors"):
        path = entry(store, suffix)
        moved = path.parent.parent / other[:2] / f"{other}{suffix}"
        moved.parent.mkdir(exist_ok=True)
        moved.write_bytes(path.read_bytes())
    assert store.read_record("cells", other) is None
    assert store.read_tensors(other) is None


def test_a_failed_write_keeps_the_old_entry_and_leaves_no_temporary_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StoreError, match="No space left on device"):
        store.write_record("cells", KEY_INPUTS, {"status": "changed"})
    assert store.read_record("cells", KEY) == RECORD
    assert not list(store.root.rglob("*.tmp"))


def test_an_unwritable_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="--store DIR"):
        Store(tmp_path / "file" / "store").check_writable()


def test_runs_are_listed_from_the_last_written(store: Store) -> None:
    first, second = "a" * 12, "b" * 12
    for run in (first, second, first):
        store.write_manifest(run, {"run": run, "cells": []})
    (store.root / "runs" / "notes.json").write_text("{}")
    assert list(store.runs()) == [first, second]
    assert store.read_manifest(second) == {"run": second, "cells": []}


@pytest.mark.parametrize("damage", ["edited", "another's", "no object", "truncated"])
def test_a_damaged_manifest_is_a_miss(store: Store, damage: str) -> None:
    run, other = "a" * 12, "b" * 12
    store.write_manifest(run, {"run": run, "cells": [{"attack": "fgsm:eps=0.1"}]})
    store.write_manifest(other, {"run": other, "cells": []})
    path = store.root / "runs" / f"{run}.json"
    text = path.read_text()
    damaged = {
        "edited": text.replace("0.1", "0.4"),
        "another's": (store.root / "runs" / f"{other}.json").read_text(),
        "no object": json.dumps([1]),
        "truncated": text[:40],
    }
    path.write_text(damaged[damage])
    assert store.read_manifest(run) is None


def test_canonical_json_sorts_keys_and_rejects_nan() -> None:
    assert canonical_json({"b": 1, "a": [1.0, None]}) == b'{"a":[1.0,null],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


def test_manifests_that_vanish_while_they_are_listed_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, runs = Store(tmp_path), ["a" * 12, "b" * 12, "c" * 12]
    for run in runs:
        store.write_manifest(run, {"run": run, "cells": []})
    scandir = os.scandir

    @contextmanager
    def vanishing(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            listed = list(entries)
        (tmp_path / "runs" / f"{runs[1]}.json").unlink()
        yield iter(listed)

    monkeypatch.setattr("advbench.store.store.os.scandir", vanishing)
    assert sorted(store.runs()) == [runs[0], runs[2]]
