from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from advbench.api import UsageError, WeightsError, load_checkpoint, load_weights, save_checkpoint, save_weights


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 2,000 bytes: what a full disk or a quota does to a writer, done by the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_eight_bit_weights_are_a_quarter_and_near(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(64, 32, 3, 3, generator=generator) * torch.logspace(-4, 2, 64)[:, None, None, None]
    kernel[5] = 0
    tensors = {"kernel": kernel, "bias": torch.randn(64, generator=generator), "count": torch.tensor(7)}
    path = tmp_path / "w.safetensors"
    save_weights(path, tensors, {"epochs": 3}, eight_bit=["kernel"])
    assert path.stat().st_size < kernel.numel() + 2000
    loaded = load_weights(path, "train it")
    assert loaded.keys() == tensors.keys()
    assert {name: tensor.dtype for name, tensor in loaded.items()} == {n: t.dtype for n, t in tensors.items()}
    assert torch.equal(loaded["bias"], tensors["bias"])
    assert int(loaded["count"]) == 7
    largest = kernel.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert bool(((loaded["kernel"] - kernel).abs() <= largest / 254 * 1.0001).all())
    assert json.loads(path.with_suffix(".json").read_text())["epochs"] == 3
    # What was read and is written again is the same: nothing drifts.
    save_weights(tmp_path / "again.safetensors", loaded, {}, eight_bit=["kernel"])
    assert torch.equal(load_weights(tmp_path / "again.safetensors", "")["kernel"], loaded["kernel"])


def test_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "net.checkpoint"
    save_checkpoint(path, {"weight": torch.arange(9.0)}, {"recipe": {"epochs": 2}, "step": 5})
    request.getfixturevalue("full_disk")
    with pytest.raises(
        UsageError, match=re.escape(str(path)) + r" cannot be written \(.*\); the one before it is whole"
    ):
        save_checkpoint(path, {"weight": torch.zeros(5000)}, {"recipe": {"epochs": 2}, "step": 6})
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.checkpoint"]
    kept = load_checkpoint(path, {"epochs": 2})
    assert kept is not None
    assert torch.equal(kept[0]["weight"], torch.arange(9.0))
    assert kept[1]["step"] == 5


@pytest.mark.usefixtures("full_disk")
def test_full_disk_writes_no_half_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"w\.safetensors cannot be written"):
        save_weights(tmp_path / "w.safetensors", {"weight": torch.zeros(5000)}, {})
    assert list(tmp_path.iterdir()) == []


def test_unreadable_checkpoint_says_what_to_remove(tmp_path: Path) -> None:
    path = tmp_path / "net.checkpoint"
    path.write_bytes(b"\0" * 50)
    with pytest.raises(
        UsageError, match=f"is not readable .*; remove {re.escape(str(path))} to train from the beginning"
    ):
        load_checkpoint(path, {})


def test_weights_cut_short_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"weight": torch.zeros(50)}, {})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="truncated or altered; train it"):
        load_weights(path, "train it")
