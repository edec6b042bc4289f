"""Batches of large images are as large as the memory allows, as a message says before the run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import Called

from advbench.evaluation.work.memory import batches
from advbench.evaluation.work.memory.graphs import graph_bytes
from advbench.process.memory import available_memory

pytestmark = pytest.mark.slow

NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(),
            torch.nn.Linear(128, 5),
        )

    def forward(self, images):
        if len(images) > 8:  # those of the probe
            raise RuntimeError(f"{len(images)} images at once")
        return self.body(images)
"""


@pytest.fixture
def axes(tmp_path: Path) -> tuple[str, ...]:
    images = np.random.default_rng(0).integers(0, 256, (20, 120, 120, 3), dtype=np.uint8)
    np.savez(tmp_path / "large.npz", images=images, labels=np.arange(20) % 5)
    (tmp_path / "net.py").write_text(NETWORK)
    return (
        *(
            "--datasets",
            f"npz:path={tmp_path / 'large.npz'}",
            "--models",
            f"torch-module:build={tmp_path / 'net.py'}:Net",
        ),
        *("--attacks", "pgd:eps=0.1,steps=2", "--defenses", "none", "gaussian", "--store", str(tmp_path / "store")),
    )


def test_batches_of_large_images_fit_into_memory(
    call: Callable[..., Called], axes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "available_memory", lambda _device: 20 * 2**20)
    called = call("matrix", *axes)
    assert called.code == 0, called.err
    note = re.search(
        r"needs about (\S+) GiB of memory for an image: batches have (\d) images instead of 250", called.err
    )
    assert note is not None
    assert 1 < int(note[2]) <= 8
    assert "robust" in called.err


def test_small_images_are_not_measured(call: Callable[..., Called], tmp_path: Path) -> None:
    called = call("matrix", "--datasets", "mnist-20", "--limit", 3, "--attacks", "fgsm", "--store", tmp_path)
    assert called.code == 0
    assert "GiB of memory" not in called.err


def test_what_autograd_keeps_is_counted_without_weights() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1000, bias=False), torch.nn.Sigmoid())
    images = torch.rand(4, 3, 2, 2, requires_grad=True)
    logits, size = graph_bytes(network, network, images)
    assert torch.equal(logits, network(images))
    assert 4 * 1000 <= size < 4 * (1000 + 12) + 1, "the outputs of the sigmoid, and perhaps the inputs"


def test_available_memory_is_within_that_of_the_machine() -> None:
    available = available_memory(torch.device("cpu"))
    assert available is None or 2**20 < available < 2**50


def test_a_dataset_whose_shape_cannot_be_read_is_left_to_its_task() -> None:
    class Broken:
        batch_memory: dict[tuple[str, str, str], batches.BatchMemory] = {}  # noqa: RUF012
        device = torch.device("cpu")

        def dataset(self, spec: str) -> None:
            raise RuntimeError(f"{spec} is broken")

    found = batches.batch_memory(Broken(), "net", "data", "float32")  # type: ignore[arg-type]
    assert found == batches.BatchMemory()
