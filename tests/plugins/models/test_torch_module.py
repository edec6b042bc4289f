"""A network of the user's own: from a file or a module, with weights that are never run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from advbench.discovery.loading import discover
from advbench.specs import full_spec, resolve_one

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

    def forward(self, images):
        return self.layers(images)

def unseeded():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

def no_network():
    return 3

ready = Net()
"""


class Payload:
    """A pickle of this makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    file = tmp_path / "net.py"
    file.write_text(NET)
    return file


@pytest.fixture
def matrix(call: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs FGSM on the model of a spec."""

    def run(model: str, *more: object) -> Any:
        axes = ("--datasets", "mnist-20", "--models", model, "--attacks", "fgsm", "--defenses", "none")
        return call("matrix", *axes, "--store", tmp_path / "store", *more)

    return run


def build(spec: str) -> Any:
    return resolve_one(discover(), "models", spec)


def state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "layers.1.weight": torch.randn(10, 784, generator=generator),
        "layers.1.bias": torch.zeros(10),
    }


@pytest.mark.parametrize("name", ["Net", "ready"])
def test_a_class_a_function_and_a_network_are_evaluated(matrix: Callable[..., Any], net: Path, name: str) -> None:
    called = matrix(f"torch-module:build={net}:{name}")
    assert called.code == 0, called.err
    assert f"torch-module:build={net}:{name}" in called.out


@pytest.mark.parametrize("how", ["safetensors", "state dict", "checkpoint", "data parallel"])
def test_usual_forms_of_weights_are_read(net: Path, tmp_path: Path, how: str) -> None:
    file = tmp_path / ("w.safetensors" if how == "safetensors" else "w.pt")
    weights = state(1)
    if how == "safetensors":
        save_file(weights, file)
    elif how == "checkpoint":
        torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"lr": 0.1}}, file)
    else:
        before = "module." if how == "data parallel" else ""
        torch.save({before + key: value for key, value in weights.items()}, file)
    network = build(f"torch-module:build={net}:Net,weights={file}").load()
    assert torch.equal(network.layers[1].weight, weights["layers.1.weight"])


def test_the_normalisation_precedes_the_network(net: Path) -> None:
    plain = build(f"torch-module:build={net}:Net").load()
    normalised = build(f"torch-module:build={net}:Net,mean=0.5,std=0.25").load()
    images = torch.rand(3, 1, 28, 28)
    assert torch.allclose(normalised(images), plain((images - 0.5) / 0.25), atol=1e-6)


@pytest.mark.parametrize("form", ["pickle", "old pickle", "torch.save", "whole network"])
def test_a_pickle_is_rejected_and_does_not_run(
    matrix: Callable[..., Any], net: Path, tmp_path: Path, form: str
) -> None:
    file, mark = tmp_path / "weights.pt", tmp_path / "mark"
    if form == "torch.save":
        torch.save({"state_dict": Payload(mark)}, file)
    elif form == "whole network":
        torch.save(torch.nn.Linear(2, 2), file)
    else:
        file.write_bytes(pickle.dumps(Payload(mark), protocol=0 if form == "old pickle" else 4))
    called = matrix(f"torch-module:build={net}:Net,weights={file}")
    assert called.code == 2
    assert "could run code, so they were not loaded" in called.error_line()
    assert "state_dict()" in called.error_line()
    assert not mark.exists()


@pytest.mark.slow
def test_code_and_weights_are_in_the_key(matrix: Callable[..., Any], net: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(state(1), file)
    model = f"torch-module:build={net}:Net,weights={file}"
    assert matrix(model).code == 0
    assert "1 in the store" in matrix(model, "--dry-run").err
    save_file(state(2), file)
    assert "0 in the store" in matrix(model, "--dry-run").err
    save_file(state(1), file)
    assert "1 in the store" in matrix(model, "--dry-run").err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "needs build=…"),
        (":build={net}", "must be FILE.py:NAME or package.module:NAME"),
        (":build={net}:Nat", "defines no 'Nat'"),
        (":build={net}.py:Net", "no such file"),
        (":build=no_such_module:Net", "No module named 'no_such_module'"),
        (":build={net}:no_network", "returns a int; expected a torch.nn.Module"),
        (":build={net}:unseeded", "creates different weights each time; give weights=FILE"),
        (":build={net}:Net,weights=nowhere.pt", "no such file"),
        (":build={net}:Net,mean=0.5", "give both"),
        (":build={net}:Net,mean=0.5,std=0", "must be numbers above 0"),
        (":build={net}:Net,shape=28x28", "as in 3x32x32"),
        (":build=net.pt,stochastic=true", "stochastic=true: net.pt is a program of TorchScript, which takes no rng"),
        (":build={net}:Net,gives=label", "gives=label: must be one of gradients, scores, labels"),
    ],
)
def test_unusable_input_is_a_one_line_error(matrix: Callable[..., Any], net: Path, given: str, message: str) -> None:
    called = matrix("torch-module" + given.format(net=net))
    assert called.code == 2
    assert message in called.error_line()


def test_weights_of_another_network_give_err(matrix: Callable[..., Any], net: Path, tmp_path: Path) -> None:
    save_file({"other": torch.zeros(3)}, tmp_path / "w.safetensors")
    called = matrix(f"torch-module:build={net}:Net,weights={tmp_path / 'w.safetensors'}")
    assert called.code == 1
    assert "do not fit Net: Error(s) in loading state_dict for Net: Missing key(s)" in called.err


def test_given_shapes_and_classes_are_checked(matrix: Callable[..., Any], net: Path) -> None:
    refused = matrix(f"torch-module:build={net}:Net,shape=3x32x32")
    assert refused.code == 2
    assert "takes images of (3, 32, 32), mnist-20 has (1, 28, 28)" in refused.error_line()
    refused = matrix(f"torch-module:build={net}:Net,classes=7")
    assert "knows 7 classes" in refused.error_line()


def test_its_spec_round_trips(net: Path) -> None:
    model = build(f"torch-module:build={net}:Net,mean=0.1:0.2:0.3,std=1,shape=3x8x8,classes=4")
    assert build(full_spec(model)) == model
    assert (model.image_shape, model.num_classes) == ((3, 8, 8), 4)


def test_the_memory_format_keeps_logits_and_gradients(net: Path) -> None:
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    expected = build(f"torch-module:build={net}:Net").load().eval()(images)
    logits = build(f"torch-module:build={net}:Net,memory_format=channels-last").load().eval()(images)
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-6)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert gradient.abs().max() > 0
