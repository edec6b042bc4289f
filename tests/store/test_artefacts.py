"""Artefacts in the store: read back exactly, damage found, and listed, verified and removed like other entries."""

from __future__ import annotations

from pathlib import Path

import torch

from advbench.store import Store, digest_of
from advbench.store.inventory import check, read_contents, scan

KEY_INPUTS = {"kind": "artefacts", "attack": {"name": "toy"}}
KEY = digest_of(KEY_INPUTS)


def written(root: Path) -> Store:
    store = Store(root)
    tensors = {"patch": torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0)), "places": torch.arange(4)}
    store.write_artefact(KEY_INPUTS, tensors, {"seconds": 1.5, "values": {"area": 0.1, "shape": "disc"}})
    return store


def test_an_artefact_is_read_back_exactly(tmp_path: Path) -> None:
    tensors, record = written(tmp_path).read_artefact(KEY) or ({}, {})
    assert torch.equal(tensors["patch"], torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(tensors["places"], torch.arange(4))
    assert record == {"seconds": 1.5, "values": {"area": 0.1, "shape": "disc"}}
    assert Store(tmp_path).read_artefact(digest_of("another")) is None


def test_a_damaged_artefact_counts_as_missing_and_is_found(tmp_path: Path) -> None:
    store = written(tmp_path)
    (file,) = scan(store).entries["artefacts", KEY]
    assert check(store, file) == "whole"
    content = bytearray(file.path.read_bytes())
    content[-3] ^= 1
    file.path.write_bytes(content)
    assert check(store, file) == "damaged"
    assert store.read_artefact(KEY) is None


def test_an_artefact_belongs_to_the_runs_that_list_it(tmp_path: Path) -> None:
    store = written(tmp_path)
    assert [file.kind for file in read_contents(store).unreferenced()] == ["artefacts"]
    manifest = {"run": "0123456789ab", "cells": [], "entries": {"artefacts": [KEY]}}
    store.write_manifest("0123456789ab", manifest)
    contents = read_contents(store)
    assert contents.unreferenced() == []
    assert ("artefacts", KEY) in contents.runs[0].references
