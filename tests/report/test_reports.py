"""Reports agree with the results and are not misleading."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from advbench.discovery.loading import discover
from advbench.errors import UsageError
from advbench.report import Html, plan_exports, print_results, write_export
from advbench.report.board import make_boards
from advbench.report.data_files import Csv, Json
from advbench.report.latex import Latex
from advbench.report.markdown import Markdown, escape

ATTACKS = {"fgsm:eps=0.3": "budget", "deepfool:steps=50": "minimal"}
ROBUST = {"none": (0.1, 0.0), "jpeg:quality=75": (0.15, 0.9), "tvm:drop=0.5": (0.2, 0.4)}


@pytest.fixture
def results() -> dict[str, Any]:
    """Results of two attacks on three defenses."""
    cells, rows = [], []
    for index, (attack, kind) in enumerate(ATTACKS.items()):
        for defense, robust in ROBUST.items():
            cells.append(
                {
                    "dataset": "digits", "model": "net", "attack": attack, "threat": "oblivious", "defense": defense,
                    "short": {"dataset": "digits", "model": "net", "attack": attack.split(":")[0],
                              "defense": defense.split(":")[0]},
                    "attack_kind": kind, "budget": {"norm": "linf", "eps": 0.3} if kind == "budget" else None,
                    "status": "ok", "error": None, "n": 1000,
                    "clean_accuracy": 0.987 if defense != "tvm:drop=0.5" else 0.82,
                    "robust_accuracy": robust[index], "robust_accuracy_ci95": [robust[index] - 0.01, 0.95],
                    "attack_success_rate": 0.5, "norm": "linf" if kind == "budget" else "l2",
                    "median_linf": 0.25, "median_l2": 1.913, "seconds": 1.0,
                    "craft_seconds": 2.0, "warnings": [],
                }
            )  # fmt: skip
    for defense, robust in sorted(ROBUST.items(), key=lambda item: -min(item[1])):
        clean = 0.987 if defense != "tvm:drop=0.5" else 0.82
        worst = {"accuracy": min(robust), "ci95": [0.0, 0.3], "complete": True}
        rows.append({"defense": defense, "clean_accuracy": clean, "worst_case": worst})
    return {
        "schema": 1,
        "run": {
            "run": "abc123", "name": "quickstart", "command": "advbench matrix --seed 3", "seed": 3,
            "created": "2026-01-02T03:04:05+00:00", "device": "cpu", "threads": 2, "n": {"digits": 1000},
            "versions": {"advbench": "0.1.0"},
            "threats": {"oblivious": {"meaning": "knows the model only", "caveat": "proves little"}},
        },
        "cells": cells,
        "leaderboards": [
            {
                "dataset": "digits", "model": "net", "threats": ["oblivious"], "rows": rows,
                "columns": [{"threat": "oblivious", "attack": attack} for attack in ATTACKS],
            }
        ],
    }  # fmt: skip


def shown(results: dict[str, Any], width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    print_results(console, results)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def add_attacks(results: dict[str, Any], count: int) -> None:
    """Adds attacks with a long parameter."""
    for number in range(count):
        attack = f"more{number}:eps=0.3,steps=40"
        results["leaderboards"][0]["columns"].append({"threat": "oblivious", "attack": attack})
        for cell in results["cells"][:3]:
            extra = copy.deepcopy(cell)
            extra.update(attack=attack)
            extra["short"]["attack"] = f"more{number}:learning_rate=0.0123456789"
            results["cells"].append(extra)


def test_a_board_has_one_row_per_defense_and_ordered_columns(results: dict[str, Any]) -> None:
    (board,) = make_boards(results)
    assert [column.title for column in board.columns] == [
        "defense", "clean", "fgsm", "deepfool", "worst case", "95 % interval",
    ]  # fmt: skip
    assert [[cell.text for cell in row] for row in board.rows] == [
        ["tvm", "82.0", "20.0", "40.0", "20.0", "0.0–30.0"],
        ["jpeg", "98.7", "15.0", "90.0", "15.0", "0.0–30.0"],
        ["none", "98.7", "10.0", "0.0", "0.0", "0.0–30.0"],
    ]


def test_the_heading_shows_the_kind_of_attack_and_the_median_distortion(results: dict[str, Any]) -> None:
    (board,) = make_boards(results)
    assert [column.details for column in board.columns[2:4]] == [
        ("budget", "L∞ ≤ 0.3"), ("minimal", "median L2 1.91"),
    ]  # fmt: skip


def test_the_heading_shows_parameters_that_differ_from_defaults(results: dict[str, Any]) -> None:
    for cell in results["cells"][:3]:
        cell["short"]["attack"] = "fgsm:eps=8/255,steps=3"
        cell["budget"]["eps"] = 8 / 255
    assert make_boards(results)[0].columns[2].details == ("budget", "L∞ ≤ 8/255", "steps=3")
    assert " fgsm<br>budget<br>L∞ ≤ 8/255<br>steps=3 |" in Markdown().render(results)


@pytest.mark.parametrize(
    ("norm", "medians"),
    [
        ("linf", ["median L∞ 0.250"]),
        ("l2", ["median L2 1.91"]),
        ("l1", ["median L1 35.0"]),
        (None, ["median L∞ 0.250", "median L2 1.91"]),
    ],
)
def test_a_minimal_attack_shows_the_median_in_its_norm(
    results: dict[str, Any], norm: str | None, medians: list[str]
) -> None:
    for cell in results["cells"][3:]:
        cell["norm"] = norm
        cell["median_size"] = 35.0 if norm == "l1" else None
        cell["short"]["attack"] = "pgd:search=minimal,steps=10"
    details = make_boards(results)[0].columns[3].details
    assert details == ("minimal", *medians, "steps=10"), "'minimal' says that the search is minimal"
    assert f" pgd<br>minimal<br>{'<br>'.join(medians)}<br>steps=10 |" in Markdown().render(results)


def test_results_without_a_norm_show_both_medians(results: dict[str, Any]) -> None:
    for cell in results["cells"]:
        del cell["norm"]
    assert make_boards(results)[0].columns[3].details == ("minimal", "median L∞ 0.250", "median L2 1.91")


def test_medians_that_differ_between_defenses_are_shown_as_a_range(results: dict[str, Any]) -> None:
    for cell, median in zip(results["cells"][3:], (0.00521, None, 12.34), strict=True):
        cell["median_l2"] = median
    assert make_boards(results)[0].columns[3].details == ("minimal", "median L2 0.00521–12.3")


def test_a_minimal_attack_without_a_median_shows_why(results: dict[str, Any]) -> None:
    for cell in results["cells"][3:]:
        cell["median_l2"] = None
    assert make_boards(results)[0].columns[3].details == ("minimal", "none fooled")
    for cell in results["cells"][3:]:
        cell.update(status="skipped", error="not run", robust_accuracy=None)
    assert make_boards(results)[0].columns[3].details == ("minimal",)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_many_attacks_are_split_into_tables_without_broken_numbers_or_words(
    results: dict[str, Any], width: int
) -> None:
    add_attacks(results, 7)
    (line,) = results["leaderboards"]
    text = shown(results, width)
    table = text[: text.index("Threat oblivious")]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for word in ("minimal", "deepfool", "worst", "interval", "0.0–30.0", *(f"more{number}" for number in range(7))):
        assert re.search(rf"(^|\s){word}(\s|$)", table), word
    assert table.count("budget") == 8
    headings = [line for line in table.splitlines() if "defense" in line]
    rows = [line for line in table.splitlines() if line.lstrip().startswith("tvm")]
    assert len(headings) == len(rows) > 1, "every table names the defenses"
    assert len(line["rows"]) * len(rows) == sum(
        line.lstrip().startswith(("tvm", "jpeg", "none")) for line in table.splitlines()
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_first_of_several_tables_has_the_worst_case_and_its_interval_next_to_the_defense(
    results: dict[str, Any], width: int
) -> None:
    add_attacks(results, 10)
    table = shown(results, width).split("Threat oblivious")[0]
    first, *others = re.split(r"^(?=Attacks? \d)", table, flags=re.MULTILINE)[1:]
    assert first.splitlines()[0].endswith(" of 12. The worst case is over all 12 attacks.")
    assert re.search(r"^ defense +worst( case)? +95 %( interval)? +clean +fgsm", first, re.MULTILINE)
    for row in (r"tvm +20\.0", r"jpeg +15\.0", r"none +0\.0"):
        assert re.search(rf"^ {row} +0\.0–30\.0 +\d", first, re.MULTILINE), row
    assert others and "worst" not in "".join(others)
    numbers = [int(number) for number in re.findall(r"\d+(?=–\d+ of 12\.| of 12\.)", table)]
    assert numbers[0] == 1 and numbers[-1] == 12 and numbers == sorted(numbers), "each part names its attacks"


def test_a_board_in_one_table_has_the_worst_case_last(results: dict[str, Any]) -> None:
    text = shown(results, 120)
    assert re.search(r"^ defense +clean +fgsm +deepfool +worst case +95 % interval *$", text, re.MULTILINE)
    assert "Attacks 1" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_name_without_break_points_breaks_no_number(results: dict[str, Any], width: int) -> None:
    for cell in results["cells"]:
        if cell["defense"] == "none":
            cell["short"]["defense"] = "n" * 3000
    results["cells"][0]["short"]["attack"] = "fgsm:weights=/" + "w" * 200
    text = shown(results, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert sum(line.count("n") for line in text.splitlines() if re.match(" n{20}", line)) == 3000
    for number in ("98.7", "82.0", "15.0", "90.0", "0.0–30.0", "40.0"):
        assert re.search(rf"(^|\s){number}(\s|$)", text), number


def test_the_best_of_each_column_is_marked_including_ties(results: dict[str, Any]) -> None:
    (board,) = make_boards(results)
    best = [[board.rows[row][column].best for row in range(3)] for column in range(6)]
    assert best == [
        [False] * 3, [False, True, True], [True, False, False], [False, True, False], [True, False, False], [False] * 3,
    ]  # fmt: skip


def test_nothing_is_marked_if_all_are_equal(results: dict[str, Any]) -> None:
    for cell in results["cells"]:
        cell["robust_accuracy"] = 0.0
    (board,) = make_boards(results)
    assert not any(row[2].best for row in board.rows)


def test_failed_and_missing_cells_are_never_numbers(results: dict[str, Any]) -> None:
    broken = copy.deepcopy(results)
    broken["cells"][0].update(status="error", error="ContractError: broke", robust_accuracy=None)
    broken["cells"][4].update(status="skipped", error="not run", robust_accuracy=None)
    for row in broken["leaderboards"][0]["rows"]:
        row["worst_case"]["complete"] = row["defense"] == "tvm:drop=0.5"
    text = shown(broken)
    assert "ERR" in text
    assert "ContractError: broke" in text
    assert "—" in text
    assert "≤ 15.0" in text
    (board,) = make_boards(broken)
    assert [row[-1].text for row in board.rows] == ["0.0–30.0", "—", "—"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_numbers_provenance_and_the_caveat_of_the_threat(
    results: dict[str, Any], width: int
) -> None:
    text = shown(results, width)
    for expected in ("98.7", "20.0", "advbench matrix --seed 3", "seed 3", "abc123", "n = 1,000", "Proves little"):
        assert expected in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_markdown_numbers_equal_the_json(results: dict[str, Any]) -> None:
    parsed = json.loads(Json().render(results))
    assert parsed == results
    text = Markdown().render(results)
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    rows = {cells[0].strip(): [cell.strip(" *") for cell in cells[1:4]] for cells in table}
    for cell in parsed["cells"]:
        index = 1 + list(ATTACKS).index(cell["attack"])
        assert rows[cell["short"]["defense"]][index] == f"{100 * cell['robust_accuracy']:.1f}"
        assert rows[cell["short"]["defense"]][0] == f"{100 * cell['clean_accuracy']:.1f}"


def test_csv_has_one_row_per_cell_and_equals_the_json(results: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(Csv().render(results))))
    assert len(rows) == 6
    for row, cell in zip(rows, results["cells"], strict=True):
        assert row["defense"] == cell["defense"]
        assert float(row["robust_accuracy"]) == cell["robust_accuracy"]
        assert float(row["robust_accuracy_ci95_low"]) == cell["robust_accuracy_ci95"][0]


def test_names_from_plugins_are_escaped_in_markdown(results: dict[str, Any]) -> None:
    results["cells"][0]["short"]["defense"] = "<img src=x>|a*b*`c`"
    results["cells"][0].update(status="error", error="<script>alert(1)</script>\n| x |")
    text = Markdown().render(results)
    bare = re.findall(r"(?<!\\)<(?!br>)", text)
    assert not bare, "HTML that is not escaped"
    assert "<img" not in text
    assert r"&lt;img src=x&gt;\|a\*b\*" in text
    assert escape("a\nb") == "a b"


def test_a_block_of_a_readme_is_updated_in_place(results: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(
        "# Mine\n\n<!-- advbench:begin other -->\nkeep\n<!-- advbench:end other -->\n"
        "<!-- advbench:begin quickstart -->\nold\n<!-- advbench:end quickstart -->\n\nEnd.\n"
    )
    registry = discover(["advbench.report.plugin"])
    for _ in range(2):
        (export,) = plan_exports(registry, [str(readme)], "quickstart")
        write_export(export, results)
    text = readme.read_text()
    assert text.startswith("# Mine\n\n<!-- advbench:begin other -->\nkeep\n<!-- advbench:end other -->\n")
    assert text.endswith("<!-- advbench:end quickstart -->\n\nEnd.\n")
    assert "old" not in text
    assert text.count("98.7") == 2
    (export,) = plan_exports(registry, [f"{readme}#other"], "quickstart")
    assert export.block == "other"


def test_a_new_markdown_file_is_one_block_that_can_be_updated(results: dict[str, Any], tmp_path: Path) -> None:
    registry = discover(["advbench.report.plugin"])
    target = str(tmp_path / "r.md")
    write_export(plan_exports(registry, [target], "quickstart")[0], results)
    first = Path(target).read_text()
    assert first.startswith("<!-- advbench:begin quickstart -->\n")
    (export,) = plan_exports(registry, [target], "another run")
    write_export(export, results)
    assert Path(target).read_text() == first


def export(results: dict[str, Any], target: Path | str) -> None:
    (planned,) = plan_exports(discover(["advbench.report.plugin"]), [str(target)], "quickstart")
    write_export(planned, results)


def test_line_endings_links_and_modes_of_a_file_are_kept(results: dict[str, Any], tmp_path: Path) -> None:
    real, link = tmp_path / "real.md", tmp_path / "link.md"
    real.write_bytes(b"# Mine\r\n<!-- advbench:begin a -->\r\n<!-- advbench:end a -->\r\n")
    real.chmod(0o640)
    link.symlink_to(real)
    export(results, link)
    content = real.read_bytes()
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert b"98.7" in content
    assert content.count(b"\n") == content.count(b"\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "<!-- advbench:end a -->\n<!-- advbench:begin a -->\n",
        "<!-- advbench:begin a -->\n<!-- advbench:begin b -->\n<!-- advbench:end a -->\n<!-- advbench:end b -->\n",
        "<!-- advbench:begin a -->\n<!-- advbench:end a -->\n<!-- advbench:begin a -->\n<!-- advbench:end a -->\n",
    ],
    ids=["reversed", "overlapping", "twice"],
)
def test_markers_that_do_not_match_are_an_error(results: dict[str, Any], tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(UsageError, match="do not match"):
        export(results, readme)
    assert readme.read_text() == text


def test_a_file_whose_block_has_disappeared_is_not_changed(results: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- advbench:begin quickstart -->\n<!-- advbench:end quickstart -->\n")
    (planned,) = plan_exports(discover(["advbench.report.plugin"]), [str(readme)], "quickstart")
    readme.write_text("Something else entirely.\n")
    with pytest.raises(UsageError, match="the block 'quickstart' has disappeared"):
        write_export(planned, results)
    assert readme.read_text() == "Something else entirely.\n"


def test_an_unusual_suite_name_gives_a_block_that_can_be_updated(results: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "r.md"
    for _ in range(2):
        (planned,) = plan_exports(discover(["advbench.report.plugin"]), [str(target)], "my suite --> v2")
        write_export(planned, results)
    assert target.read_text().startswith("<!-- advbench:begin my-suite----v2 -->\n")
    with pytest.raises(UsageError, match="the name of a block"):
        plan_exports(discover(["advbench.report.plugin"]), [f"{target}#my block"], "x")


def test_a_board_of_two_threats_has_named_columns_for_both(results: dict[str, Any]) -> None:
    (line,) = results["leaderboards"]
    line["threats"].append("adaptive")
    line["columns"].append({"threat": "adaptive", "attack": "fgsm:eps=0.3"})
    how = {"meaning": "knows both", "caveat": "may still fall", "how": "4 draws for each gradient"}
    results["run"]["threats"]["adaptive"] = how
    results["cells"] += [{**cell, "threat": "adaptive", "robust_accuracy": 0.05} for cell in results["cells"][:3]]
    (board,) = make_boards(results)
    assert board.title == "digits · net · oblivious and adaptive · n = 1,000"
    heads = [(column.title, column.details[:2]) for column in board.columns[2:5]]
    assert heads == [
        ("fgsm", ("oblivious", "budget")), ("deepfool", ("oblivious", "minimal")), ("fgsm", ("adaptive", "budget")),
    ]  # fmt: skip
    assert [row[4].text for row in board.rows] == ["5.0"] * 3
    assert "Threat adaptive: knows both (4 draws for each gradient). May still fall." in board.notes


def test_json_has_the_complete_structure_with_one_cell_per_line(results: dict[str, Any]) -> None:
    results["empty"], results["none"] = [], None
    text = Json().render(results)
    assert json.loads(text) == results
    assert list(json.loads(text)) == list(results)
    cells = text[text.index('"cells": [') :].splitlines()[1 : 1 + len(results["cells"])]
    assert [json.loads(line.rstrip(",")) for line in cells] == results["cells"]
    with pytest.raises(ValueError, match="JSON"):
        Json().render({"cells": [float("nan")]})


@pytest.mark.parametrize(("precision", "shown"), [("bf16", True), ("float32", False), (None, False)])
def test_the_footer_shows_another_precision(results: dict[str, Any], precision: str | None, shown: bool) -> None:
    if precision:
        results["run"]["precision"] = precision
    assert ("2 threads, attacked in bf16 and scored in float32" in Markdown().render(results)) is shown


@pytest.fixture
def patches(results: dict[str, Any]) -> dict[str, Any]:
    """The same results of patches of two areas."""
    for cell in results["cells"]:
        area = 0.03 if cell["attack_kind"] == "budget" else 0.1
        cell["short"]["attack"] = f"patch:area={area:g},steps=5"
        cell.update(
            attack_kind="set",
            median_size=area * 0.8,
            perturbation={"kind": "patch", "label": f"area ≤ {100 * area:g} %", "size": "area"},
        )
    results["leaderboards"][0]["kind"] = "patch"
    return results


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_number_is_not_parted_from_its_unit(patches: dict[str, Any], width: int) -> None:
    table = shown(patches, width).partition("Threat oblivious")[0]
    assert not re.search(r"^\s*%|(\s{2})%", table, re.MULTILINE)
    assert re.search(r"\b2\.40 %", table) and re.search(r"\b8\.00 %", table)


def test_the_area_of_a_patch_stands_once(patches: dict[str, Any]) -> None:
    (board,) = make_boards(patches)
    assert board.columns[2].details == ("area ≤ 3 %", "median area 2.40 %", "steps=5")


def test_an_mce_without_a_number_is_explained(results: dict[str, Any]) -> None:
    board = results["leaderboards"][0]
    board.update(kind="corruption", reference="net")
    for row in board["rows"]:
        row.update(mean=row.pop("worst_case"), worst_case=None, mce=1.2)
    assert not any("—" in note for note in make_boards(results)[0].notes)
    board["rows"][0]["mce"] = None
    assert any(note.startswith("mCE (—): unknown") for note in make_boards(results)[0].notes)


def test_names_of_models_and_defenses_are_aligned_to_the_left_in_latex(results: dict[str, Any]) -> None:
    board = results["leaderboards"][0]
    board["model"] = None
    for row in board["rows"]:
        row["model"] = "net"
    heads = re.findall(r"\[b\]\{@\{\}([lr])@\{\}\}([^\\]*)", Latex().render(results))
    assert heads[0] == ("l", "model $")
    assert {side for side, _ in heads[1:]} == {"r"}


def test_a_page_names_the_threats_of_its_cells_alone_and_no_threat_of_corruptions(results: dict[str, Any]) -> None:
    threats = results["run"]["threats"]
    threats["none"] = threats["adaptive"] = {"meaning": "no attacker", "caveat": "proves nothing"}
    for cell in results["cells"]:
        cell["threat"] = "none"
    board = results["leaderboards"][0]
    board["threats"] = ["none"]
    for column in board["columns"]:
        column["threat"] = "none"
    page = Html().render(results)
    assert "threat none" in page
    assert "threat adaptive" not in page and "threat oblivious" not in page
    assert 'class="badge none"' not in page
