"""A component that changes the process is named, and changes no number of another: not now, and not in later runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from tests import hostile_plugin
from tests.conftest import TOY, Called
from tests.distributed.helpers import bits, run

pytestmark = [pytest.mark.slow(minutes=1), pytest.mark.usefixtures("quick_workers")]

HOSTILE = Path(__file__).parents[1] / "hostile_plugin.py"
IN_WORKERS = ("argmax", "core", "another", "memory", "files", "stdin", "stderr", "fork", "kernel", "dtype")
IN_ONE_PROCESS = ("len", "fork", "mode")
REVERTED = (
    "argmax", "cross-entropy", "softmax", "relu", "clip", "round", "len", "recursion", "dtype", "hook", "mode",
    "signal", "code", "descriptor", "jpeg",
)  # fmt: skip
"""What is undone even where the process goes on, as it does when its taint is ignored."""

TIMES = {"seconds": ANY, "craft_seconds": ANY}
Once = Callable[[str, Callable[[Path], object]], Path]


def words_of(
    store: Path, export: str, *more: str, defenses: Sequence[str] = ("toy-keep", "drawing"), **axes: str
) -> list[str]:
    """The command of a matrix."""
    given = {"datasets": "toy", "models": "toy-linear", "attacks": "toy-sign", **axes}
    flags = [word for axis, specs in given.items() for word in (f"--{axis}", *specs.split())]
    plugins = ("--plugin", str(TOY), "--plugin", str(HOSTILE))
    files = ("--store", str(store / "store"), "--export", str(store / export))
    return ["matrix", *flags, "--defenses", *defenses, *plugins, *files, *more]


def matrix(programs: Mapping[str, str], store: Path, export: str, *more: str, **axes: Any) -> int:
    """Runs a matrix in a process of its own; the exit code."""
    done = run(["advbench", *words_of(store, export, *more, **axes)], **programs)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


@pytest.fixture
def here(call: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """Runs a matrix in this process."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    return lambda *given, **axes: call(*words_of(*given, **axes))


def cells(folder: Path, export: str) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / export).read_text())["cells"]
    return {cell["defense"]: cell for cell in found}


def numbers(folder: Path, export: str) -> list[tuple[str, float, float]]:
    found = cells(folder, export).values()
    return [(c["defense"], c["clean_accuracy"], c["robust_accuracy"]) for c in found if c["status"] == "ok"]


@pytest.fixture(scope="module")
def fresh(once: Once, programs: Mapping[str, str]) -> Path:
    """A run without anything hostile."""
    return once("fresh-store", lambda folder: matrix(programs, folder, "run.json"))


def among_others(hows: Sequence[str]) -> list[str]:
    hostile = [f"hostile:how={how}" for how in hows]
    return [hostile[0], "toy-keep", *hostile[1:], "drawing"]


def spoil(programs: Mapping[str, str], folder: Path, hows: Sequence[str], jobs: int) -> None:
    assert matrix(programs, folder, "run.json", "--jobs", str(jobs), defenses=among_others(hows)) == 1
    assert matrix(programs, folder, "later.json") == 0


IGNORES_TAINT = """
import json, sys
from advbench.api import executor
executor.taint_process = lambda reason: None  # before others import it
from advbench.cli.main import main
sys.exit(10 * main(json.loads(sys.argv[1])) + main(json.loads(sys.argv[2])))
"""


def spoil_and_go_on(folder: Path) -> None:
    """Computes all cells in one process, which a change would affect that was not undone."""
    commands = words_of(folder, "run.json", defenses=among_others(REVERTED)), words_of(folder, "later.json")
    done = run([sys.executable, "-c", IGNORES_TAINT, *map(json.dumps, commands)])
    assert done.returncode == 10, done.stderr  # the first has failed cells


@pytest.fixture(scope="module")
def workers(once: Once, programs: Mapping[str, str]) -> Path:
    """A run with all that is hostile, in two workers, and one without it on the same store."""
    return once("hostile-workers", lambda folder: spoil(programs, folder, IN_WORKERS, 2))


@pytest.fixture(scope="module")
def one_process(once: Once, programs: Mapping[str, str]) -> Path:
    """The same in one process, with some of it."""
    return once("hostile-process", lambda folder: spoil(programs, folder, IN_ONE_PROCESS, 1))


@pytest.fixture(scope="module")
def reverted(once: Once) -> Path:
    """The same in a process that ignores that it is tainted."""
    return once("hostile-reverted", spoil_and_go_on)


@pytest.mark.parametrize("how", IN_WORKERS)
def test_what_changes_a_worker_is_named(workers: Path, how: str) -> None:
    check_named(workers, how)


@pytest.mark.parametrize("how", IN_ONE_PROCESS)
def test_what_changes_the_one_process_is_named(one_process: Path, how: str) -> None:
    check_named(one_process, how)


@pytest.mark.parametrize("how", REVERTED)
def test_what_changes_a_process_that_goes_on_is_named(reverted: Path, how: str) -> None:
    check_named(reverted, how)


def check_named(folder: Path, how: str) -> None:
    cell = cells(folder, "run.json")[f"hostile:how={how}"]
    assert cell["status"] == "error"
    assert cell["error"].startswith("ContractError: defense 'hostile' changed ")
    assert hostile_plugin.HOW[how][1] in cell["error"]
    assert cell["error"].count(" and ") == 0, "nothing else has changed"


@pytest.mark.parametrize("used", ["workers", "one_process", "reverted"])
def test_the_numbers_of_others_are_those_of_a_fresh_store(
    fresh: Path, used: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(used)
    expected = numbers(fresh, "run.json")
    assert len(expected) == 2
    assert numbers(folder, "run.json") == numbers(folder, "later.json") == expected
    found = bits(folder / "store").items()
    stored = {key: record for key, record in found if not record["defense"].startswith("hostile")}
    assert stored == bits(fresh / "store")


@pytest.mark.parametrize(
    ("axes", "who", "defenses"),
    [
        ({"attacks": "hostile-attack toy-sign"}, "attack 'hostile-attack' changed torch.Tensor.argmax", 1),
        ({"attacks": "hostile-attack:asked=true toy-sign"}, "attack 'hostile-attack' changed torch.Tensor.argmax", 1),
        (
            {"models": "hostile-model:load_how=round toy-linear"},
            "model 'hostile-model:load_how=round' changed builtins.round",
            1,
        ),
        (
            {"models": "hostile-model:digest_how=round toy-linear"},
            "model 'hostile-model:digest_how=round' changed builtins.round",
            1,
        ),
        (
            {"models": "hostile-model:call_how=mode toy-linear"},
            "model 'hostile-model:call_how=mode' changed torch's function modes",
            1,
        ),
        ({"datasets": "hostile-data:how=sqrt toy"}, "dataset 'hostile-data' changed math.sqrt", 1),
    ],
    ids=["attack", "attack when asked", "model at load", "model's digest", "model when called", "dataset"],
)
def test_whoever_it_is_that_changes_the_process_is_named(
    here: Callable[..., Called], fresh: Path, tmp_path: Path, axes: dict[str, str], who: str, defenses: int
) -> None:
    assert here(tmp_path, "run.json", defenses=["toy-keep"], **axes).code == 1
    found = json.loads((tmp_path / "run.json").read_text())["cells"]
    assert [cell["status"] for cell in found] == ["error", "ok"]
    assert who in found[0]["error"]
    assert found[1]["robust_accuracy"] == cells(fresh, "run.json")["toy-keep"]["robust_accuracy"]


def test_an_attack_that_changes_the_layers_of_the_network_is_named(
    here: Callable[..., Called], fresh: Path, tmp_path: Path
) -> None:
    attacks = "hostile-attack:how=layer-hook hostile-attack:how=layer-method toy-sign"
    assert here(tmp_path, "run.json", defenses=["toy-keep"], attacks=attacks).code == 1
    hook, method, other = json.loads((tmp_path / "run.json").read_text())["cells"]
    for cell in (hook, method):
        assert "attack 'hostile-attack', or the model itself, changed hooks, methods or settings" in cell["error"]
    assert other["robust_accuracy"] == cells(fresh, "run.json")["toy-keep"]["robust_accuracy"]


@pytest.mark.parametrize("how", ["seeds", "mock", "added", "deep", "format", "variable"])
def test_what_changes_nothing_of_others_is_no_fault(call: Any, fresh: Path, tmp_path: Path, how: str) -> None:
    store = ("--store", tmp_path / "store", "--plugin", TOY, "--plugin", HOSTILE)
    axes = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign")
    called = call(
        "matrix", *axes, "--defenses", f"hostile:how={how}", "drawing", *store, "--export", tmp_path / "run.json"
    )
    assert called.code == 0, called.err
    assert cells(tmp_path, "run.json")["drawing"] == cells(fresh, "run.json")["drawing"] | TIMES
    assert "HOSTILE_SCALE" not in os.environ


def test_a_component_may_read_a_dataset_by_processes_from_within_a_worker(
    programs: Mapping[str, str], tmp_path: Path
) -> None:
    defenses = ["hostile:how=loader", "toy-keep"]
    assert matrix(programs, tmp_path, "run.json", "--executor", "processes", defenses=defenses) == 0


PATCH = """
import {module}
from advbench.api import Defense, hookimpl

{module}.{name} = lambda *given: None


class Keep(Defense):
    name = "keep"

    def apply(self, images, rng):
        return images


@hookimpl
def register_defenses(register):
    register(Keep)
"""
"""A plugin that replaces an attribute of a module."""


def test_a_plugin_that_patches_a_library_that_only_it_loads_is_not_used(tmp_path: Path) -> None:
    patch = tmp_path / "patch.py"
    patch.write_text(PATCH.format(module="torchvision.models.resnet", name="ResNet.forward"))
    words = [sys.executable, "-m", "advbench", "list", "--plugin", str(patch)]
    errors = run(words).stderr
    name = "torchvision.models.resnet.ResNet.forward (which cannot be undone)"
    assert f"changed {name} for the whole process while it was loaded; no component of the plugin is used" in errors


def test_a_plugin_that_changes_the_process_when_it_is_loaded_is_not_used(
    call: Any, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    monkeypatch.setenv("HOSTILE_IMPORT", "argmax")
    axes = (
        "--datasets",
        "toy",
        "--models",
        "toy-linear",
        "--attacks",
        "toy-sign",
        "--plugin",
        TOY,
        "--plugin",
        HOSTILE,
    )
    export = ("--store", tmp_path / "store", "--export", tmp_path / "run.json")
    called = call("matrix", *axes, *export, "--defenses", "toy-keep")
    assert called.code == 0, called.err
    assert "changed torch.Tensor.argmax for the whole process while it was loaded; the change is reverted" in called.err
    assert cells(tmp_path, "run.json")["toy-keep"]["robust_accuracy"] == numbers(fresh, "run.json")[0][2]
    called = call("matrix", *axes, *export, "--defenses", "hostile")
    assert called.code == 2
    assert "the defense 'hostile' is not used: plugin " in called.err.splitlines()[-1]
