"""Stores with a few small entries, for the tests of the inventory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from advbench.store import Store, digest_of
from advbench.store.inventory import File, scan

FIRST, SECOND = "a" * 12, "b" * 12
IMAGES = {"images": torch.rand(4, 1, 2, 2)}
OLD = 7200.0
NO_WRITER = "0" * 15
"""The id of a writer that does not exist."""


def attack(eps: float) -> dict[str, Any]:
    """Key inputs of adversarial images."""
    return {"kind": "adversarial", "eps": eps}


def clean(quality: int) -> dict[str, Any]:
    """Key inputs of clean predictions."""
    return {"kind": "clean", "quality": quality}


def cell(eps: float, quality: int) -> dict[str, Any]:
    """Key inputs of a cell."""
    return {"kind": "cell", "adversarial": [digest_of(attack(eps))], "clean": digest_of(clean(quality))}


def write(store: Store, run: str, cells: list[tuple[float, int]], **more: Any) -> None:
    """Writes a run with all its entries. Without ``entries``, its manifest is one of an earlier version."""
    for eps, quality in cells:
        store.write_tensors(attack(eps), IMAGES, {"eps": eps})
        store.write_record("clean", clean(quality), {"correct": [1] * 100})
        store.write_record("cells", cell(eps, quality), {"status": "ok"})
    described = [{"key": digest_of(cell(eps, quality))} for eps, quality in cells]
    store.write_manifest(run, {"run": run, "cells": [*described, {"key": ""}], "doubled": {}, **more})


def age(path: Path, seconds: float = OLD) -> Path:
    """Sets the time of a file back."""
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def names(files: list[File]) -> set[str]:
    """The names of files, without their folders."""
    return {file.path.name for file in files}


def two_runs(folder: Path) -> Store:
    """A store with two runs that share an attack and a defense."""
    store = Store(folder / "store")
    write(store, FIRST, [(0.1, 50), (0.2, 50)])
    age(store.root / "runs" / f"{FIRST}.json")
    write(store, SECOND, [(0.1, 50), (0.1, 75)])
    return store


def part_of(store: Store, eps: float, part: tuple[int, int]) -> Path:
    """Writes a part of a chunk."""
    store.write_tensors(attack(eps), IMAGES, {}, part)
    key = digest_of(attack(eps))
    return store.root / "adversarial" / key[:2] / f"{key}.{part[0]}-{part[1]}.safetensors"


def entry(store: Store, kind: str) -> File:
    """A file of an entry of a kind."""
    return next(file for file in scan(store).files() if file.kind == kind)


def lose_plugin_files(root: Path) -> None:
    """Changes the manifest of the latest run, as if its plugin files had been moved."""
    store = Store(root)
    run = next(iter(store.runs()))
    manifest = store.read_manifest(run)
    assert manifest is not None
    for plugin in manifest["plugins"]:
        plugin["name"] = "/no/longer/here.py"
    store.write_manifest(run, manifest)
