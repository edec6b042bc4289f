"""``python -m benchmarks``, as a user runs it, with settings so small that the numbers mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert made.returncode == 0, made.stderr
    return made


def test_attacks_are_compared_with_foolbox_and_the_report_equals_the_output(tmp_path: Path) -> None:
    words = (
        "attacks",
        "--attacks",
        "fgsm,pgd,ddn,fgsm minimal",
        "--peers",
        "Foolbox",
        "--limit",
        "5",
        "--repeats",
        "1",
    )
    small = ("--steps", "4", "--ddn-steps", "5", "--grid", "10", "--device", "cpu")
    made = benchmarks(*words, *small, "--output", str(tmp_path))
    report = json.loads((tmp_path / "report.json").read_text())
    (table,) = report["tables"]
    rows = [(row["attack"], row["implementation"]) for row in table["rows"]]
    assert rows[:2] == [("fgsm", "advbench"), ("fgsm", "Foolbox")]
    assert {attack for attack, _ in rows} == {"fgsm", "pgd", "ddn", "fgsm minimal"}
    by_name = {(row["attack"], row["implementation"]): row for row in table["rows"]}
    ours, theirs = by_name["fgsm", "advbench"], by_name["fgsm", "Foolbox"]
    assert ours["robust accuracy %"] <= theirs["robust accuracy %"]  # less where Foolbox's cross-entropy vanishes
    assert (ours["passes forward"], ours["backward"]) == (1, 1)
    assert by_name["pgd", "advbench"]["passes forward"] == 4
    assert by_name["pgd", "advbench early_stop"]["passes forward"] <= 4
    assert by_name["fgsm minimal", "Foolbox"]["backward"] == 10
    assert (tmp_path / "report.md").read_text().endswith(made.stdout.strip() + "\n")


def test_defenses_are_compared_with_loops(tmp_path: Path) -> None:
    benchmarks("defenses", "--limit", "3", "--repeats", "1", "--output", str(tmp_path))
    (table,) = json.loads((tmp_path / "report.json").read_text())["tables"]
    assert len(table["rows"]) == 8
    jpeg = [row["agreement"] for row in table["rows"] if row["defense"].startswith("jpeg")]
    assert jpeg == ["equal bytes"] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["atacks"], "there is no 'atacks'; there are attacks, defenses"),
        (["--attacks", "fgm"], "there is no 'fgm'"),
        (["--peers", "Clever"], "Foolbox"),
    ],
)
def test_unknown_names_are_usage_errors(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
