"""``advbench new-plugin``: names that would break the installation are refused; fresh packages run together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Called

from advbench.scaffold import NewPackage

pytestmark = pytest.mark.slow

Call = Callable[..., Called]

REFUSED = {
    "advbench": "'advbench' is an installed module, which the plugin would replace or hide; choose another name",
    "Torch": "'torch' is an installed module",
    "numpy": "'numpy' is an installed module",
    "advbench-attacks": "'advbench_attacks' is an installed module",
    "scikit-learn": "'scikit-learn' is an installed package, which the plugin would replace; choose another name",
    "json": "'json' is a module of Python, which the plugin would hide; choose another name",
    "class": "'class' is a keyword of Python, so no module can have this name; choose another name",
    "advbench-true": "the component's class would be called 'True', a keyword of Python",
    "advbench-detector": "the component's class would be called 'Detector', as another class that its module uses",
    "jpeg": "'jpeg' is the name of another defense; choose another name",
    "advbench-none": "'none' is the name of another defense; choose another name",
    "attacks": "'attacks' is the name of another plugin; choose another name",
    "3d": "begins with a letter from a to z; choose another name",
    "./-x": "begins with a letter from a to z",
    "a b": "has only letters from a to z, digits, '-', '_' and '.'; choose another name",
    "my-": "ends with a letter or a digit",
}
"""Names of detectors, which are defenses."""

OF_KINDS = {
    ("pgd", "attack"): "'pgd' is the name of another attack; choose another name",
    ("advbench-mnist-cnn", "model"): "'mnist-cnn' is the name of another model",
    ("cifar10", "dataset"): "'cifar10' is the name of another dataset",
    ("advbench-standard", "study"): "'standard' is the name of another suite",
    ("advbench-network", "model"): "the component's class would be called 'Network'",
}


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        *((name, "detector", reason) for name, reason in REFUSED.items()),
        *((*case, reason) for case, reason in OF_KINDS.items()),
    ],
)
def test_a_name_of_something_else_is_refused_with_the_reason(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, reason: str
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    called = call("new-plugin", name, "--kind", kind)
    assert called.code == 2
    assert called.error_line().startswith(f"advbench new-plugin: error: {Path(name).name}: ")
    assert reason in called.error_line()
    assert not [*Path().iterdir()]


def test_a_name_of_another_kind_and_of_a_file_beside_is_free(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as "python -m advbench" does
    Path("shift.py").write_text("")
    Path("fresh").mkdir()
    for name, kind in (("shift", "defense"), ("fresh", "defense"), ("advbench-pgd", "defense"), ("jpeg", "study")):
        assert call("new-plugin", name, "--kind", kind).code == 0
        assert (tmp_path / name / "pyproject.toml").is_file()


def test_a_plugin_that_is_installed_can_be_made_anew(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = NewPackage(tmp_path / "installed" / "advbench-made-anew", "defense")
    package.write()
    metadata = package.folder / "advbench_made_anew-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: advbench-made-anew\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[advbench]\nmade-anew = advbench_made_anew\n")
    monkeypatch.syspath_prepend(str(package.folder))
    assert "made-anew" in call("list", "defenses").out
    assert call("new-plugin", tmp_path / "again" / "AdvBench_Made.Anew").code == 0
    called = call("new-plugin", tmp_path / "made-anew")
    assert called.code == 2
    assert "'made-anew' is the name of another defense" in called.error_line()


def test_a_fresh_model_and_a_fresh_dataset_run_together(call: Call, tmp_path: Path) -> None:
    files = []
    for kind in ("model", "dataset"):
        folder = tmp_path / f"x-{kind}"
        assert call("new-plugin", folder, "--kind", kind).code == 0
        files += ["--plugin", folder / f"x_{kind}.py"]
    checked = call("check", *files)
    assert (checked.code, "all 2 keep the contract" in checked.out) == (0, True), checked.out
    axes = ["--datasets", "x-dataset", "--models", "x-model", "--attacks", "fgsm:eps=0.1", "--defenses", "none"]
    called = call("matrix", *files, *axes, "--export", tmp_path / "cells.json")
    assert called.code == 0, called.err
    (cell,) = json.loads((tmp_path / "cells.json").read_text())["cells"]
    assert cell["clean_accuracy"] == 1
    assert cell["robust_accuracy"] < 1
