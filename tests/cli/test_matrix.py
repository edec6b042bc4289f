"""``advbench matrix`` on the toy plugin: what is computed, what is stored, what is shown."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench.store import Store

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with one line a run of an attack."""
    path = tmp_path / "attacks.log"
    path.touch()
    monkeypatch.setenv("TOY_LOG", str(path))
    return path


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


def stored_cells(tmp_path: Path, store: str = "store") -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes())["record"] for path in (tmp_path / store / "cells").rglob("*.json")]


def test_every_combination_becomes_a_cell_in_the_order_of_the_axes(toy: Toy) -> None:
    called, results = toy(attacks=["toy-sign:eps={0.1,0.2}", "toy-minimal"], defenses=["toy-keep", "toy-dim+toy-noise"])
    assert called.code == 0
    assert [(cell["attack"], cell["defense"]) for cell in results["cells"]] == [
        (attack, defense)
        for attack in (
            "toy-sign:eps=0.1,jitter=false,delay=0",
            "toy-sign:eps=0.2,jitter=false,delay=0",
            "toy-minimal",
        )
        for defense in ("toy-keep", "toy-dim:factor=0.5+toy-noise:sigma=0.3")
    ]


def test_the_json_has_every_field_of_the_contract(toy: Toy) -> None:
    _, results = toy()
    assert results["schema"] == 1
    assert set(results) >= {"schema", "run", "cells"}
    for cell in results["cells"]:
        assert set(cell) >= {
            "dataset", "model", "attack", "threat", "defense", "status", "error", "n", "clean_accuracy",
            "robust_accuracy", "robust_accuracy_ci95", "attack_success_rate", "median_linf", "median_l2",
            "seconds", "warnings",
        }  # fmt: skip
        assert cell["status"] == "ok"
        low, high = cell["robust_accuracy_ci95"]
        assert 0 <= low <= cell["robust_accuracy"] <= high <= 1


def test_one_set_of_adversarial_images_serves_all_defenses(toy: Toy, log: Path) -> None:
    toy(attacks=["toy-sign", "toy-sign:eps=0.2"], defenses=["toy-keep", "toy-dim", "toy-noise", "toy-dim:factor=0.9"])
    assert lines(log) == ["0.1 40", "0.2 40"]


def test_a_second_run_computes_nothing_and_says_so(toy: Toy, log: Path) -> None:
    _, first = toy()
    called, second = toy()
    assert lines(log) == ["0.1 40"]
    assert "all 2 cells come from the store" in called.err
    assert first["cells"] == second["cells"]
    assert first["run"]["run"] == second["run"]["run"]


def test_a_new_defense_uses_the_images_that_are_there(toy: Toy, log: Path) -> None:
    toy(defenses=["toy-keep"])
    called, results = toy(defenses=["toy-keep", "toy-dim"])
    assert lines(log) == ["0.1 40"]
    assert "1 in the store, 1 to do" in called.err
    assert [cell["status"] for cell in results["cells"]] == ["ok", "ok"]


@pytest.mark.parametrize(
    "change",
    [
        {"flags": ("--seed", 1)},
        {"flags": ("--limit", 39)},
        {"attacks": ["toy-sign:eps=0.11"]},
        {"models": ["toy-linear:scale=2"]},
        {"datasets": ["toy:size=39"]},
        {"weights": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_input_is_never_answered_from_the_store(
    toy: Toy, log: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    toy()
    if weights := change.pop("weights", ""):
        monkeypatch.setenv("TOY_WEIGHTS", weights)
    toy(*change.pop("flags", ()), **change)
    assert len(lines(log)) == 2


def test_changed_code_of_the_plugin_is_never_answered_from_the_store(
    call: Callable[..., Called], tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    flags = ["--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "toy-keep"]
    for number in range(2):
        plugin = tmp_path / str(number) / "plugin.py"
        plugin.parent.mkdir()
        plugin.write_text(TOY.read_text() + f"\nCHANGED = {number}\n")
        assert call("matrix", *flags, "--plugin", plugin, "--store", tmp_path / "store").code == 0
    assert len(lines(log)) == 2


def test_the_numbers_shown_are_those_of_the_stored_bits(toy: Toy, tmp_path: Path) -> None:
    called, results = toy(attacks=["toy-sign:eps=0.05", "toy-minimal"], defenses=["toy-keep", "toy-dim", "toy-noise"])
    records = {(record["attack"], record["defense"]): record for record in stored_cells(tmp_path)}
    assert len(records) == len(results["cells"]) == 6
    for cell in results["cells"]:
        record = records[cell["attack"], cell["defense"]]
        clean = [a == b for a, b in zip(record["clean_predictions"], record["labels"], strict=True)]
        after = [a == b for a, b in zip(record["adversarial_predictions"], record["labels"], strict=True)]
        assert record["clean_correct"] == clean
        assert record["adversarial_correct"] == after
        robust = [a and b for a, b in zip(clean, after, strict=True)]
        assert cell["clean_accuracy"] == sum(clean) / 40
        assert cell["robust_accuracy"] == sum(robust) / 40
        assert cell["attack_success_rate"] == pytest.approx(1 - sum(robust) / sum(clean))
        turned = [
            linf
            for linf, before, fooled, label in zip(
                record["linf"],
                record["attacked_clean_predictions"],
                record["attacked_predictions"],
                record["labels"],
                strict=True,
            )
            if before == label != fooled
        ]
        assert cell["median_linf"] == statistics.median(turned)
        row = next(line for line in called.out.splitlines() if line.split()[:1] == [cell["defense"].split(":")[0]])
        assert f"{100 * cell['robust_accuracy']:.1f}" in row
        assert f"{100 * cell['clean_accuracy']:.1f}" in row
    for row in results["leaderboards"][0]["rows"]:
        bits = [r["adversarial_correct"] for r in records.values() if r["defense"] == row["defense"]]
        clean_bits = next(r["clean_correct"] for r in records.values() if r["defense"] == row["defense"])
        worst = sum(all(sample) for sample in zip(clean_bits, *bits, strict=True)) / 40
        assert row["worst_case"]["accuracy"] == worst


def test_rows_are_sorted_by_worst_case(toy: Toy) -> None:
    _, results = toy(attacks=["toy-sign:eps=0.03"], defenses=["toy-noise:sigma=2", "toy-keep", "toy-noise:sigma=0.1"])
    worst = [row["worst_case"]["accuracy"] for row in results["leaderboards"][0]["rows"]]
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > worst[-1]


def test_random_numbers_do_not_depend_on_the_batch_size(toy: Toy) -> None:
    flags = {"attacks": ["toy-sign:jitter=true,eps=0.05"], "defenses": ["toy-noise"]}
    _, whole = toy("--batch-size", 40, **flags, store="a")
    _, parts = toy("--batch-size", 7, **flags, store="b")
    timed = ("seconds", "craft_seconds")
    assert [{k: v for k, v in cell.items() if k not in timed} for cell in whole["cells"]] == [
        {k: v for k, v in cell.items() if k not in timed} for cell in parts["cells"]
    ]


@pytest.mark.parametrize("how", ["raise", "exit", "nan", "range", "budget", "shape", "dtype", "in-place", "none"])
def test_an_attack_that_breaks_its_contract_is_err_and_the_rest_goes_on(toy: Toy, tmp_path: Path, how: str) -> None:
    called, results = toy(attacks=[f"toy-rogue:how={how}", "toy-sign"])
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["error", "error", "ok", "ok"]
    failed = results["cells"][0]
    assert failed["robust_accuracy"] is None
    assert "attack" in failed["error"]
    if how not in ("raise", "exit"):
        assert "ContractError: attack 'toy-rogue'" in failed["error"]
    assert called.out.count("ERR") >= 2
    assert any("Traceback" in record.get("traceback", "") for record in stored_cells(tmp_path))
    assert "≤" in called.out, "a worst case that leaves an attack out is an upper bound"


@pytest.mark.parametrize("how", ["raise", "nan", "shape", "in-place"])
def test_a_defense_that_breaks_its_contract_is_err_and_the_rest_goes_on(toy: Toy, how: str) -> None:
    called, results = toy(defenses=["toy-keep", f"toy-rogue-defense:how={how}"])
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["ok", "error"]
    assert "defense" in results["cells"][1]["error"]


def test_stored_failures_are_tried_again_unless_told_otherwise(toy: Toy, log: Path) -> None:
    attacks = ["toy-rogue", "toy-sign"]
    toy(attacks=attacks)
    called, _ = toy(attacks=attacks)
    assert "2 in the store, 2 to do" in called.err
    called, results = toy("--rerun", "none", attacks=attacks)
    assert called.code == 1
    assert "all 4 cells come from the store" in called.err
    assert results["cells"][0]["status"] == "error"
    assert len(lines(log)) == 1
    toy("--rerun", "all", attacks=attacks)
    assert len(lines(log)) == 2


def test_fail_fast_stops_at_the_first_failure(toy: Toy, log: Path) -> None:
    called, results = toy("--fail-fast", attacks=["toy-rogue", "toy-sign"])
    assert called.code == 1
    assert lines(log) == []
    assert [cell["status"] for cell in results["cells"]] == ["error", "error", "skipped", "skipped"]
    assert "—" in called.out


def test_fail_fast_does_not_wait_for_a_job_that_another_run_is_doing(toy: Toy, tmp_path: Path) -> None:
    _, results = toy(attacks=["toy-sign"], store="other")
    manifest = Store(tmp_path / "other").read_manifest(results["run"]["run"])
    assert manifest is not None
    (images,) = manifest["entries"]["adversarial"]
    claimed, ended = threading.Event(), threading.Event()

    def other_run() -> None:
        with Store(tmp_path / "store").claim(images):
            claimed.set()
            ended.wait(30)

    thread = threading.Thread(target=other_run)
    thread.start()
    try:
        assert claimed.wait(10)
        called, results = toy("--fail-fast", attacks=["toy-sign", "toy-rogue"])
        assert thread.is_alive(), "it waited until the other run had ended"
    finally:
        ended.set()
        thread.join()
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["skipped", "skipped", "error", "error"]


def test_a_dry_run_lists_the_cells_and_writes_nothing(toy: Toy, tmp_path: Path) -> None:
    toy(defenses=["toy-keep"])
    before = sorted((tmp_path / "store").rglob("*"))
    called, results = toy("--dry-run", defenses=["toy-keep", "toy-dim"])
    assert called.code == 0
    assert [line.split()[0] for line in called.out.splitlines()] == ["stored", "to"]
    assert "1 in the store, 1 to do" in called.err
    assert sorted((tmp_path / "store").rglob("*")) == before
    assert not results


def test_a_model_that_does_not_fit_a_dataset_is_skipped_with_the_reason(toy: Toy) -> None:
    called, results = toy(datasets=["toy", "toy-rgb"], defenses=["toy-keep"])
    assert called.code == 0
    assert [cell["status"] for cell in results["cells"]] == ["ok", "skipped"]
    assert "toy-linear takes images of (1, 4, 4), toy-rgb has (3, 4, 4)" in results["cells"][1]["error"]
    assert "skipped: toy-linear takes" in called.out


def test_a_minimal_attack_that_finds_nothing_is_a_failure_in_words(toy: Toy) -> None:
    _, results = toy(attacks=["toy-minimal"], defenses=["toy-keep"])
    (cell,) = results["cells"]
    assert cell["attack_kind"] == "minimal"
    assert "toy-minimal found no adversarial image for" in cell["warnings"][0]


def test_what_an_adaptive_attack_did_not_find_is_told_with_its_defense(toy: Toy) -> None:
    called, results = toy("--threats", "oblivious", "adaptive", attacks=["toy-minimal"])
    told = {(cell["threat"], cell["short"]["defense"]): cell["warnings"][0] for cell in results["cells"]}
    assert told["oblivious", "toy-keep"] == told["oblivious", "toy-dim"]
    assert told["oblivious", "toy-keep"].startswith("toy-minimal found no adversarial image for")
    for defense in ("toy-keep", "toy-dim"):
        expected = f"toy-minimal (adaptive, against {defense}) found no adversarial image for"
        assert told["adaptive", defense].startswith(expected)
    assert called.out.count("found no adversarial image") == 3


def test_a_damaged_entry_is_computed_again_with_a_warning(toy: Toy, tmp_path: Path, log: Path) -> None:
    _, before = toy()
    cells = sorted((tmp_path / "store" / "cells").rglob("*.json"))
    images = next((tmp_path / "store" / "adversarial").rglob("*.safetensors"))
    cells[0].write_bytes(cells[0].read_bytes()[:50])
    images.write_bytes(images.read_bytes()[:-4])
    called, after = toy()
    assert "damaged" in called.err
    assert len(lines(log)) == 2
    for old, new in zip(before["cells"], after["cells"], strict=True):
        assert old["robust_accuracy"] == new["robust_accuracy"]


def test_samples_in_several_chunks_are_all_attacked_once(toy: Toy, log: Path) -> None:
    _, results = toy("--batch-size", 400, datasets=["toy:size=1100"], defenses=["toy-keep", "toy-dim"])
    assert lines(log) == ["0.1 400", "0.1 100", "0.1 400", "0.1 100", "0.1 100"]
    assert {cell["n"] for cell in results["cells"]} == {1100}


def test_two_worker_processes_give_the_same_cells_as_one(toy: Toy) -> None:
    flags = {"attacks": ["toy-sign:jitter=true", "toy-minimal"], "defenses": ["toy-keep", "toy-noise"]}
    _, one = toy(**flags, store="a")
    called, two = toy("--jobs", 2, **flags, store="b")
    assert called.code == 0
    timed = ("seconds", "craft_seconds")
    assert [{k: v for k, v in cell.items() if k not in timed} for cell in one["cells"]] == [
        {k: v for k, v in cell.items() if k not in timed} for cell in two["cells"]
    ]


def test_an_earlier_run_is_shown_again(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    called, results = toy()
    store, target = ("--store", tmp_path / "store"), tmp_path / "again.json"
    shown = call("leaderboard", "latest", *store, "--export", target)
    assert shown.code == 0
    assert shown.out == called.out
    assert json.loads(target.read_text())["cells"] == results["cells"]
    assert call("leaderboard", results["run"]["run"][:6], *store).out == called.out
    assert "names no run" in call("leaderboard", "zzz", *store).error_line()


def test_the_manifest_is_written_before_anything_is_computed(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("advbench.session.run.run_schedule", stop)
    called, _ = toy()
    assert called.code == 130
    assert "0 of 2 cells are finished and stored. Resume with: advbench matrix --datasets toy" in called.err
    store = Store(tmp_path / "store")
    manifest = store.read_manifest(next(store.runs()))
    assert manifest is not None
    assert len(manifest["cells"]) == 2


def test_a_run_says_at_once_how_long_it_will_take(toy: Toy) -> None:
    called, _ = toy()
    lines = called.err.splitlines()
    forecast = next(index for index, line in enumerate(lines) if line.startswith("this will take"))
    first_cell = next(index for index, line in enumerate(lines) if line.startswith("["))
    assert forecast < first_cell
    assert "roughly" not in lines[forecast]
    called, _ = toy(attacks=["toy-minimal"])
    assert "this will take very roughly" in called.err, "toy-minimal does not say how many passes it takes"
    called, _ = toy()
    assert "this will take" not in called.err, "nothing is left to do"


def test_a_quiet_run_prints_the_board_alone(toy: Toy) -> None:
    called, _ = toy("-q")
    assert called.err == ""
    assert "toy-dim" in called.out
