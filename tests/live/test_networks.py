"""Networks and functions from Python, in whatever form: the numbers are those of the plain network."""

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
    network(IMAGES)  # which leaves what weight_norm computed
    return network


class Mapped(nn.Module):
    """As classifiers of Hugging Face answer."""

    def __init__(self) -> None:
        super().__init__()
        self.network = plain()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.network(images)}


def with_nothing_beside(network: nn.Module) -> Callable[[torch.Tensor], Any]:
    return lambda images: (network(images), None)


FORMS: dict[str, Callable[[], Any]] = {
    "float64": lambda: plain().double(),
    "script": lambda: torch.jit.script(plain()),
    "trace": lambda: torch.jit.trace(plain(), IMAGES),
    "compiled": lambda: torch.compile(plain(), backend="eager"),
    "mapping": Mapped,
    "lambda": lambda: with_nothing_beside(plain()),
}


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    labels = plain()(IMAGES).argmax(1)
    labels[0], labels[1] = (labels[0] + 1) % 3, 2

    def run(network: Any) -> list[dict[str, Any]]:
        axes: dict[str, Any] = {"datasets": (IMAGES, labels), "attacks": "toy-sign", "defenses": "toy-keep"}
        made = advbench.matrix(models={"mine": network}, **axes, plugin=[TOY], store=tmp_path / "store", quiet=True)
        rows: list[dict[str, Any]] = made.rows()
        return rows

    return run


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_plain_networks_numbers(outcome: Callable[[Any], list[dict[str, Any]]], form: str) -> None:
    (ours,), (expected,) = outcome(FORMS[form]()), outcome(plain())
    assert ours["status"] == "ok", ours["error"]
    assert (ours["clean_accuracy"], ours["robust_accuracy"]) == (
        expected["clean_accuracy"],
        expected["robust_accuracy"],
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_a_network_that_keeps_what_it_computed_is_copied(outcome: Callable[[Any], list[dict[str, Any]]]) -> None:
    (row,) = outcome(normalised())
    assert row["status"] == "ok", row["error"]


def test_arrays_are_no_logits(outcome: Callable[[Any], list[dict[str, Any]]]) -> None:
    network = plain()
    (row,) = outcome(lambda images: network(images).detach().numpy())
    assert "model 'mine' returned ndarray, not a tensor of logits" in row["error"]
