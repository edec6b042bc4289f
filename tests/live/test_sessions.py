"""One session, several calls: what changed in between is read anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import advbench
from advbench.api import Defense, SampleRandom

pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[1] / "toy_plugin.py"
PLUGIN = """
from dataclasses import dataclass
from advbench.api import Defense, hookimpl
from common import FACTOR

@dataclass(frozen=True)
class Edited(Defense):
    "Dims."
    name = "edited"
    def apply(self, images, rng):
        return images * FACTOR * {}

@hookimpl
def register_defenses(register):
    register(Edited)
"""
Clean = Callable[..., float]


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clean:
    """Evaluates the toys, but for what is given, and gives the accuracy on clean images."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    monkeypatch.chdir(tmp_path)

    def evaluated(**given: Any) -> float:
        plugins = [TOY, *given.pop("plugin", [])]
        toys = {"datasets": "toy", "models": "toy-linear", "attacks": "toy-sign", "defenses": "toy-keep"}
        results = advbench.matrix(**{**toys, "plugin": plugins, "store": "store", "quiet": True, **given})
        return float(results.rows()[0]["clean_accuracy"])

    return evaluated


def test_a_plugin_and_what_lies_beside_it_are_read_anew(clean: Clean, tmp_path: Path) -> None:
    found = []
    for factor, common in (("1.0", "1.0"), ("0.0", "1.0"), ("1.0", "1.0"), ("1.0", "0.0")):
        (tmp_path / "edited.py").write_text(PLUGIN.format(factor))
        (tmp_path / "common.py").write_text(f"FACTOR = {common}\n")
        found.append(clean(defenses="edited", plugin=["edited.py"]))
    assert found[0] == found[2] == 0.9
    assert found[1] == found[3] < 0.6


def test_two_lambdas_are_two_defenses(clean: Clean) -> None:
    found = [clean(defenses={"mine": function}) for function in (lambda x: x * 1.0, lambda x: x * 0.0)]
    assert found[0] == 0.9
    assert found[1] < 0.6


def test_two_classes_of_one_name_are_two_defenses(clean: Clean) -> None:
    found = []
    for factor in (1.0, 0.0):

        @dataclass(frozen=True)
        class Mine(Defense):
            name = "mine"

            def apply(self, images: torch.Tensor, rng: SampleRandom, by: float = factor) -> torch.Tensor:
                return images * by

        found.append(clean(defenses=Mine))
    assert found[0] == 0.9
    assert found[1] < 0.6


def test_a_file_that_a_function_reads_is_seen(clean: Clean, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def dim(images: torch.Tensor) -> torch.Tensor:
        return images * float((tmp_path / "factor.txt").read_text())

    found = []
    for factor in ("1", "0", "1"):
        (tmp_path / "factor.txt").write_text(factor)
        found.append(clean(defenses=dim, quiet=False))
        said = " ".join(capsys.readouterr().err.split())
        assert ("defense 'dim' has other outputs" in said) is (factor == "0")
    assert found[0] == found[2] == 0.9
    assert found[1] < 0.6
    assert "all 1 cells come from the store" in said


def test_results_are_found_after_a_change_of_the_working_directory(
    evaluate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = evaluate(store="st")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert results.compare(defenses=("toy-keep", "toy-dim")).rows
    assert not (tmp_path / "sub" / "st").exists()
