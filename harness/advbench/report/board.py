"""Leaderboards as tables of text, which each output format renders in its own way."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from advbench.analysis import NOT_ADAPTIVE
from advbench.analysis.set_kinds import CORRUPTION, LP
from advbench.api.goal import UNTARGETED
from advbench.api.parameters import format_value
from advbench.api.perturbation import NORM_SYMBOLS
from advbench.api.spec_text import SEPARATOR, split_specs, term_text
from advbench.printable import one_line
from advbench.report.certified import certified_cells, certified_columns, certified_notes
from advbench.report.columns import FAILED, NOT_RUN, BoardCell, Column, percent
from advbench.report.protocols import ProtocolTable, protocol_table
from advbench.report.rejections import rejected_adversarial, rejected_clean, rejection_notes
from advbench.report.sweeps import sweep_groups, terms_of, with_sweep_names

__all__ = [
    "DAGGER",
    "DOUBTFUL",
    "FAILED",
    "NORMS",
    "NOT_RUN",
    "Board",
    "BoardCell",
    "Column",
    "format_size",
    "kind_in_title",
    "make_boards",
    "model_of",
    "percent",
    "row_id",
]

DOUBTFUL = "!"
DAGGER = "†"
REACHED = "target"
MCE = "mCE: the mean over the corruptions of the error in % of that of the undefended reference model."
NO_MCE = "mCE (—): unknown, since results are missing or the reference model makes no error under a corruption."
MEAN = "Mean: the mean over the corruptions, with Wilson's 95 % interval for this number of samples."

NORMS = NORM_SYMBOLS

_KINDS = {
    "patch": "patches",
    "geometric": "rotations and shifts",
    "corruption": "corruptions",
    "unrestricted": "unrestricted",
}
"""Kinds of perturbation sets in titles; Lp balls are not named."""

_UNITS = {"area": (100.0, " %"), "angle": (1.0, "°"), "shift": (1.0, " px")}
"""Factors and units of the sizes of perturbations."""


@dataclasses.dataclass(frozen=True)
class Board:
    """The leaderboard of one dataset and model.

    Attributes:
        title: Dataset, number of samples, model and threats.
        columns: Headings; the first column names the defense.
        rows: One per defense, sorted by worst case. The rows of a sweep stand together, where the best of them would
            stand, in the order of their parameters.
        notes: Notes for readers, one sentence each.
        groups: Number of rows of each group, in order: one, or the rows of a sweep.
        certified: Number of columns of certified accuracies, which stand between those of attacks and the worst case.
        protocols: The accuracies of random defenses under each protocol; None without several draws.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[BoardCell, ...], ...]
    notes: tuple[str, ...]
    groups: tuple[int, ...] = ()
    certified: int = 0
    protocols: ProtocolTable | None = None


class _IndexedCell(NamedTuple):
    """A cell of the results and its index."""

    cell: Mapping[str, Any]
    number: int


def make_boards(results: Mapping[str, Any]) -> list[Board]:
    """Lays out all leaderboards of some results. Each of their texts is one line of printable characters."""
    cells: dict[tuple[str | None, ...], _IndexedCell] = {}
    for index, cell in enumerate(with_sweep_names(results["cells"])):
        key = tuple(cell[name] for name in ("dataset", "model", "defense", "threat", "attack"))
        key += (cell.get("surrogate"),)  # results of earlier versions lack it, also in columns
        cells[key] = _IndexedCell(cell, index)
    return [_board(results, leaderboard, cells) for leaderboard in results["leaderboards"]]


def _board(
    results: Mapping[str, Any], leaderboard: Mapping[str, Any], lines: Mapping[tuple[str | None, ...], _IndexedCell]
) -> Board:
    run = results["run"]
    dataset, threats = leaderboard["dataset"], leaderboard["threats"]
    of_all_models = leaderboard["model"] is None
    heads = [(column["threat"], column["attack"], column.get("surrogate")) for column in leaderboard["columns"]]
    groups = sweep_groups(leaderboard["rows"])
    rows = [row for group in groups for row in group]
    names = [(dataset, model_of(row, leaderboard), row["defense"]) for row in rows]
    sizes = [row.get("n", run["n"][dataset]) for row in rows]  # missing in results of earlier versions
    indexed = [[lines[name + head] for head in heads] for name in names]
    grid = [[item.cell for item in line] for line in indexed]
    attacks, short = grid[0], grid[0][0]["short"]
    has_threats = len(threats) > 1
    kind = leaderboard.get("kind", LP)  # missing in results of earlier versions
    what = (short["dataset"], *(() if of_all_models else (short["model"],)), *kind_in_title(leaderboard))
    under = () if kind == CORRUPTION else (" and ".join(threats),)
    summary = _summary_column(leaderboard)
    columns = [_attack_column([cells[index] for cells in grid], has_threats) for index in range(len(attacks))]
    labels = [_label(row, cells[0]["short"], sizes) for row, cells in zip(rows, grid, strict=True)]
    certified, radii = certified_columns(results, leaderboard, names)
    shown = [
        _row(label, row, cells, certified_cells(results, (own, size), radii))
        for label, row, cells, own, size in zip(labels, rows, indexed, names, sizes, strict=True)
    ]
    return Board(
        title=one_line(" · ".join((*what, *under, _samples(sizes)))),
        columns=(
            Column("model · defense" if of_all_models else "defense"),
            Column("clean", tuple(rejected_clean(cell for line in grid for cell in line))),
            *columns,
            *certified,
            summary,
            Column("95 % interval"),
        ),
        rows=_mark_best(shown),
        notes=(
            *map(one_line, _notes({name: run["threats"][name] for name in threats}, attacks)),
            *([MEAN] if kind == CORRUPTION else []),
            *([MCE] if "reference" in leaderboard else []),
            *([NO_MCE] if any(row.get("mce", 0) is None for row in rows) else []),
            *_seeds(run.get("seeds", ())),
            *_marks(rows, grid),
            *rejection_notes(cell for line in grid for cell in line),
            *certified_notes(radii),
        ),
        groups=tuple(len(group) for group in groups),
        certified=len(radii),
        protocols=protocol_table(grid, labels),
    )


def model_of(row: Mapping[str, Any], leaderboard: Mapping[str, Any]) -> str:
    """The full spec of the model of a row: the leaderboard's, or the row's own if its rows are models."""
    return str(row.get("model") or leaderboard["model"])


def kind_in_title(leaderboard: Mapping[str, Any]) -> tuple[str, ...]:
    """The kind of the perturbation sets for the title of a board; nothing for Lp balls."""
    kind = leaderboard.get("kind", LP)
    return (_KINDS[kind],) if kind in _KINDS else ()


def _attack_column(cells: Sequence[Mapping[str, Any]], has_threats: bool) -> Column:
    """The heading of an attack: its threat if the board has several, its kind, its parameters, and further rates.

    The surrogate stands behind the threat if the run has several. The kind includes the budget or, for a minimal
    attack, the median distortion.
    """
    (term,) = terms_of(cells[0]["short"]["attack"])
    known = next((cell for cell in cells if cell["attack_kind"] is not None), cells[0])
    omitted: tuple[str, ...] = ()  # parameters that the lines of the kind show already
    kind: tuple[str, ...] = ()
    if known["attack_kind"] == "budget":
        omitted = ("eps",)
        kind = ("budget", f"{NORMS[known['budget']['norm']]} ≤ {format_value(known['budget']['eps'])}")
    elif known["attack_kind"] == "minimal":
        omitted = ("search",)
        kind = ("minimal", *_medians(known.get("norm"), cells))
    elif known["attack_kind"] in ("set", "natural"):
        omitted = ("severity", "area")
        kind = (known["perturbation"]["label"], *_median_size(known, cells))
    parameters = tuple(f"{key}={_without(omitted, value)}" for key, (value,) in term.items if key not in omitted)
    threat = (cells[0]["threat"],) if has_threats else ()
    surrogate = (f"on {cells[0]['short']['surrogate']}",) if "surrogate" in cells[0]["short"] else ()
    reached = (*_target_success(cells), *rejected_adversarial(cells), *_queries_to_success(cells))
    return Column(one_line(term.name), tuple(map(one_line, (*threat, *surrogate, *kind, *parameters, *reached))))


def _without(omitted: Collection[str], value: str) -> str:
    """The value of a parameter; if it consists of the specs of components, without these parameters of theirs."""
    specs = [terms_of(spec) for spec in split_specs(value)]
    if not all(len(terms) == 1 for terms in specs) or not any(terms[0].items for terms in specs):
        return value
    kept = [(term.name, [(key, one[0]) for key, one in term.items if key not in omitted]) for (term,) in specs]
    return SEPARATOR.join(term_text(name, dict(items)) for name, items in kept)


def _target_success(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The smallest and the largest success rate of a targeted attack over the rows."""
    rates = [cell["target_success_rate"] for cell in cells if cell.get("target_success_rate") is not None]
    return [f"{REACHED} {'–'.join(dict.fromkeys(map(percent, (min(rates), max(rates)))))} %"] if rates else []


def _queries_to_success(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The smallest and the largest median of the queries to success, for an attack that uses no gradients."""
    measured = [queries for cell in cells if (queries := cell.get("queries")) and queries["forwards"]]
    medians = [queries["median_to_success"] for queries in measured if queries["median_to_success"] is not None]
    if not medians or any(queries["backwards"] for queries in measured):
        return []
    span = dict.fromkeys(f"{round(median):,}" for median in (min(medians), max(medians)))
    return [f"median {'–'.join(span)} queries"]


def _medians(norm: str | None, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The median distortion of a minimal attack in its norm, or in L∞ and L2 if its norm is unknown.

    For adaptive attacks it differs between defenses, so the smallest and the largest are shown.
    """
    measured = [cell for cell in cells if cell["status"] == "ok"]
    lines = []
    for key in ("linf", "l2") if norm is None else (norm,):
        field = f"median_{key}" if key in ("linf", "l2") else "median_size"
        medians = [cell[field] for cell in measured if cell.get(field) is not None]
        if medians:
            span = dict.fromkeys(f"{median:#.3g}".rstrip(".") for median in (min(medians), max(medians)))
            lines.append(f"median {NORMS[key]} {'–'.join(span)}")
    return lines or ["none fooled"] * bool(measured)


def _median_size(known: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The smallest and the largest median size over the rows, for an attack that chooses the size."""
    medians = [cell["median_size"] for cell in cells if cell.get("median_size") is not None]
    name = known["perturbation"]["size"]
    if known["attack_kind"] == "natural" or not medians:
        return []
    return [f"median {name} {format_size(name, min(medians), max(medians))}"]


def format_size(name: str, *sizes: float) -> str:
    """A size of a perturbation with its unit, such as ``5.1 %`` of the area, or several, as ``5.1–5.3 %``."""
    factor, unit = _UNITS.get(name, (1.0, ""))
    return "–".join(dict.fromkeys(f"{factor * size:#.3g}".rstrip(".") for size in sizes)) + unit


def _row(
    label: str, row: Mapping[str, Any], cells: Sequence[_IndexedCell], certified: Sequence[BoardCell]
) -> list[BoardCell]:
    clean, spread = row["clean_accuracy"], _spread(row.get("clean_accuracy_seeds"))
    marked = f" {DAGGER}" if NOT_ADAPTIVE in row.get("marks", ()) else ""
    return [
        BoardCell(label + marked, full_spec=row_id(row)),
        BoardCell(NOT_RUN) if clean is None else BoardCell(percent(clean) + spread, clean),
        *(_accuracy(cell, index) for cell, index in cells),
        *certified,
        *(_mean(row) if "mean" in row else _worst_case(row["worst_case"])),
    ]


def _samples(sizes: Sequence[int]) -> str:
    """The number of samples for the title: the smallest and the largest of all rows."""
    return f"n = {' to '.join(dict.fromkeys(f'{size:,}' for size in (min(sizes), max(sizes))))}"


def _label(row: Mapping[str, Any], short: Mapping[str, str], sizes: Sequence[int]) -> str:
    """The name of a row, with its number of samples if rows have different ones."""
    return one_line(_name(row, short)) + (f" (n = {row['n']:,})" if len(set(sizes)) > 1 else "")


def _name(row: Mapping[str, Any], short: Mapping[str, str]) -> str:
    return f"{short['model']} · {short['defense']}" if row.get("model") else short["defense"]


def row_id(row: Mapping[str, Any]) -> str:
    """What identifies a row on its leaderboard: the full spec of its defense, with its model if rows are models."""
    return f"{row['model']} · {row['defense']}" if row.get("model") else str(row["defense"])


def _accuracy(cell: Mapping[str, Any], index: int) -> BoardCell:
    if cell["status"] == "ok":
        doubt = f"{DOUBTFUL} " if cell.get("findings") else ""
        spread = _spread(cell.get("robust_accuracy_seeds") or cell.get("robust_accuracy_draws"))
        low, high = cell["robust_accuracy_ci95"]
        text = doubt + percent(cell["robust_accuracy"]) + spread
        return BoardCell(text, cell["robust_accuracy"], interval=(low, high), index=index)
    failed = cell["status"] == "error"
    return BoardCell(FAILED if failed else NOT_RUN, failed=failed, index=index)


def _spread(values: Mapping[str, Any] | None) -> str:
    """The standard deviation over seeds or draws; empty if there is only one."""
    return "" if not values or values["std"] is None else f" ± {percent(values['std'])}"


def _worst_case(worst: Mapping[str, Any] | None) -> tuple[BoardCell, BoardCell]:
    """The worst case and its interval. If results of some attacks are missing, it is only an upper bound."""
    if worst is None:
        return BoardCell(NOT_RUN), BoardCell(NOT_RUN)
    if not worst["complete"]:
        return BoardCell(f"≤ {percent(worst['accuracy'])}"), BoardCell(NOT_RUN)
    low, high = worst["ci95"]
    spread = _spread(worst.get("seeds"))
    accuracy = BoardCell(percent(worst["accuracy"]) + spread, worst["accuracy"], interval=(low, high))
    return accuracy, BoardCell(f"{percent(low)}–{percent(high)}")


def _summary_column(leaderboard: Mapping[str, Any]) -> Column:
    """The heading of the column that summarises the attacks."""
    if leaderboard.get("kind") != CORRUPTION:
        return Column("worst case")
    if "reference" not in leaderboard:
        return Column("mean")
    return Column("mean", ("(mCE)", one_line(f"{leaderboard['reference']} = 100")))


def _mean(row: Mapping[str, Any]) -> tuple[BoardCell, BoardCell]:
    """The mean over corruptions and its interval, if there are results of all; with the mCE if there is a reference."""
    mean = row["mean"]
    if mean is None or not mean["complete"]:
        return BoardCell(NOT_RUN), BoardCell(NOT_RUN)
    accuracy, interval = _worst_case(mean)
    if "mce" in row:
        error = NOT_RUN if row["mce"] is None else percent(row["mce"])
        accuracy = dataclasses.replace(accuracy, text=f"{accuracy.text} ({error})")
    return accuracy, interval


def _mark_best(rows: Sequence[Sequence[BoardCell]]) -> tuple[tuple[BoardCell, ...], ...]:
    """Marks the highest score of each column; all of them if several are equal, none if all are."""
    columns = []
    for column in zip(*rows, strict=True):
        scores = {cell.score for cell in column if cell.score is not None}
        highest = max(scores) if len(scores) > 1 else None
        columns.append([c if highest is None or c.score != highest else _best(c) for c in column])
    return tuple(zip(*columns, strict=True))


def _best(cell: BoardCell) -> BoardCell:
    return dataclasses.replace(cell, best=True)


def _seeds(seeds: Collection[str]) -> list[str]:
    """A note if the numbers are means over several seeds."""
    return [f"Accuracies and medians are means over the seeds {', '.join(seeds)}."] if len(seeds) > 1 else []


def _marks(rows: Sequence[Mapping[str, Any]], grid: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Explanations of the marks that the board has."""
    notes = []
    if any(NOT_ADAPTIVE in row.get("marks", ()) for row in rows):
        notes.append(
            f"{DAGGER} {NOT_ADAPTIVE}: these results do not show whether the defense withstands an attacker who knows "
            "it; run it under both threats, oblivious and adaptive."
        )
    cells = [cell for line in grid for cell in line]
    over = [
        word
        for word, key in (("seeds", "robust_accuracy_seeds"), ("draws", "robust_accuracy_draws"))
        if any(cell.get(key) for cell in cells)
    ]
    if over:
        notes.append(f"± is the standard deviation over {over[0]}.")
    if any(cell.get("findings") for cell in cells):
        notes.append(f"{DOUBTFUL} a sanity check questions this number: see below.")
    return notes


def _notes(threats: Mapping[str, Mapping[str, str]], attacks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Explanations of the threats, of minimal and of targeted attacks."""
    notes = []
    for name, threat in threats.items():
        how = f" ({threat['how']})" if threat.get("how") else ""
        caveat = threat["caveat"]
        notes.append(f"Threat {name}: {threat['meaning']}{how}. {caveat[:1].upper()}{caveat[1:]}.")
    if any(cell["attack_kind"] == "minimal" and cell["threat"] != "adaptive" for cell in attacks):
        notes.append(
            "A minimal attack stops at the nearest image that fools the attacked model, so almost any transformation "
            "may undo it; accuracy under it does not measure security."
        )
    if any(cell.get("goal", UNTARGETED) != UNTARGETED for cell in attacks):
        notes.append(
            f"{REACHED.capitalize()}: the share of images that a targeted attack turns into its target class, of those "
            "that are attacked and correct without the attack; from the lowest to the highest row."
        )
    return notes
