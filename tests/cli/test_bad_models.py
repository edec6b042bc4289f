"""Everything that a bad network can do: its cell is ``ERR``, with a message that names it and what it broke."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCE = """
from dataclasses import dataclass
import torch
from advbench.api import Model, hookimpl

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(784, 10, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
    def forward(self, images):
        logits = images.flatten(1) @ self.weights
        BODY
        return logits

@dataclass(frozen=True)
class Bad(Model):
    '''Breaks its contract.'''
    name = "bad-model"
    image_shape = (1, 28, 28)
    num_classes = 10
    def load(self): return Network()
    def weights_digest(self): return "none"

@hookimpl
def register_models(register):
    register(Bad)
"""

CASES = {
    "NaN": ("logits = logits / 0 * 0", "fgsm", "model 'bad-model' returned logits that are not finite"),
    "probabilities": ("logits = logits.softmax(dim=1)", "fgsm", "model 'bad-model' returned probabilities"),
    "too few classes": (
        "logits = logits[:, :9]",
        "fgsm",
        "model 'bad-model' returned shape (20, 9); expected (20, 10)",
    ),
    "whole numbers": ("logits = logits.long()", "fgsm", "model 'bad-model' returned torch.int64; logits are floating"),
    "a counter": (
        "self.count += 1",
        "noise",
        "the model's own forward changed the model's buffer 'count'",
    ),
    "features and logits": (
        "logits = (logits, logits.flip(1))",
        "fgsm",
        "model 'bad-model' returned a tuple with tensors of shapes (8, 10) and (8, 10), and either may be",
    ),
    "logits and more features": (
        "logits = (logits, images.flatten(1))",
        "fgsm",
        "model 'bad-model' returned a tuple with tensors of shapes (8, 10) and (8, 784), and either may be",
    ),
    "raises": ("raise KeyError('lost')", "fgsm", "KeyError: 'lost' (raised by model 'bad-model', "),
    "no gradient": (
        "logits = logits.detach()",
        "fgsm",
        "model 'bad-model' has no gradient at its images, which attack 'fgsm' needs",
    ),
}
"""What its forward pass does, an attack, and the message."""


@pytest.mark.parametrize("case", CASES)
def test_a_network_that_breaks_its_contract_is_named(call: Callable[..., Any], tmp_path: Path, case: str) -> None:
    body, attack, message = CASES[case]
    file, target = tmp_path / "bad_model.py", tmp_path / "results.json"
    file.write_text(SOURCE.replace("BODY", body))
    axes = ("--datasets", "mnist-20", "--models", "bad-model", "--attacks", attack, "--defenses", "none")
    called = call("matrix", *axes, "--plugin", file, "--store", tmp_path / "store", "--export", target)
    assert called.code == 1
    (cell,) = json.loads(target.read_text())["cells"]
    assert cell["status"] == "error"
    assert message in cell["error"]
