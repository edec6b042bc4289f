"""What attacks on the same images share is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.conftest import Called

from advbench.api import Float32Network
from advbench.store import Store

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]

N = 40


@pytest.fixture
def images_asked(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a toy matrix in a store of its own; how many images the network is given in all."""
    count = 0
    answer = Float32Network.forward

    def counting(self: Float32Network, images: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += len(images)
        return answer(self, images)

    monkeypatch.setattr(Float32Network, "forward", counting)
    stores = iter("abcdef")

    def run(**flags: Any) -> int:
        nonlocal count
        count = 0
        called, _ = toy(**flags, store=next(stores))
        assert called.code == 0
        return count

    return run


def test_each_attack_more_costs_its_own_images_alone(images_asked: Callable[..., int]) -> None:
    one = images_asked(attacks=["toy-sign"], defenses=["toy-keep"])
    two = images_asked(attacks=["toy-sign:eps={0.1,0.2}"], defenses=["toy-keep"])
    three = images_asked(attacks=["toy-sign:eps={0.1,0.2,0.3}"], defenses=["toy-keep"])
    # The attack's one pass; its images and these rounded, by the attacked classifier; its images, for the cell.
    assert two - one == three - two == N * (1 + 2 + 1)


def test_each_defense_more_costs_its_own_predictions_alone(images_asked: Callable[..., int]) -> None:
    attacks = ["toy-sign:eps={0.1,0.2}"]
    one, two, four = (
        images_asked(attacks=attacks, defenses=["toy-keep", *[f"toy-dim:factor=0.{i}" for i in range(1, number)]])
        for number in (1, 2, 4)
    )
    assert four - two == 2 * (two - one)
    probes = 16 * (1 + 4 + 4 + 1)
    assert two - one == N * (1 + 2) + probes


def test_a_stored_cell_is_read_once(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"attacks": ["toy-sign", "toy-minimal"], "defenses": ["toy-keep", "toy-dim", "toy-noise"]}
    toy(**flags)
    read: list[tuple[str, str]] = []
    original = Store.read_record

    def noting(self: Store, kind: str, key: str, **named: Any) -> Any:
        read.append((kind, key))
        return original(self, kind, key, **named)

    monkeypatch.setattr(Store, "read_record", noting)
    monkeypatch.setattr(Store, "read_tensors", lambda *_: pytest.fail("images were read for cells that are done"))
    called, _ = toy(**flags)
    assert called.code == 0
    assert len(read) == len(set(read)) == 6
    assert {kind for kind, _ in read} == {"cells"}
