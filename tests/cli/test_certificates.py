"""--certify: certified accuracies beside empirical ones, their records, and certificates that are wrong."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

import advbench

pytestmark = pytest.mark.slow

VOTING = Path(__file__).parent.parent / "voting_plugin.py"

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Call = Callable[..., Called]

CERTIFY = ("--plugin", VOTING, "--certify")
SWEEP = "toy-sign:eps={0.01,0.02,0.05,0.1}"


def test_certified_accuracy_is_at_most_the_empirical_one_and_equals_it_for_the_exact_attack(toy: Toy) -> None:
    called, results = toy(*CERTIFY, "--threats", "adaptive", attacks=(SWEEP,), defenses=("toy-keep", "margin"))
    assert called.code == 0, called.err
    (certified,) = results["certificates"]
    assert {key: certified[key] for key in ("norm", "status", "n", "abstained", "error")} == {
        "norm": "linf",
        "status": "ok",
        "n": 40,
        "abstained": 0,
        "error": None,
    }
    robust = {
        cell["budget"]["eps"]: cell["robust_accuracy"]
        for cell in results["cells"]
        if cell["short"]["defense"] == "margin"
    }
    assert [at["radius"] for at in certified["at"]] == sorted(robust)
    for at in certified["at"]:
        assert at["accuracy"] <= robust[at["radius"]]
        assert at["ci95"][0] <= at["accuracy"] <= at["ci95"][1]
    assert certified["accuracy"]["accuracy"] == 0.9, "every tenth label is wrong"
    assert certified["at"][0]["accuracy"] > certified["at"][-1]["accuracy"]
    curve = certified["curve"]
    assert curve["eps"] == sorted(curve["eps"]) and curve["accuracy"] == sorted(curve["accuracy"], reverse=True)
    assert (curve["accuracy"][0], curve["accuracy"][-1]) == (0.9, 0.0)
    assert "certified" in called.out and "L∞ ≤ 0.05" in called.out
    assert "no certificates of toy-keep: the first part of a defense must give them" in called.err
    assert not [f for f in results["findings"] if f["criterion"] == "attacked-within-certificate"]


def test_a_certificate_that_is_wrong_on_purpose_is_found(toy: Toy) -> None:
    _, results = toy(*CERTIFY, "--threats", "adaptive", attacks=("toy-sign:eps=0.1",), defenses=("margin:factor=50",))
    (finding,) = [f for f in results["findings"] if f["criterion"] == "attacked-within-certificate"]
    assert finding["cells"] == [0]
    assert "samples that lie within their certified radius" in finding["message"]
    assert "attacked-within-certificate" in results["cells"][0]["findings"]


def test_certificates_are_stored_in_pieces_and_share_other_results_with_other_parameters(
    toy: Toy, tmp_path: Path
) -> None:
    flags = (*CERTIFY, "--threats", "adaptive")
    called, first = toy(*flags, defenses=("margin",), datasets=("toy:size=120",))
    assert "certificates of margin: 3 of 3 pieces to do" in called.err
    folder = tmp_path / "store" / "certificates"
    records = sorted(folder.rglob("*.json"))
    assert len(records) == 3
    records[0].unlink()
    called, again = toy(*flags, "--batch-size", 7, defenses=("margin",), datasets=("toy:size=120",))
    assert "1 in the store, 0 to do" in called.err and "1 of 3 pieces to do" in called.err
    curves = [entry["certificates"][0]["curve"] for entry in (first, again)]
    assert curves[0]["accuracy"] == curves[1]["accuracy"]
    assert curves[0]["eps"] == pytest.approx(curves[1]["eps"], rel=1e-5), "the batch size changes rounding alone"
    called, wider = toy(*flags, defenses=("margin:factor=0.5",), datasets=("toy:size=120",))
    assert "1 in the store, 0 to do" in called.err, "only certificates depend on the factor"
    assert "3 of 3 pieces to do" in called.err
    assert wider["cells"][0]["robust_accuracy"] == first["cells"][0]["robust_accuracy"]
    assert wider["certificates"][0]["median_radius"] == pytest.approx(first["certificates"][0]["median_radius"] / 2)
    plain, _ = toy("--plugin", VOTING, "--threats", "adaptive", defenses=("margin",), datasets=("toy:size=120",))
    assert "pieces to do" not in plain.err and "certified" not in plain.out


def test_a_model_certifies_without_a_defense_and_abstentions_count_as_wrong(toy: Toy) -> None:
    called, results = toy(
        *CERTIFY, models=("certified",), defenses=("toy-keep", "margin:how=abstains", "toy-dim+margin")
    )
    assert called.code == 0
    by_defense = {entry["short"]["defense"]: entry for entry in results["certificates"]}
    assert set(by_defense) == {"toy-keep", "margin:how=abstains"}
    assert by_defense["toy-keep"]["accuracy"]["accuracy"] == 0.9
    assert by_defense["margin:how=abstains"]["accuracy"]["accuracy"] == 0
    assert by_defense["margin:how=abstains"]["abstained"] == 40
    assert by_defense["margin:how=abstains"]["median_radius"] is None
    assert "no certificates of toy-dim+margin" in called.err


def test_a_certificate_that_fails_is_an_error_and_nothing_else_is_lost(toy: Toy) -> None:
    called, results = toy(*CERTIFY, defenses=("margin", "margin:how=raises"))
    assert called.code == 1
    assert [entry["status"] for entry in results["certificates"]] == ["ok", "error"]
    assert "RuntimeError: no certificate today" in results["certificates"][1]["error"]
    assert [cell["status"] for cell in results["cells"]] == ["ok", "ok"]
    assert "ERR" in called.out
    message = "ERR RuntimeError: no certificate today"
    alone, _ = toy(*CERTIFY, defenses=("margin:how=raises",), store="other")
    for text in (called.out, alone.out):
        assert message in " ".join(text.split())


def test_parameters_of_certificates_leave_predictions_as_they_are(toy: Toy) -> None:
    toy(*CERTIFY, defenses=("margin",))
    called, results = toy(*CERTIFY, defenses=("margin:factor=0.5",))
    assert "has other outputs" not in called.err
    assert "1 in the store, 0 to do" in called.err
    assert results["certificates"][0]["status"] == "ok"


def test_a_certified_class_that_the_model_does_not_have_is_an_error(toy: Toy) -> None:
    called, results = toy(*CERTIFY, defenses=("margin:how=foreign",))
    assert called.code == 1
    message = "defense 'margin:factor=1,how=foreign' certified class 9, and the model has classes 0 to 2"
    assert message in results["certificates"][0]["error"]


def test_nothing_to_certify_is_a_usage_error(toy: Toy) -> None:
    called, _ = toy("--certify", defenses=("toy-keep", "toy-dim"))
    assert called.code == 2
    assert "--certify: no model or defense of the run gives certificates; add one" in called.error_line()
    called, _ = toy("--plugin", VOTING, "--certify", "--radii", "-1", defenses=("margin",))
    assert called.code == 2
    assert "-1: must be a number of at least 0" in called.error_line()


def test_radii_are_shown_where_no_attack_has_the_norm(toy: Toy) -> None:
    attacks = ("toy-minimal",)
    called, results = toy(*CERTIFY, "--radii", "0.02", "8/255", attacks=attacks, defenses=("margin",))
    assert [at["radius"] for at in results["certificates"][0]["at"]] == [0.02, 8 / 255]
    assert "no attack has an eps in this norm" in called.err
    assert "--certify --radii 0.02 8/255" in results["run"]["command"].replace("'", "")
    called, _ = toy("--plugin", VOTING, "--radii", "0.5", defenses=("margin",))
    assert "--radii changes nothing without --certify" in called.err


@pytest.mark.usefixtures("quick_workers")
def test_stored_runs_several_jobs_seeds_and_python_give_the_same_certificates(
    toy: Toy, call: Call, tmp_path: Path
) -> None:
    called, results = toy(*CERTIFY, "--jobs", 2, defenses=("margin",), datasets=("toy:size=60",))
    assert called.code == 0, called.err
    target = tmp_path / "again.json"
    shown = call("leaderboard", "latest", "--store", tmp_path / "store", "--export", target)
    assert shown.code == 0, shown.err
    assert json.loads(target.read_text())["certificates"] == results["certificates"]
    assert "certified" in shown.out
    axes = {"datasets": "toy:size=60", "models": "toy-linear", "attacks": "toy-sign", "defenses": "margin"}
    live = advbench.matrix(**axes, certify=True, plugin=[TOY, VOTING], store=tmp_path / "store", quiet=True)
    assert live.data["certificates"] == results["certificates"]
    seeds, combined = toy(*CERTIFY, "--seeds", 1, 2, defenses=("margin",), datasets=("toy:size=60",))
    assert seeds.code == 0, seeds.err
    assert combined["certificates"][0]["at"][0]["seeds"]["std"] is not None
    checked = call("cache", "verify", "--store", tmp_path / "store")
    assert checked.code == 0, checked.err
    removed = call("cache", "gc", "--store", tmp_path / "store")
    assert removed.code == 0
    assert len(list((tmp_path / "store" / "certificates").rglob("*.json"))) == 6


@pytest.mark.parametrize("suffix", ["md", "tex", "html", "csv"])
def test_every_format_has_the_certified_columns(toy: Toy, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"board.{suffix}"
    called, _ = toy(*CERTIFY, "--export", target, defenses=("toy-keep", "margin"))
    assert called.code == 0, called.err
    assert "certified" in target.read_text()
    assert suffix != "html" or "Certified accuracy by L∞ radius" in target.read_text()


def test_a_forecast_includes_certificates(toy: Toy) -> None:
    flags = (*CERTIFY, "--dry-run", "--threats", "adaptive")
    called, _ = toy(*flags, defenses=("margin",))
    assert called.code == 0, called.err
    assert "certificates of margin: 1 of 1 pieces to do" in called.err
    assert "will take" in called.err


SUITE = """
datasets = ["toy"]
models = ["toy-linear"]
attacks = ["toy-sign"]
defenses = ["margin"]
{keys}
"""


def test_a_suite_certifies(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    suite, target = tmp_path / "own.toml", tmp_path / "results.json"
    files = ("--plugin", TOY, "--plugin", VOTING, "--store", tmp_path / "store", "--export", target)
    suite.write_text(SUITE.format(keys="certify = true\nradii = [0.01]"))
    called = call("matrix", "--suite", suite, *files)
    assert called.code == 0, called.err
    (entry,) = json.loads(target.read_text())["certificates"]
    assert [at["radius"] for at in entry["at"]] == [0.01, 0.1]
    for keys, message in (
        ("certify = 1", "certify must be true or false"),
        ("radii = [-1]", "radii must be a list of numbers of at least 0"),
        ("radii = 0.5", "radii must be a list of numbers of at least 0"),
    ):
        suite.write_text(SUITE.format(keys=keys))
        refused = call("matrix", "--suite", suite, *files)
        assert refused.code == 2
        assert message in refused.error_line()


def test_a_csv_file_has_a_row_for_each_certified_accuracy(toy: Toy, tmp_path: Path) -> None:
    target = tmp_path / "cells.csv"
    _, results = toy(
        *CERTIFY, "--export", target, attacks=(SWEEP,), defenses=("toy-keep", "margin", "margin:how=raises")
    )
    rows = list(csv.DictReader(target.read_text().splitlines()))
    certified = [row for row in rows if row["attack_kind"] == "certificate"]
    assert len(rows) - len(certified) == len(results["cells"])
    right, failed = results["certificates"]
    assert [float(row["certified_accuracy"]) for row in certified[:-1]] == [
        at["accuracy"] for at in (right["accuracy"], *right["at"])
    ]
    assert [float(row["certified_radius"]) for row in certified[:-1]] == [0, 0.01, 0.02, 0.05, 0.1]
    assert not any(row["attack"] or row["robust_accuracy"] for row in certified)
    assert certified[-1]["status"] == "error" and certified[-1]["certified_accuracy"] == ""
    assert "no certificate today" in certified[-1]["error"] and failed["status"] == "error"


def test_a_certified_number_on_the_page_opens_its_curve_and_the_radius_of_each_sample(toy: Toy, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    _, results = toy(
        *CERTIFY, "--export", target, attacks=(SWEEP,), defenses=("toy-keep", "margin:how=abstains", "margin")
    )
    page = target.read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    order = [re.sub("<.*?>", " ", head) for head in re.findall(r"<th scope=\"col\".*?</th>", page, re.DOTALL)]
    assert [("toy-sign" in head, "certified" in head) for head in order[-8:]] == [(True, False)] * 4 + [
        (False, True)
    ] * 4
    places = [int(place) for place in re.findall(r'class="open" data-cell="(\d+)"', page)]
    count = len(results["cells"])
    assert {place for place in places if place >= count} == {count, count + 1}
    assert places.count(count) == places.count(count + 1) == 4
    abstains, margin = data["cells"][count:]
    assert margin["title"] == "Certificates of margin"
    assert "certified at L∞ ≤ 0.05" in dict(margin["facts"])
    assert len(margin["certified"]["samples"]) == margin["certified"]["all"] == 40
    radii = [radius for _, label, found, radius in margin["certified"]["samples"] if label == found and radius >= 0.05]
    at = next(at for at in results["certificates"][1]["at"] if at["radius"] == 0.05)
    assert len(radii) / 40 == at["accuracy"]
    assert {found for _, _, found, _ in abstains["certified"]["samples"]} == {-1}
