from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from advbench.api import UsageError, WeightsError, load_checkpoint, load_weights, save_checkpoint, save_weights


def on_a_full_disk(statement: str, path: Path) -> str:
    """Runs a statement about ``path`` while no file can grow beyond 2,000 bytes; returns the error message.

    The limit is set with setrlimit and causes the same error as a full disk or a quota. It applies to a whole process,
    so the statement runs in a process of its own.
    """
    program = (
        "import resource, sys, torch\nfrom pathlib import Path\n"
        "from advbench.api import UsageError, save_checkpoint, save_weights\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n"
        f"path = Path(sys.argv[1])\ntry:\n    {statement}\nexcept UsageError as error:\n    print(error)\n"
    )
    called = subprocess.run(
        [sys.executable, "-B", "-c", program, str(path)], check=True, capture_output=True, text=True
    )
    return called.stdout


def test_eight_bit_weights_take_a_quarter_of_the_size_and_are_close(tmp_path: Path) -> None:
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
    # Saving the loaded weights again must not change them any further.
    save_weights(tmp_path / "again.safetensors", loaded, {}, eight_bit=["kernel"])
    assert torch.equal(load_weights(tmp_path / "again.safetensors", "")["kernel"], loaded["kernel"])


@pytest.mark.slow
def test_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "net.checkpoint"
    save_checkpoint(path, {"weight": torch.arange(9.0)}, {"recipe": {"epochs": 2}, "step": 5})
    error = on_a_full_disk('save_checkpoint(path, {"weight": torch.zeros(5000)}, {"recipe": {}, "step": 6})', path)
    assert f"checkpoint {path} cannot be written (" in error
    assert "the previous one is intact; fix that and repeat the command" in error
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.checkpoint"]
    kept = load_checkpoint(path, {"epochs": 2})
    assert kept is not None
    assert torch.equal(kept[0]["weight"], torch.arange(9.0))
    assert kept[1]["step"] == 5


@pytest.mark.slow
def test_full_disk_leaves_no_partial_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert f"weights {path} cannot be written" in on_a_full_disk(
        "save_weights(path, {'w': torch.zeros(5000)}, {})", path
    )
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_an_unreadable_checkpoint_says_what_to_remove(tmp_path: Path) -> None:
    path = tmp_path / "net.checkpoint"
    path.write_bytes(b"\0" * 50)
    with pytest.raises(
        UsageError, match=f"is not readable .*; remove {re.escape(str(path))} to train from the beginning"
    ):
        load_checkpoint(path, {})


def test_truncated_weights_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"weight": torch.zeros(50)}, {})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="truncated or altered; train it"):
        load_weights(path, "train it")
