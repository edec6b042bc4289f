"""Leaderboards as HTML tables. A script adds sorting and filters; the tables are complete without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis import NOT_ADAPTIVE
from advbench.report.board import DAGGER, DOUBTFUL, NOT_RUN, Board, BoardCell, Column, percent, row_id
from advbench.report.page.cells import certificate_place
from advbench.report.page.escaping import escape
from advbench.report.page.text import breakable
from advbench.report.protocols import ProtocolTable
from advbench.report.sweeps import family

__all__ = ["board_section"]

Row = Mapping[str, Any]

NO_THREAT = "none"
"""The threat of corruptions, which have no attacker."""


def board_section(board: Board, leaderboard: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Renders one leaderboard with its notes.

    Args:
        board: The laid-out leaderboard.
        leaderboard: The same leaderboard in the results.
        results: The results.
    """
    rows = {row_id(row): row for row in leaderboard["rows"]}
    threats = [column["threat"] for column in leaderboard["columns"]]
    dataset, model = (_shorts(results, leaderboard, kind) for kind in ("dataset", "model"))
    body = "".join(
        f"<tbody>{''.join(_row(cells, rows[cells[0].full_spec], threats, results) for cells in group)}</tbody>"
        for group in _groups(board)
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in board.notes)
    return (
        f'<section class="board" data-dataset="{escape(dataset)}" data-model="{escape(model)}">'
        f"<h2>{escape(board.title)}</h2>"
        f'<div class="frame"><div class="scroll" tabindex="0" role="region" aria-label="{escape(board.title)}">'
        f"<table><thead><tr>{_heads(board, threats)}</tr></thead>{body}</table></div></div>"
        f"{notes}</section>{'' if board.protocols is None else _protocols(board.protocols, dataset, model)}"
    )


def _protocols(protocols: ProtocolTable, dataset: str, model: str) -> str:
    """A table that a click opens; outside the board, whose rows the filters count."""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in protocols.head)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<th><code>{breakable(escape(text))}</code></th>"
            if place < protocols.names
            else f"<td>{escape(text)}</td>"
            for place, text in enumerate(row)
        )
        + "</tr>"
        for row in protocols.rows
    )
    return (
        f'<figure class="protocols" data-dataset="{escape(dataset)}" data-model="{escape(model)}">'
        f"<details><summary>{escape(protocols.title)}</summary>"
        f'<p class="note">{escape(protocols.reading)}</p>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></figure>"
    )


def _shorts(results: Mapping[str, Any], leaderboard: Mapping[str, Any], kind: str) -> str:
    """The short spec of a leaderboard's dataset or model; empty if it has all models."""
    return next((str(cell["short"][kind]) for cell in results["cells"] if cell[kind] == leaderboard[kind]), "")


def _groups(board: Board) -> Iterator[Sequence[tuple[BoardCell, ...]]]:
    start = 0
    for size in board.groups:
        yield board.rows[start : start + size]
        start += size


def _heads(board: Board, threats: Sequence[str]) -> str:
    """The headings: as in all rows, the worst case and its interval next to the defense."""
    defense, clean, *others, worst, interval = board.columns
    attacks, certified = others[: len(threats)], others[len(threats) :]
    summary = [_head(defense), _head(worst, kind="worst"), _head(interval, kind="interval"), _head(clean)]
    heads = [_head(column, threat) for column, threat in zip(attacks, threats, strict=True)]
    return "".join([*summary, *heads, *map(_head, certified)])


def _head(column: Column, threat: str = "", *, kind: str = "") -> str:
    scope = f' data-threat="{escape(threat)}"' if threat else ""
    scope += f' class="{kind}"' if kind else ""
    shown = threat not in ("", NO_THREAT)  # beside the defense 'none', the word would be ambiguous
    badge = f'<span class="badge {escape(threat)}">{escape(threat)}</span>' if shown else ""
    lines = "".join(f"<small>{escape(text)}</small>" for text in _details(column, threat))
    title = f'<button type="button" class="sort">{escape(column.title)}</button>'
    return f'<th scope="col"{scope}>{badge}{title}{lines}</th>'


def _details(column: Column, threat: str) -> Sequence[str]:
    """The lines of a heading, without the threat, which is shown as a badge."""
    return column.details[1:] if threat and column.details[:1] == (threat,) else column.details


def _row(cells: Sequence[BoardCell], row: Row, threats: Sequence[str], results: Mapping[str, Any]) -> str:
    first, clean, *others, worst, interval = cells
    attacks, certified = others[: len(threats)], others[len(threats) :]
    parts = [
        _defense(first, row, _is_stochastic(attacks, results)),
        *_worst(worst, interval, row),
        _clean(clean),
        *(_result(cell, threat) for cell, threat in zip(attacks, threats, strict=True)),
        *(_certified(cell, results) for cell in certified),
    ]
    model = f' data-model="{escape(_model(attacks, results))}"' if row.get("model") else ""
    return f'<tr data-family="{escape(family(row["defense"]))}"{model}>{"".join(parts)}</tr>'


def _model(attacks: Sequence[BoardCell], results: Mapping[str, Any]) -> str:
    """The short spec of the model of a row."""
    return next(str(results["cells"][cell.index]["short"]["model"]) for cell in attacks if cell.index is not None)


def _clean(cell: BoardCell) -> str:
    number = f'<span class="number">{_text(cell)}</span>'
    return f'<td data-sort="{_sort(cell.score)}">{number}{_bar(cell.score, None)}</td>'


def _certified(cell: BoardCell, results: Mapping[str, Any]) -> str:
    """A certified accuracy with its interval, as a button that opens the details of the certificates."""
    if cell.certificate is None:
        return f'<td data-sort=""><span class="number">{escape(cell.text)}</span></td>'
    title = f' title="{_interval_text(cell.interval)}"' if cell.interval else ""
    kind = "number bad" if cell.failed else "number"
    number = f'<span class="{kind}">{_text(cell)}</span>{_bar(cell.score, cell.interval)}'
    place = certificate_place(results, cell.certificate)
    opener = f'<button type="button" class="open" data-cell="{place}"{title}>{number}</button>'
    return f'<td data-sort="{_sort(cell.score)}">{opener}</td>'


def _is_stochastic(attacks: Sequence[BoardCell], results: Mapping[str, Any]) -> bool:
    return any(results["cells"][cell.index].get("stochastic") for cell in attacks if cell.index is not None)


def _defense(cell: BoardCell, row: Row, stochastic: bool) -> str:
    name = cell.text.removesuffix(f" {DAGGER}")
    badges = '<span class="badge stochastic">stochastic</span>' if stochastic else ""
    if NOT_ADAPTIVE in row.get("marks", ()):
        badges += f'<span class="badge doubtful">{DAGGER} {NOT_ADAPTIVE}</span>'
    return f'<th scope="row" data-sort="{escape(name)}"><code>{breakable(escape(name))}</code>{badges}</th>'


def _result(cell: BoardCell, threat: str) -> str:
    """The result of an attack, as a button that opens its details."""
    text = cell.text.removeprefix(f"{DOUBTFUL} ")
    doubt = '<b class="doubt" title="a sanity check questions this number">!</b>' if text != cell.text else ""
    kind = "number bad" if cell.failed else "number best" if cell.best else "number"
    content = f'{doubt}<span class="{kind}">{escape(text)}</span>{_bar(cell.score, cell.interval)}'
    title = f' title="{_interval_text(cell.interval)}"' if cell.interval else ""
    opener = f'<button type="button" class="open" data-cell="{cell.index}"{title}>{content}</button>'
    return f'<td data-threat="{escape(threat)}" data-sort="{_sort(cell.score)}" id="at-{cell.index}">{opener}</td>'


def _worst(worst: BoardCell, interval: BoardCell, row: Row) -> Iterator[str]:
    """The worst case over all threats, and hidden ones for each threat, which the filter shows."""
    under = row.get("worst_case_under", {})
    kinds = [("", _text(worst), worst.score, worst.interval, _text(interval))]
    kinds += [(threat, *_under(case)) for threat, case in under.items()] if len(under) > 1 else []
    yield (
        '<td class="worst">'
        + "".join(
            f'<span class="under" data-under="{escape(threat)}" data-score="{_sort(score)}"{" hidden" * bool(threat)}>'
            f'<span class="number">{text}</span>{_bar(score, ends)}</span>'
            for threat, text, score, ends, _ in kinds
        )
        + "</td>"
    )
    yield (
        '<td class="interval">'
        + "".join(
            f'<span class="under number" data-under="{escape(threat)}" data-score="{_sort(score)}"'
            f"{' hidden' * bool(threat)}>{ci}</span>"
            for threat, _, score, _, ci in kinds
        )
        + "</td>"
    )


def _under(case: Mapping[str, Any] | None) -> tuple[str, float | None, tuple[float, float] | None, str]:
    if case is None:
        return NOT_RUN, None, None, NOT_RUN
    if not case["complete"]:
        return f"≤ {percent(case['accuracy'])}", None, None, NOT_RUN
    low, high = case["ci95"]
    return percent(case["accuracy"]), case["accuracy"], (low, high), f"{percent(low)}–{percent(high)}"


def _text(cell: BoardCell) -> str:
    return f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)


def _interval_text(interval: tuple[float, float]) -> str:
    return f"95 % interval {percent(interval[0])}–{percent(interval[1])}"


def _bar(score: float | None, interval: tuple[float, float] | None) -> str:
    """A bar that shows the number, with its interval."""
    if score is None:
        return ""
    span = ""
    if interval is not None:
        low, high = interval
        span = f'<i style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>'
    return f'<span class="bar-of" aria-hidden="true"><b style="width:{100 * score:.2f}%"></b>{span}</span>'


def _sort(score: float | None) -> str:
    """The sort key of a cell; cells without a number come last."""
    return "" if score is None else repr(score)
