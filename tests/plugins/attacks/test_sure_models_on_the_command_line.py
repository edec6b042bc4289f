"""A linear model that is sure of itself, from a user's file: the board says what arithmetic says."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = pytest.mark.slow

NETWORK = """
import numpy as np, torch
w = np.random.default_rng(0).normal(size=64)
w = torch.tensor((w / abs(w).sum()).astype("float32"))

class Net(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.register_buffer("w", w * scale)
    def forward(self, x):
        z = (x.flatten(1) - .5) @ self.w
        return torch.stack([-z, z], 1)

def sure(): return Net(1e4)
def plain(): return Net(20.)
"""


@pytest.mark.parametrize("build", ["sure", "plain"])
def test_half_of_the_samples_are_broken_within_eps(build, call, tmp_path):
    weight = np.random.default_rng(0).normal(size=64)
    images = 0.5 + np.linspace(0.005, 0.195, 200)[:, None] * np.sign(weight)[None]
    np.savez(tmp_path / "x.npz", images=images.reshape(-1, 8, 8).astype("float32"), labels=np.ones(200, int))
    (tmp_path / "net.py").write_text(NETWORK)
    out = tmp_path / "out.json"
    called = call(
        *("matrix", "--datasets", f"npz:path={tmp_path / 'x.npz'},classes=2", "--defenses", "none"),
        *("--models", f"torch-module:build={tmp_path / 'net.py'}:{build}", "--threats", "oblivious", "adaptive"),
        *("--attacks", "fgsm:eps=0.1", "pgd:eps=0.1", "pgd:eps=0.1,steps=10", "autoattack:eps=0.1,steps=10,queries=50"),
        *("--store", tmp_path / "store", "--export", out),
    )
    assert called.code == 0, called.err
    assert {cell["robust_accuracy"] for cell in json.loads(out.read_text())["cells"]} == {0.5}
