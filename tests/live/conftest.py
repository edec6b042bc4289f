"""What the tests of live objects share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import advbench

TOY = Path(__file__).parents[1] / "toy_plugin.py"


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., advbench.Results]:
    """Evaluates the toys, but for what is given; no built-in plugin is loaded."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    toys = {"datasets": "toy", "models": "toy-linear", "attacks": "toy-sign", "defenses": ["toy-keep", "toy-dim"]}
    where = {"plugin": [TOY], "store": tmp_path / "store", "quiet": True}
    return lambda **given: advbench.matrix(**{**toys, **where, **given})
