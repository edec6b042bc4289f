"""Attacks that are fitted to data: on what and on which images, how often, and what goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.conftest import TOY, Called

from advbench.session.artefacts import write_artefact
from advbench.store import Store, digest_of
from advbench.store.inventory import read_contents

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parents[1] / "fitting_plugin.py"
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
    """Runs a matrix of the universal perturbation on 20 of the toy's 40 images, fitted to the other 20."""

    def run(*flags: object, **axes: Any) -> tuple[Called, dict[str, Any]]:
        samples = () if "--limit" in flags else ("--limit", 20)
        fits = () if "--fit-samples" in flags else ("--fit-samples", 20)
        plugin = ("--plugin", PLUGIN)
        return toy(*plugin, *samples, *fits, *flags, **{"attacks": ["universal"], "defenses": ["toy-keep"], **axes})

    return run


def fits(log: Path) -> list[str]:
    """The fits of runs, without those that only observe the attack on four synthetic images."""
    return [line for line in log.read_text().splitlines() if line.split()[1] != "4"]


def artefacts(tmp_path: Path) -> int:
    return sum(file.kind == "artefacts" for file in read_contents(Store(tmp_path / "store")).inventory.files())


def test_one_fit_serves_all_cells_that_attack_the_same_classifier(fitting: Toy, log: Path, tmp_path: Path) -> None:
    called, results = fitting(defenses=["toy-keep", "toy-dim", "toy-noise"])
    assert called.code == 0, called.err
    assert len(fits(log)) == artefacts(tmp_path) == 1
    assert results["cells"][0]["robust_accuracy"] < 0.7 * results["cells"][0]["clean_accuracy"]
    assert results["run"]["fit_samples"] == 20
    assert results["run"]["fit_data"] is None
    again, _ = fitting(defenses=["toy-keep", "toy-dim", "toy-noise"])
    assert again.code == 0, again.err
    assert len(fits(log)) == 1


def test_an_adaptive_attack_is_fitted_behind_each_defense_and_a_transferred_one_on_the_surrogate(
    fitting: Toy, log: Path, tmp_path: Path
) -> None:
    called, results = fitting(
        *("--threats", "oblivious", "adaptive", "transfer", "--surrogate", "toy-linear:scale=2", "--eot", 3),
        attacks=["universal:eps=0.1"],
        defenses=["toy-keep", "toy-flip", "toy-noise"],
    )
    assert called.code == 0, called.err
    assert len(fits(log)) == artefacts(tmp_path) == 4  # undefended, behind two defenses, on the surrogate
    by = {(cell["threat"], cell["defense"].split(":")[0]): cell["robust_accuracy"] for cell in results["cells"]}
    assert by["adaptive", "toy-keep"] == by["oblivious", "toy-keep"]


def test_what_a_parameter_of_the_stage_run_changes_is_not_fitted_again(fitting: Toy, log: Path) -> None:
    called, results = fitting(attacks=["universal:share={0,0.5,1}"])
    assert called.code == 0, called.err
    assert len(fits(log)) == 1
    accuracies = [cell["robust_accuracy"] for cell in results["cells"]]
    assert accuracies[0] == results["cells"][0]["clean_accuracy"] > accuracies[2]


@pytest.mark.usefixtures("quick_workers")
def test_results_do_not_depend_on_batches_jobs_and_what_else_is_run(fitting: Toy, log: Path) -> None:
    _, whole = fitting("--threats", "oblivious", "adaptive", defenses=["toy-noise"])
    flags = ("--batch-size", 3, "--jobs", 2, "--threats", "oblivious", "adaptive", "--cell-timeout", 60)
    called, parts = fitting(*flags, defenses=["toy-noise", "toy-dim"], store="another")
    assert called.code == 0, called.err
    key = "robust_accuracy"
    assert [cell[key] for cell in whole["cells"]] == [c[key] for c in parts["cells"] if c["defense"][:9] == "toy-noise"]


def test_targets_of_fits_are_those_of_the_goal(fitting: Toy, log: Path) -> None:
    called, results = fitting(attacks=["universal:goal=1", "universal:goal=least-likely"])
    assert called.code == 0, called.err
    assert [line.split()[3] for line in fits(log)] == ["True", "True"]
    assert int(fits(log)[0].split()[1]) < 20  # samples of class 1 are left out
    assert results["cells"][0]["target_success_rate"] > 0.5


def test_a_failed_fit_is_the_reason_of_its_cells_alone(fitting: Toy, log: Path) -> None:
    broken = ("raise", "none", "nan", "no access")
    attacks = [*(f"universal:how={how}" for how in broken), "universal", "toy-sign"]
    called, results = fitting(attacks=attacks)
    assert called.code == 1
    errors = [cell["error"] for cell in results["cells"]]
    assert "this fit always fails" in errors[0]
    assert "attack 'universal' returned NoneType from fit()" in errors[1]
    assert "attack 'universal' returned a tensor 'delta' from fit() with NaN or infinite values" in errors[2]
    assert "attack 'universal' called the model, but declares access = 'nothing'" in errors[3]
    assert errors[4:] == [None, None]
    count = len(fits(log))
    fitting(
        attacks=attacks,
    )
    assert len(fits(log)) == count + 4  # those that failed are tried again


@pytest.mark.slow
def test_a_fit_that_takes_too_long_is_err(fitting: Toy) -> None:
    called, results = fitting("--cell-timeout", 3, attacks=["universal:how=hang", "universal"])
    assert called.code == 1
    errors = [cell["error"] for cell in results["cells"]]
    assert "it took longer than the cell timeout of 3 s" in errors[0]
    assert errors[1] is None


def test_a_fit_that_is_stored_is_not_repeated_after_an_interruption(fitting: Toy, log: Path, tmp_path: Path) -> None:
    _, before = fitting()
    for kind in ("adversarial", "cells"):
        shutil.rmtree(tmp_path / "store" / kind)
    called, after = fitting()
    assert called.code == 0, called.err
    assert len(fits(log)) == 1
    assert after["cells"][0]["robust_accuracy"] == before["cells"][0]["robust_accuracy"]
    called, _ = fitting("--rerun", "all")
    assert called.code == 0, called.err
    assert len(fits(log)) == 2


def test_an_artefact_that_has_gone_from_the_store_is_fitted_again(fitting: Toy, log: Path, tmp_path: Path) -> None:
    fitting()
    for kind in ("adversarial", "cells", "artefacts"):
        shutil.rmtree(tmp_path / "store" / kind)
    called, _ = fitting()
    assert called.code == 0, called.err
    assert len(fits(log)) == 2


def test_a_fit_that_changes_the_process_is_named_and_all_else_is_done(fitting: Toy) -> None:
    called, results = fitting(attacks=["universal:how=change", "universal"])
    assert called.code == 1
    assert "attack 'universal' changed" in results["cells"][0]["error"]
    assert results["cells"][1]["status"] == "ok"


def test_of_the_fits_with_each_approximation_of_the_defense_the_best_is_kept(
    fitting: Toy, call: Callable[..., Called], log: Path, tmp_path: Path
) -> None:
    attacks, threats = ["universal:eps=0.1"], ("--threats", "oblivious", "adaptive")
    called, results = fitting(*threats, attacks=attacks, defenses=["toy-keep", "two-ways"])
    assert called.code == 0, called.err
    assert len(fits(log)) == 3  # undefended, and with two approximations
    assert artefacts(tmp_path) == 2
    accuracies = {cell["robust_accuracy"] for cell in results["cells"]}
    assert len(accuracies) == 1
    assert accuracies.pop() < results["cells"][0]["clean_accuracy"]
    files = [tmp_path / "undefended.safetensors", tmp_path / "defended.safetensors"]
    for file, cell in zip(files, ("universal oblivious", "universal adaptive two-ways"), strict=True):
        assert call("artefact", "latest", cell, file, "--store", tmp_path / "store").code == 0
    first, second = (load_file(file)["delta"] for file in files)
    torch.testing.assert_close(first, second)


def test_check_reports_a_fit_that_breaks_the_contract(call: Callable[..., Called]) -> None:
    assert call("check", "universal", "--plugin", PLUGIN, "--no-plugin", "*").code == 0
    for how, message in (
        ("none", "returned NoneType from fit()"),
        ("nan", "with NaN or infinite values"),
        ("random", "expected equal artefacts from equal streams"),
    ):
        called = call("check", f"universal:how={how}", "--plugin", PLUGIN, "--no-plugin", "*")
        assert called.code == 1
        assert " ".join(called.out.split()).count(message) == 1
        assert "advbench.api.Attack.fit" in called.out


def test_other_keys_stay_as_they_are(fitting: Toy, toy: Toy, tmp_path: Path) -> None:
    toy("--limit", 20, attacks=["toy-sign"], defenses=["toy-keep"])
    before = {path.name for path in (tmp_path / "store" / "cells").rglob("*.json")}
    fitting(attacks=["toy-sign", "universal"])
    after = {path.name for path in (tmp_path / "store" / "cells").rglob("*.json")}
    assert before < after
    assert len(after) == 2


def test_a_run_without_fits_needs_no_images_for_them(fitting: Toy) -> None:
    called, results = fitting("--limit", 40, attacks=["toy-sign"])
    assert called.code == 0
    assert "fit_samples" not in results["run"]


def test_images_for_fits_can_be_those_of_another_dataset(fitting: Toy, log: Path) -> None:
    called, results = fitting("--limit", 40, "--fit-data", "other-toy", "--fit-samples", 30)
    assert called.code == 0, called.err
    assert int(fits(log)[0].split()[2]) >= 1100
    assert results["run"]["fit_data"] == "other-toy:size=40,same=0"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--limit", 40),
            "attack 'universal' is fitted to images that the run does not evaluate, and all 40 samples of toy are "
            "in the run; give --limit 20, or other images with --fit-data SPEC",
        ),
        (
            ("--limit", 30),
            "attack 'universal' is fitted to images that the run does not evaluate, and 10 of the 20 samples of toy "
            "for fits are in the run; give --limit 20 or --fit-samples 10, or other images with --fit-data SPEC",
        ),
        (
            ("--fit-data", "other-toy:same=40"),
            "images of other-toy:same=40 have the pixels of samples of toy in the run; give other images",
        ),
        (
            ("--fit-data", "toy-rgb"),
            "--fit-data toy-rgb: has images of shape (3, 4, 4), and toy, to which attack 'universal' is applied, has "
            "images of shape (1, 4, 4); give a dataset of the same form",
        ),
        (
            ("--limit", 40, "--fit-samples", 50),
            "all 40 samples of toy are in the run; give --limit and --fit-samples of together at most 40, or other",
        ),
        (("--fit-data", "toy", "--limit", 40), "all 40 samples of toy are in the run"),
        (("--fit-data", "nothing"), "'nothing'"),
        (("--fit-samples", 0), "--fit-samples: 0: must be a whole number of at least 1"),
    ],
)
def test_images_that_cannot_be_used_are_usage_errors_before_anything_is_computed(
    fitting: Toy, log: Path, tmp_path: Path, flags: tuple[object, ...], message: str
) -> None:
    called, _ = fitting(*flags)
    assert called.code == 2
    assert message in " ".join(called.err.split())
    assert not fits(log)
    assert not (tmp_path / "store" / "runs").exists()


def test_a_suite_sets_the_images_for_fits_and_flags_replace_them(
    toy: Toy, call: Callable[..., Called], log: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "fits.toml"
    suite.write_text(
        'datasets = ["toy"]\nmodels = ["toy-linear"]\nattacks = ["universal"]\ndefenses = ["toy-keep"]\nlimit = 20\n'
        'fit_samples = 15\nfit_data = "other-toy"\n'
    )
    where = ("--plugin", TOY, "--plugin", PLUGIN, "--store", tmp_path / "store")
    assert call("matrix", "--suite", suite, *where).code == 0
    assert call("matrix", "--suite", suite, "--fit-samples", 12, *where).code == 0
    assert [line.split()[1] for line in fits(log)] == ["15", "12"]
    assert "--fit-samples 12" in call("leaderboard", "latest", "--store", tmp_path / "store").out
    suite.write_text("fit_samples = 0\n")
    assert "fit_samples must be a whole number of at least 1" in call("matrix", "--suite", suite, *where).error_line()


def test_a_forecast_counts_the_fit(fitting: Toy) -> None:
    called, _ = fitting("--dry-run", attacks=["universal:steps=100000000"])
    assert called.code == 0, called.err
    assert " h" in called.err or "min" in called.err


def test_the_store_keeps_artefacts_with_their_run(fitting: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    fitting()
    store = ("--store", tmp_path / "store")
    listed = json.loads(call("cache", "ls", "--format", "json", *store).out)
    assert listed["totals"]["artefacts"]["files"] == 1
    assert "1 artefact" not in call("cache", "gc", "--yes", *store).err
    assert call("cache", "verify", *store).code == 0
    (file,) = (tmp_path / "store" / "artefacts").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    assert call("cache", "verify", *store).code == 1


def test_an_artefact_in_a_file_takes_the_place_of_a_fit(
    fitting: Toy, call: Callable[..., Called], log: Path, tmp_path: Path
) -> None:
    _, fitted = fitting("--threats", "adaptive", defenses=["toy-noise"])
    store, file = ("--store", tmp_path / "store"), tmp_path / "universal.safetensors"
    written = call("artefact", "latest", "universal", file, *store)
    assert written.code == 0, written.err
    assert "delta 1×1×4×4" in written.err
    count = len(fits(log))
    called, read = fitting("--limit", 40, "--threats", "adaptive", attacks=[f"universal:file={file}"])
    assert called.code == 0, called.err
    assert len(fits(log)) == count
    called, read = fitting("--threats", "adaptive", defenses=["toy-noise"], attacks=[f"universal:file={file}"])
    assert read["cells"][0]["robust_accuracy"] == fitted["cells"][0]["robust_accuracy"]
    assert "fit_samples" not in read["run"]
    assert "takes its artefact from a file" in call("artefact", "latest", "universal", file, *store).error_line()
    for axes, message in (
        (
            {"models": ["toy-linear:scale=2"]},
            "was fitted on the model toy-linear:scale=1, and this attacks toy-linear:sca",
        ),
        (
            {"datasets": ["toy-wide"], "models": ["wide-model"]},
            "was fitted to images of shape [1, 4, 4], and toy-wide has [1, 4, 8]",
        ),
    ):
        called, _ = fitting(**{**axes, "attacks": [f"universal:file={file}"]})
        assert called.code == 2
        assert message in called.error_line()
    file.write_bytes(b"nothing")
    called, _ = fitting(attacks=[f"universal:file={file}"])
    assert "holds no artefact; give a .safetensors file that 'advbench artefact' wrote" in called.error_line()
    file.unlink()
    called, _ = fitting(attacks=[f"universal:file={file}"])
    assert "cannot be read: No such file or directory; 'advbench artefact' writes such a file" in called.error_line()


def test_the_cell_of_an_artefact_is_named_by_what_sets_it_apart(
    fitting: Toy, call: Callable[..., Called], tmp_path: Path
) -> None:
    fitting(
        *("--threats", "oblivious", "adaptive"),
        attacks=["universal:eps={0.1,0.2}", "toy-sign"],
        defenses=["toy-keep", "toy-dim"],
    )
    store, file = ("--store", tmp_path / "store"), tmp_path / "universal.safetensors"
    for cell, message in (
        (
            "universal",
            "'universal' stands for cells with 4 artefacts; give one of: toy toy-linear universal:eps=0.1 ",
        ),
        ("toy-sign", "neither its attack nor its defense is fitted to data"),
        ("fgsm", "no cell of run"),
        ("", "no cell of run"),
    ):
        called = call("artefact", "latest", cell, file, *store)
        assert called.code == 2
        assert message in called.error_line()
    assert call("artefact", "latest", "universal:eps=0.1 adaptive toy-dim", file, *store).code == 0
    for name, message in (
        ("delta.png", "'delta', of shape 1×1×4×4, is no image in [0, 1]"),
        ("delta.pt", "give a file that ends in .safetensors or .png"),
    ):
        called = call("artefact", "latest", "universal:eps=0.2 oblivious", tmp_path / name, *store)
        assert message in called.error_line()


def test_an_artefact_of_one_image_is_written_as_png(tmp_path: Path) -> None:
    patch = torch.linspace(0, 1, 48).reshape(3, 4, 4)
    store, key_inputs = Store(tmp_path / "store"), {"kind": "artefacts"}
    store.write_artefact(key_inputs, {"patch": patch}, {"values": {"loss": 0.5}})
    message = write_artefact(store, digest_of(key_inputs), tmp_path / "patch.png")
    assert message == f"wrote {tmp_path / 'patch.png'}: patch 3×4×4, loss 0.5"
    with Image.open(tmp_path / "patch.png") as image:
        pixels = torch.from_numpy(np.array(image)).long().permute(2, 0, 1)
    assert torch.equal(pixels, (patch * 255).round().long())
