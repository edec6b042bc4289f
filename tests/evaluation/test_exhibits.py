"""Exhibits hold the images of the samples that they name, and samples of all classes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from advbench.cli.main import main
from advbench.cli.session import CORE
from advbench.discovery import discover
from advbench.evaluation import Environment, Exhibits, Workspace
from advbench.evaluation.exhibits import by_turns
from advbench.store import Store

MATRIX = (
    "matrix", "--datasets", "mnist-5k", "--limit", "600", "--models", "mnist-cnn", "--attacks", "fgsm:eps=0.1",
    "--defenses", "none", "-q",
)  # fmt: skip


def test_places_come_one_of_each_class_and_then_another_of_each() -> None:
    assert by_turns([3, 3, 0, 3, 1, 0]) == [2, 4, 0, 5, 1, 3]
    assert by_turns([]) == []


@pytest.mark.slow
def test_images_of_several_chunks_are_those_of_their_samples(tmp_path: Path) -> None:
    assert main([*MATRIX, "--store", str(tmp_path)]) == 0
    logging.getLogger("advbench").handlers.clear()
    store = Store(tmp_path)
    manifest = store.read_manifest(next(store.runs()))
    assert manifest is not None
    place = Environment(store=tmp_path, cache_dir=tmp_path, data_dir=None, device="cpu", batch_size=250, core=CORE)
    exhibit = Exhibits(Workspace(place, discover(CORE)), manifest, 560).of(manifest["cells"][0])
    assert len(exhibit.ids) == 560
    ((dataset, ids),) = manifest["samples"].items()
    places = [ids.index(sample) for sample in exhibit.ids]
    assert max(places) >= 500, f"samples of the second chunk of {dataset} are among them"
    moved = np.abs(exhibit.adversarial.images - exhibit.clean.images)
    assert np.allclose(moved.max(axis=(1, 2, 3)), 0.1, atol=1e-6)
    assert (exhibit.clean.predictions == exhibit.labels).all()
    assert set(exhibit.labels[:10]) == set(range(10))
