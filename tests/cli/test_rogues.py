"""Whatever a component does outside its own work ends in its own cells, and never in another's numbers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench import __version__

pytestmark = [pytest.mark.slow(minutes=1), pytest.mark.usefixtures("quick_workers")]

MATRIX = (sys.executable, "-m", "advbench", "matrix")
ROGUE = Path(__file__).parents[1] / "rogue_plugin.py"
Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def rogue(toy: Toy) -> Toy:
    """Runs a matrix of toy and rogue components."""

    def run(*flags: object, **axes: Any) -> tuple[Called, dict[str, Any]]:
        return toy("--plugin", ROGUE, *flags, **axes)

    return run


def by_attack(results: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for cell in results["cells"]:
        found.setdefault(cell["attack"].split(":")[0], []).append(cell["status"])
    return found


@pytest.mark.parametrize("how", ["weights", "train"])
def test_an_attack_that_changes_the_model_fails_and_poisons_no_other_cell(rogue: Toy, how: str) -> None:
    _, alone = rogue(store="alone")
    called, results = rogue(attacks=[f"rogue-attack:how={how}", "toy-sign"])
    assert called.code == 1
    assert by_attack(results) == {"rogue-attack": ["error"] * 2, "toy-sign": ["ok"] * 2}
    assert "changed the model's weights or put it in training mode" in results["cells"][0]["error"]
    numbers = [cell["robust_accuracy"] for cell in results["cells"][2:]]
    assert numbers == [cell["robust_accuracy"] for cell in alone["cells"]]


@pytest.mark.parametrize("how", ["budget", "passes", "raise", "exit", "unreadable"])
def test_an_attack_that_fails_at_the_wrong_place_fails_its_own_cells(rogue: Toy, how: str) -> None:
    called, results = rogue(attacks=[f"rogue-attack:how={how}", "toy-sign"])
    assert called.code == (0 if how == "passes" else 1)
    assert by_attack(results)["toy-sign"] == ["ok", "ok"]
    assert by_attack(results)["rogue-attack"] == (["ok"] if how == "passes" else ["error"]) * 2
    assert how != "budget" or "minimal" not in called.out, "an attack that could not be asked is of no kind"
    complete = [row["worst_case"]["complete"] for row in results["leaderboards"][0]["rows"]]
    assert complete == [how == "passes"] * 2, "a worst case without that attack is only a bound"


@pytest.mark.parametrize("where", ["load_fails", "digest_fails"])
@pytest.mark.parametrize("how", ["raise", "exit", "unreadable"])
def test_a_dataset_that_fails_is_err_and_the_others_run(rogue: Toy, where: str, how: str) -> None:
    called, results = rogue(datasets=[f"rogue-data:{where}={how}", "toy"], defenses=["toy-keep"])
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["error", "ok"]
    assert "Traceback" not in called.err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nan", "pixels that are NaN or infinite, the first at index (0, 0, 0, 0)"),
        ("range", "; expected [0, 1]: "),
        ("dtype", "images of torch.float64"),
        ("labels", "labels outside 0 to 2"),
        ("ids", "not ascending"),
        ("type", "loaded str"),
    ],
)
def test_a_dataset_that_breaks_its_contract_is_named(rogue: Toy, wrong: str, message: str) -> None:
    called, results = rogue(datasets=[f"rogue-data:wrong={wrong}"], defenses=["toy-keep"])
    assert called.code == 1
    assert "ContractError: dataset 'rogue-data' " in results["cells"][0]["error"]
    assert message in results["cells"][0]["error"]


def test_a_model_that_fails_is_err_and_the_others_run(rogue: Toy) -> None:
    called, results = rogue(models=["rogue-model:fails=exit", "toy-linear"], defenses=["toy-keep"])
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["error", "ok"]
    assert "SystemExit" in results["cells"][0]["error"]


def test_what_components_print_stays_off_stdout(rogue: Toy) -> None:
    called, _ = rogue(datasets=["rogue-data"], defenses=["talkative"])
    assert called.code == 0
    assert "that talks" not in called.out
    assert "a dataset that talks" in called.err
    assert "a defense that talks" in called.err


def test_reporters_that_clash_or_fail_are_named_and_nothing_is_lost(
    rogue: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rogue()
    monkeypatch.setenv("ROGUE_REPORTERS", "1")
    called, _ = rogue()
    assert called.code == 2
    ours = f"'json' of advbench {__version__}"
    assert f"the suffix '.json' is registered by {ours} and 'other-json' of file" in called.error_line()


def test_a_worker_that_dies_fails_its_own_cells(rogue: Toy) -> None:
    called, results = rogue("--jobs", 2, attacks=["rogue-attack:how=die", "toy-sign", "toy-minimal"])
    assert called.code == 1
    assert by_attack(results) == {"rogue-attack": ["error"] * 2, "toy-sign": ["ok"] * 2, "toy-minimal": ["ok"] * 2}
    assert "its worker process died" in results["cells"][0]["error"]


def test_what_would_end_the_driver_fails_its_own_cells(rogue: Toy) -> None:
    called, results = rogue(attacks=["rogue-attack:how=die", "toy-sign"])
    assert called.code == 1
    assert by_attack(results) == {"rogue-attack": ["error"] * 2, "toy-sign": ["ok"] * 2}
    assert "os._exit(9) would have ended the whole process (raised by attack 'rogue-a" in results["cells"][0]["error"]


def test_a_plugin_edited_while_workers_start_is_never_stored_under_the_old_key(tmp_path: Path) -> None:
    plugin = tmp_path / "edited.py"
    plugin.write_text(TOY.read_text() + "\nVERSION = 1\n")
    words = ["--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "toy-keep"]
    process = subprocess.Popen(
        [*MATRIX, *words, "--jobs", "2", "--plugin", str(plugin), "--store", str(tmp_path / "store")],
        env=os.environ | {"ADVBENCH_DISABLE_PLUGINS": "*"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "to do" in process.stderr.readline()
    plugin.write_text(TOY.read_text() + "\nVERSION = 2\n")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = [line for line in err.splitlines() if "error:" in line]
    assert re.search(r"worker 0 has another dataset toy: that of .*edited\.py.*, and not that of", line)
    assert not list((tmp_path / "store").glob("*/*/*"))


def test_workers_leave_when_their_driver_is_killed(tmp_path: Path) -> None:
    words = ["--datasets", "toy", "--models", "toy-linear", "--defenses", "toy-keep", "--plugin", str(TOY)]
    log = tmp_path / "log"
    process = subprocess.Popen(
        [*MATRIX, *words, "--attacks", "toy-sign:delay=100", "--jobs", "2", "--store", str(tmp_path / "store")],
        env=os.environ | {"ADVBENCH_DISABLE_PLUGINS": "*", "TOY_LOG": str(log)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("a worker outlived its driver")


def test_a_reader_that_goes_away_loses_no_export(tmp_path: Path) -> None:
    words = f"{sys.executable} -m advbench matrix --datasets toy --models toy-linear --attacks toy-sign"
    files = f"--defenses toy-keep --plugin {TOY} --store {tmp_path / 'store'} --export {tmp_path / 'r.json'}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} {files} | true"],
        env=os.environ | {"ADVBENCH_DISABLE_PLUGINS": "*"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "r.json").exists()


def test_an_encoding_without_the_signs_is_no_obstacle(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "advbench", "info", "cw"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert b"search_steps" in done.stdout
