"""Example images are those of the samples that they name, and of all classes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advbench.api import SampleRandom
from advbench.cli.main import main
from advbench.discovery.loading import discover
from advbench.evaluation.work.examples import undefended
from advbench.evaluation.work.examples.example_images import ExampleImages
from advbench.evaluation.work.examples.undefended import class_round_robin
from advbench.evaluation.work.workspace import Environment, Workspace
from advbench.session.opening import CORE
from advbench.store import Store

MATRIX = (
    "matrix", "--datasets", "mnist-5k", "--limit", "600", "--models", "mnist-cnn", "--attacks", "fgsm:eps=0.1",
    "--defenses", "none", "-q",
)  # fmt: skip


def stored_run(folder: Path, count: int) -> tuple[dict[str, Any], ExampleImages]:
    """The manifest of the run in a store, and its example images."""
    logging.getLogger("advbench").handlers.clear()
    store = Store(folder)
    manifest = store.read_manifest(next(store.runs()))
    assert manifest is not None
    environment = Environment(store=folder, cache_dir=folder, data_dir=None, device="cpu", batch_size=250, core=CORE)
    return manifest, ExampleImages(Workspace(environment, discover(CORE)), manifest, count)


def test_positions_come_one_of_each_class_and_then_another_of_each() -> None:
    assert class_round_robin([3, 3, 0, 3, 1, 0]) == [2, 4, 0, 5, 1, 3]
    assert class_round_robin([]) == []


def test_images_of_several_chunks_are_those_of_their_samples(tmp_path: Path) -> None:
    assert main([*MATRIX, "--store", str(tmp_path)]) == 0
    manifest, examples_of = stored_run(tmp_path, 560)
    examples = examples_of.of(manifest["cells"][0])
    assert len(examples.ids) == 560
    ((dataset, ids),) = manifest["samples"].items()
    positions = [ids.index(sample) for sample in examples.ids]
    assert max(positions) >= 500, f"samples of the second chunk of {dataset} are among them"
    moved = np.abs(examples.adversarial.images - examples.clean.images)
    assert np.allclose(moved.max(axis=(1, 2, 3)), 0.1, atol=1e-6)
    assert (examples.clean.predictions == examples.labels).all()
    assert set(examples.labels[:10]) == set(range(10))


def test_images_that_several_cells_show_are_predicted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [word for word in MATRIX if word != "none"]
    both.insert(both.index("--defenses") + 1, "gaussian")
    both.insert(both.index("--defenses") + 1, "none")
    assert main([*both, "--store", str(tmp_path)]) == 0
    manifest, examples = stored_run(tmp_path, 4)
    asked = []
    ask = undefended.ask_network

    def counting(network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        asked.append(images.clone())
        return ask(network, images, rng)

    monkeypatch.setattr(undefended, "ask_network", counting)
    for cell in manifest["cells"]:
        examples.of(cell)
    assert len(manifest["cells"]) == 2
    distinct = {images.numpy().tobytes() for images in asked}
    assert len(asked) == len(distinct)
