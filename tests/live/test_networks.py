"""Live networks and functions of every kind give the same results as the plain network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TOY
from torch import nn

import advbench

pytestmark = pytest.mark.slow

IMAGES = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3)).eval()


def normalised() -> nn.Module:
    network = nn.Sequential(plain(), nn.utils.weight_norm(nn.Linear(3, 3)))
    network(IMAGES)  # weight_norm then holds a computed tensor
    return network


class Mapped(nn.Module):
    """Returns a mapping, like a Hugging Face classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.network = plain()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.network(images)}


def returning_a_tuple(network: nn.Module) -> Callable[[torch.Tensor], Any]:
    return lambda images: (network(images), None)


FORMS: dict[str, Callable[[], Any]] = {
    "float64": lambda: plain().double(),
    "script": lambda: torch.jit.script(plain()),
    "trace": lambda: torch.jit.trace(plain(), IMAGES),
    "compiled": lambda: torch.compile(plain(), backend="eager"),
    "mapping": Mapped,
    "lambda": lambda: returning_a_tuple(plain()),
}


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    labels = plain()(IMAGES).argmax(1)
    labels[0], labels[1] = (labels[0] + 1) % 3, 2

    def run(network: Any) -> list[dict[str, Any]]:
        axes: dict[str, Any] = {"datasets": (IMAGES, labels), "attacks": "toy-sign", "defenses": "toy-keep"}
        results = advbench.matrix(models={"own": network}, **axes, plugin=[TOY], store=tmp_path / "store", quiet=True)
        rows: list[dict[str, Any]] = results.rows()
        return rows

    return run


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_network_gives_the_same_results(
    outcome: Callable[[Any], list[dict[str, Any]]], form: str
) -> None:
    (actual,), (expected,) = outcome(FORMS[form]()), outcome(plain())
    assert actual["status"] == "ok", actual["error"]
    assert (actual["clean_accuracy"], actual["robust_accuracy"]) == (
        expected["clean_accuracy"],
        expected["robust_accuracy"],
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_a_network_that_holds_computed_tensors_is_copied(outcome: Callable[[Any], list[dict[str, Any]]]) -> None:
    (row,) = outcome(normalised())
    assert row["status"] == "ok", row["error"]


def test_arrays_are_not_accepted_as_logits(outcome: Callable[[Any], list[dict[str, Any]]]) -> None:
    network = plain()
    (row,) = outcome(lambda images: network(images).detach().numpy())
    assert "model 'own' returned ndarray, not a tensor of logits" in row["error"]


def test_a_network_as_a_defense_is_evaluated_in_eval_mode_and_left_as_it_is(evaluate: Any) -> None:
    class Dims(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.drop(self.norm(images)).clamp(0, 1)

    network = Dims()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    results = evaluate(defenses={"keep": "toy-keep", "network": network})
    cells = {cell["short"]["defense"]: cell for cell in results.data["cells"]}
    assert cells["network"]["clean_accuracy"] == cells["keep"]["clean_accuracy"]
    assert not cells["network"]["findings"]
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
