"""Defenses that are fitted to data: in which place, on which images, how often, and what goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

from advbench.store import Store
from advbench.store.inventory import read_contents

PLUGINS = Path(__file__).parents[1]
Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with one line a fit."""
    path = tmp_path / "fits.log"
    path.touch()
    monkeypatch.setenv("FIT_LOG", str(path))
    return path


@pytest.fixture
def fitting(toy: Toy, log: Path) -> Toy:
    """Runs a matrix on 20 of the toy's 40 images, with defenses that are fitted to the other 20."""

    def run(*flags: object, **axes: Any) -> tuple[Called, dict[str, Any]]:
        plugins = ("--plugin", PLUGINS / "detecting_plugin.py", "--plugin", PLUGINS / "fitting_plugin.py")
        samples = () if "--limit" in flags else ("--limit", 20)
        fits = ("--fit-samples", 20)
        return toy(*plugins, *samples, *fits, *flags, **{"defenses": ["centred"], **axes})

    return run


def fits(log: Path) -> list[str]:
    """The fits of runs, without those that only observe a component on some images, or time it."""
    return [line for line in log.read_text().splitlines() if line.split()[1] == "20"]


def artefacts(tmp_path: Path) -> int:
    return sum(file.kind == "artefacts" for file in read_contents(Store(tmp_path / "store")).inventory.files())


THREATS = ("--threats", "oblivious", "adaptive")


@pytest.mark.usefixtures("quick_workers")
def test_a_defense_is_fitted_once_and_all_cells_use_the_artefact(fitting: Toy, log: Path, tmp_path: Path) -> None:
    attacks = ["toy-sign", "universal"]
    called, results = fitting(*THREATS, "--batch-size", 7, attacks=attacks)
    assert called.code == 0, called.err
    assert fits(log).count(fits(log)[0]) == sum(line.startswith("centred") for line in fits(log)) == 1
    assert artefacts(tmp_path) == 3  # the defense, and the attack on the model without and behind the defense
    assert results["run"]["fit_samples"] == 20
    again, _ = fitting(*THREATS, "--jobs", 2, attacks=attacks)
    assert "4 in the store, 0 to do" in again.err
    measured = [cell["robust_accuracy"] for cell in results["cells"]]
    _, others = fitting(*THREATS, attacks=attacks, store="other")
    assert measured == [cell["robust_accuracy"] for cell in others["cells"]], "the batch size changes nothing"


def test_each_place_in_a_chain_has_its_own_fit(fitting: Toy, log: Path, tmp_path: Path) -> None:
    defenses = ["centred", "toy-dim+centred", "centred+centred:strength=0.1+toy-noise"]
    called, results = fitting(*THREATS, defenses=defenses)
    assert called.code == 0, called.err
    assert [cell["status"] for cell in results["cells"]] == ["ok"] * 6
    assert len(fits(log)) == artefacts(tmp_path) == 4


def test_what_has_gone_from_the_store_is_fitted_again(fitting: Toy, log: Path, tmp_path: Path) -> None:
    _, before = fitting(*THREATS)
    for kind in ("cells", "artefacts"):
        shutil.rmtree(tmp_path / "store" / kind)
    called, after = fitting(*THREATS)
    assert called.code == 0, called.err
    assert len(fits(log)) == 2
    assert [cell["robust_accuracy"] for cell in after["cells"]] == [cell["robust_accuracy"] for cell in before["cells"]]


def test_results_without_the_defense_keep_their_keys(fitting: Toy, toy: Toy, tmp_path: Path) -> None:
    def cells() -> set[str]:
        return {path.name for path in (tmp_path / "store" / "cells").rglob("*.json")}

    toy("--limit", 20, defenses=["toy-keep"])
    before = cells()
    fitting(defenses=["toy-keep", "centred"])
    assert before < cells()
    fitting("--fit-samples", 10, defenses=["toy-keep", "centred"])
    assert len(cells()) == 3, "the fit split is in the key of the fitted defense's cell alone"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--limit", 40),
            "defense 'centred' is fitted to images that the run does not evaluate, and all 40 samples of toy are in "
            "the run; give --limit 20, or other images with --fit-data SPEC",
        ),
        (
            ("--fit-data", "other-toy:same=40"),
            "defense 'centred' is fitted to images that the run does not evaluate, and",
        ),
    ],
)
def test_images_that_cannot_be_used_are_usage_errors_that_name_the_defense(
    fitting: Toy, log: Path, flags: tuple[object, ...], message: str
) -> None:
    called, _ = fitting(*flags)
    assert called.code == 2
    assert message in " ".join(called.err.split())
    assert not fits(log)


def test_a_changed_artefact_is_an_error_that_names_the_defense(fitting: Toy) -> None:
    called, results = fitting(defenses=["centred:how=in-place", "toy-keep"])
    assert called.code == 1
    errors = [cell["error"] for cell in results["cells"]]
    assert "defense 'centred' changed 'mean' of what it has fitted in place" in errors[0]
    assert errors[1] is None


def test_certificates_use_what_is_fitted(fitting: Toy, log: Path) -> None:
    called, results = fitting("--certify", "--radii", 0.000001, defenses=["certified-centred"])
    assert called.code == 0, called.err
    (certified,) = results["certificates"]
    assert certified["status"] == "ok"
    assert 1e-6 < certified["median_radius"] < 1e-4
    assert len(fits(log)) == 1


def test_a_forecast_includes_the_fit(fitting: Toy) -> None:
    called, _ = fitting("--dry-run", *THREATS)
    assert called.code == 0, called.err
    assert "will take" in called.err
