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

pytestmark = pytest.mark.slow

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


@pytest.fixture
def write(call: Callable[..., Called], tmp_path: Path) -> Callable[..., tuple[Called, Path]]:
    """Writes an artefact of the latest run into a file."""

    def run(cell: str, *flags: object, name: str = "fitted.safetensors") -> tuple[Called, Path]:
        path = tmp_path / name
        return call("artefact", "latest", cell, path, "--store", tmp_path / "store", *flags), path

    return run


Write = Callable[..., tuple[Called, Path]]


def test_a_file_takes_the_place_of_a_fit(fitting: Toy, write: Write, log: Path) -> None:
    chain = "toy-dim+brightness:fpr=0.2"
    _, fitted = fitting(*THREATS, defenses=[chain])
    called, file = write(chain)
    assert called.code == 0, called.err
    assert "threshold 0." in called.err
    count = len(fits(log))
    called, read = fitting(*THREATS, "--limit", 40, defenses=[f"{chain},file={file}"])
    assert called.code == 0, called.err
    called, read = fitting(*THREATS, "--jobs", 2, defenses=[f"{chain},file={file}"], store="other")
    assert [cell["robust_accuracy"] for cell in read["cells"]] == [cell["robust_accuracy"] for cell in fitted["cells"]]
    assert [cell["rejection"] for cell in read["cells"]] == [cell["rejection"] for cell in fitted["cells"]]
    assert len(fits(log)) == count, "nothing is fitted again"
    assert "fit_samples" not in read["run"]


def test_a_part_around_one_with_a_file_is_fitted(fitting: Toy, write: Write, log: Path) -> None:
    chain = "centred:strength={}{}+centred:strength=0.1{}"
    _, fitted = fitting(defenses=[chain.format(0.5, "", "")])
    called, inner = write(chain.format(0.5, "", ""), "--of", 2)
    assert called.code == 0, called.err
    called, outer = write(chain.format(0.5, "", ""), "--of", 1, name="outer.safetensors")
    assert called.code == 0, called.err
    count = len(fits(log))
    called, read = fitting(defenses=[chain.format(0.5, "", f",file={inner}")])
    assert called.code == 0, called.err
    assert len(fits(log)) == count + 1
    called, both = fitting(defenses=[chain.format(0.5, f",file={outer}", f",file={inner}")])
    assert called.code == 0, called.err
    assert len(fits(log)) == count + 1
    assert read["cells"][0]["robust_accuracy"] == both["cells"][0]["robust_accuracy"]
    assert read["cells"][0]["robust_accuracy"] == fitted["cells"][0]["robust_accuracy"]
    assert "defense 'centred' takes its artefact from a file" in write(both["cells"][0]["defense"])[0].error_line()


def test_files_that_do_not_fit_are_one_line(fitting: Toy, write: Write, log: Path, tmp_path: Path) -> None:
    fitting("--threats", "adaptive", attacks=["universal"], defenses=["brightness", "centred+centred:strength=0.1"])
    _, file = write("brightness")
    _, centred = write("centred+centred:strength=0.1", "--of", 1, name="centred.safetensors")
    _, attack = write("universal brightness", name="attack.safetensors")
    nothing = tmp_path / "nothing.safetensors"
    nothing.write_bytes(b"nothing")
    for defense, message in (
        (f"brightness:fpr=0.1,file={file}", "was fitted with fpr=0.05, and this has fpr=0.1; leave out 'file' to fit"),
        (f"toy-dim+brightness:file={file}", "was fitted in brightness, and this is toy-dim+brightness"),
        (f"brightness:file={centred}", "was fitted by defense 'centred'"),
        (f"brightness:file={attack}", "was fitted by attack 'universal'"),
        (f"centred:file={centred}", "was fitted in centred+centred:strength=0.1, and this is centred"),
        (f"brightness:file={nothing}", "holds no artefact; give a .safetensors file that 'advbench artefact' wrote"),
        (f"brightness:file={nothing}.gone", "cannot be read: No such file or directory"),
    ):
        called, _ = fitting(defenses=[defense])
        assert called.code == 2, defense
        assert message in called.error_line()
    called, _ = fitting(defenses=[f"brightness:file={file}"], models=["toy-linear:scale=2"])
    assert "was fitted on the model toy-linear:scale=1, and this defends toy-linear:scale=2" in called.error_line()
    called, _ = fitting(attacks=[f"universal:file={file}"])
    assert "attack 'universal'" in called.error_line()
    assert "was fitted by defense 'brightness'" in called.error_line()


def test_the_artefact_of_a_cell_with_several_is_chosen(fitting: Toy, write: Write) -> None:
    chain = "centred+centred:strength=0.1"
    fitting("--threats", "adaptive", attacks=["universal", "toy-sign"], defenses=["brightness", chain])
    for cell, flags, described in (
        ("brightness", (), "threshold"),
        ("toy-sign brightness", (), "threshold"),
        ("universal brightness", (), "delta"),
        ("universal brightness", ("--of", "defense"), "threshold"),
        ("toy brightness universal", ("--of", "brightness"), "threshold"),
        ("brightness", ("--of", "attack"), "delta"),
        (chain, ("--of", 2), "mean"),
    ):
        called, _ = write(cell, *flags)
        assert called.code == 0, called.err
        assert described in called.err
    for cell, flags, message in (
        (chain, (), "several components are fitted (defense 'centred'); choose one with --of 1 or --of 2"),
        ("universal", ("--of", "defense"), "several components are fitted"),
        ("toy-sign brightness", ("--of", "attack"), "'attack' is not fitted to data; what is fitted: defense 'brightn"),
        ("universal brightness", ("--of", "jpeg"), "'jpeg' is not fitted to data; what is fitted: the attack, defense"),
        ("adaptive", (), "several components are fitted"),
    ):
        called, _ = write(cell, *flags)
        assert called.code == 2, (cell, flags)
        assert message in called.error_line()


def test_cells_with_one_artefact_each_are_told_apart_by_their_chains(fitting: Toy, write: Write) -> None:
    fitting(attacks=["toy-sign"], defenses=["brightness", "toy-dim+brightness"])
    called, _ = write("toy-sign")
    assert called.code == 2
    assert "'toy-sign' stands for cells with 2 artefacts; give one of: " in called.error_line()
    assert "toy-dim+brightness" in called.error_line()
    called, _ = write("toy-dim+brightness")
    assert called.code == 0, called.err
