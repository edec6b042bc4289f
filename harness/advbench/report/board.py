"""Boards: results as tables of text, which the terminal and the files render each in their own way."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from advbench.analysis import NOT_ADAPTIVE
from advbench.api.parameters import format_value
from advbench.report.sweeps import sweep_groups, terms_of, with_sweep_names

__all__ = ["DAGGER", "DOUBTFUL", "FAILED", "NORMS", "NOT_RUN", "Board", "BoardCell", "Column", "make_boards", "percent"]

NOT_RUN = "—"
FAILED = "ERR"
DOUBTFUL = "!"
DAGGER = "†"

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's heading.

    Attributes:
        title: What it is, such as an attack's name.
        details: What must be known to read it, a few words each: an attack's parameters and kind.
    """

    title: str
    details: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class BoardCell:
    """What one place of a board shows.

    Attributes:
        text: The text.
        score: What the best of its column is told by; None where it does not compete.
        best: Whether it is the best of its column.
        failed: Whether it stands for a failure.
        interval: The 95 % interval of what it shows, as fractions; None where it has none of its own.
        place: For an attack's result, its place among the cells of the results.
        stands_for: The full spec of what a row's first cell names.
    """

    text: str
    score: float | None = None
    best: bool = False
    failed: bool = False
    interval: tuple[float, float] | None = None
    place: int | None = None
    stands_for: str = ""


@dataclasses.dataclass(frozen=True)
class Board:
    """The leaderboard of one dataset and model.

    Attributes:
        title: Dataset, number of samples, model and threats.
        columns: Headings; the first column names the defense.
        rows: One a defense, the best worst case first; those of a sweep stand together, at the place of their best
            and in the order of their parameters.
        notes: What must be known to read it, a sentence each.
        groups: How many rows each group has, from the first: one, or those of a sweep.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[BoardCell, ...], ...]
    notes: tuple[str, ...]
    groups: tuple[int, ...] = ()


class _Placed(NamedTuple):
    """A cell of the results, and its place among them."""

    cell: Mapping[str, Any]
    place: int


def make_boards(results: Mapping[str, Any]) -> list[Board]:
    """Lays out every leaderboard of some results."""
    lines: dict[tuple[str, ...], _Placed] = {}
    for at, cell in enumerate(with_sweep_names(results["cells"])):
        lines[tuple(cell[key] for key in ("dataset", "model", "defense", "threat", "attack"))] = _Placed(cell, at)
    return [_board(results["run"], leaderboard, lines) for leaderboard in results["leaderboards"]]


def percent(share: float) -> str:
    """A fraction in per cent with one decimal: ``0.985`` is ``98.5``."""
    return f"{100 * share:.1f}"


def _board(run: Mapping[str, Any], leaderboard: Mapping[str, Any], lines: Mapping[tuple[str, ...], _Placed]) -> Board:
    dataset, model, threats = (leaderboard[key] for key in ("dataset", "model", "threats"))
    heads = [(column["threat"], column["attack"]) for column in leaderboard["columns"]]
    groups = sweep_groups(leaderboard["rows"])
    rows = [row for group in groups for row in group]
    placed = [[lines[dataset, model, row["defense"], threat, attack] for threat, attack in heads] for row in rows]
    grid = [[one.cell for one in line] for line in placed]
    attacks, short = grid[0], grid[0][0]["short"]
    several = len(threats) > 1
    columns = [_attack_column([cells[place] for cells in grid], several) for place in range(len(attacks))]
    shown = [_row(row, cells) for row, cells in zip(rows, placed, strict=True)]
    return Board(
        title=f"{short['dataset']} · {short['model']} · {' and '.join(threats)} · n = {run['n'][dataset]:,}",
        columns=(Column("defense"), Column("clean"), *columns, Column("worst case"), Column("95 % interval")),
        rows=_mark_best(shown),
        notes=(
            *_notes({name: run["threats"][name] for name in threats}, attacks),
            *_seeds(run.get("seeds", ())),
            *_marks(rows, grid),
        ),
        groups=tuple(len(group) for group in groups),
    )


def _attack_column(cells: Sequence[Mapping[str, Any]], several: bool) -> Column:
    """An attack's heading: its threat where the board has several, its kind, its parameters.

    To the kind belongs its budget or, for a minimal attack, how far it went.
    """
    (term,) = terms_of(cells[0]["short"]["attack"])
    known = next((cell for cell in cells if cell["attack_kind"] is not None), cells[0])
    told: tuple[str, ...] = ()  # by the kind's own lines
    kind: tuple[str, ...] = ()
    if known["attack_kind"] == "budget":
        told = ("eps",)
        kind = ("budget", f"{NORMS[known['budget']['norm']]} ≤ {format_value(known['budget']['eps'])}")
    elif known["attack_kind"] == "minimal":
        told = ("search",)
        kind = ("minimal", *_medians(known.get("norm"), cells))
    parameters = tuple(f"{key}={value}" for key, (value,) in term.items if key not in told)
    threat = (cells[0]["threat"],) if several else ()
    return Column(term.name, (*threat, *kind, *parameters))


def _medians(norm: str | None, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The median distortion of a minimal attack in its own norm, or in both that are measured where it has neither.

    It is from the smallest to the largest where the attacker sees the defense, and so differs from cell to cell.
    """
    measured = [cell for cell in cells if cell["status"] == "ok"]
    lines = []
    for key in (norm,) if norm in ("linf", "l2") else ("linf", "l2"):
        medians = [cell[f"median_{key}"] for cell in measured if cell[f"median_{key}"] is not None]
        if medians:
            span = dict.fromkeys(f"{median:#.3g}".rstrip(".") for median in (min(medians), max(medians)))
            lines.append(f"median {NORMS[key]} {'–'.join(span)}")
    return lines or ["nothing found"] * bool(measured)


def _row(row: Mapping[str, Any], cells: Sequence[_Placed]) -> list[BoardCell]:
    clean = row["clean_accuracy"]
    marked = f" {DAGGER}" if NOT_ADAPTIVE in row.get("marks", ()) else ""
    return [
        BoardCell(cells[0].cell["short"]["defense"] + marked, stands_for=row["defense"]),
        BoardCell(NOT_RUN) if clean is None else BoardCell(percent(clean), clean),
        *(_accuracy(cell, place) for cell, place in cells),
        *_worst_case(row["worst_case"]),
    ]


def _accuracy(cell: Mapping[str, Any], place: int) -> BoardCell:
    if cell["status"] == "ok":
        doubt = f"{DOUBTFUL} " if cell.get("findings") else ""
        spread = _spread(cell.get("robust_accuracy_seeds") or cell.get("robust_accuracy_draws"))
        low, high = cell["robust_accuracy_ci95"]
        text = doubt + percent(cell["robust_accuracy"]) + spread
        return BoardCell(text, cell["robust_accuracy"], interval=(low, high), place=place)
    failed = cell["status"] == "error"
    return BoardCell(FAILED if failed else NOT_RUN, failed=failed, place=place)


def _spread(values: Mapping[str, Any] | None) -> str:
    """The standard deviation over seeds or draws, where there are several."""
    return "" if not values or values["std"] is None else f" ± {percent(values['std'])}"


def _worst_case(worst: Mapping[str, Any] | None) -> tuple[BoardCell, BoardCell]:
    """The worst case and its interval; over only some of the attacks it is no more than an upper bound."""
    if worst is None:
        return BoardCell(NOT_RUN), BoardCell(NOT_RUN)
    if not worst["complete"]:
        return BoardCell(f"≤ {percent(worst['accuracy'])}"), BoardCell(NOT_RUN)
    low, high = worst["ci95"]
    spread = _spread(worst.get("seeds"))
    accuracy = BoardCell(percent(worst["accuracy"]) + spread, worst["accuracy"], interval=(low, high))
    return accuracy, BoardCell(f"{percent(low)}–{percent(high)}")


def _mark_best(rows: Sequence[Sequence[BoardCell]]) -> tuple[tuple[BoardCell, ...], ...]:
    """Marks the highest of each column, all of them where several tie, none where all are alike."""
    columns = []
    for column in zip(*rows, strict=True):
        scores = {cell.score for cell in column if cell.score is not None}
        highest = max(scores) if len(scores) > 1 else None
        columns.append([c if highest is None or c.score != highest else _best(c) for c in column])
    return tuple(zip(*columns, strict=True))


def _best(cell: BoardCell) -> BoardCell:
    return dataclasses.replace(cell, best=True)


def _seeds(seeds: Collection[str]) -> list[str]:
    """What the numbers are where there are several seeds."""
    return [f"Accuracies and medians are means over the seeds {', '.join(seeds)}."] if len(seeds) > 1 else []


def _marks(rows: Sequence[Mapping[str, Any]], grid: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """What the marks on a board mean, where it has any."""
    notes = []
    if any(NOT_ADAPTIVE in row.get("marks", ()) for row in rows):
        notes.append(
            f"{DAGGER} {NOT_ADAPTIVE}: nothing here tells whether the defense withstands an attacker who knows it; "
            "add --threats oblivious adaptive."
        )
    cells = [cell for line in grid for cell in line]
    over = [
        word
        for word, key in (("seeds", "robust_accuracy_seeds"), ("draws of the defense", "robust_accuracy_draws"))
        if any(cell.get(key) for cell in cells)
    ]
    if over:
        notes.append(f"± is the standard deviation over {over[0]}.")
    if any(cell.get("findings") for cell in cells):
        notes.append(f"{DOUBTFUL} a sanity check speaks against this number: see below.")
    return notes


def _notes(threats: Mapping[str, Mapping[str, str]], attacks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader of this board must know."""
    notes = []
    for name, threat in threats.items():
        how = f" ({threat['how']})" if threat.get("how") else ""
        notes.append(f"Threat {name}: {threat['meaning']}{how}; {threat['caveat']}.")
    if any(cell["attack_kind"] == "minimal" and cell["threat"] != "adaptive" for cell in attacks):
        notes.append(
            "A minimal attack stops at the nearest image that fools the attacked model, so that almost any "
            "transform may undo it; what is left after it is no measure of security."
        )
    return notes
