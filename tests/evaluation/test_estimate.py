"""The forecast takes a small part of what it forecasts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.conftest import Called

from advbench.evaluation.environment import Workspace

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.mark.parametrize(
    ("seconds", "flags", "batches"),
    [(0.0, (), [1, 40, 40, 40]), (0.15, (), [1, 40]), (0.0, ("--limit", 7), [1, 7, 7, 7])],
    ids=["quick", "slow", "few samples"],
)
def test_a_network_is_tried_on_one_batch_and_a_slow_one_once(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, seconds: float, flags: tuple[Any, ...], batches: list[int]
) -> None:
    asked: list[int] = []
    load = Workspace.network

    def network(self: Workspace, spec: str) -> torch.nn.Module:
        found = load(self, spec)
        answer = type(found).forward

        def slow(images: torch.Tensor) -> torch.Tensor:
            asked.append(len(images))
            time.sleep(seconds)
            return answer(found, images)  # type: ignore[no-any-return]

        found.forward = slow
        return found

    monkeypatch.setattr(Workspace, "network", network)
    monkeypatch.setattr("advbench.cli.matrix_run.run_todo", lambda *_, **__: None)
    toy(*flags)
    assert asked == batches
