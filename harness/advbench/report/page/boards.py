"""Leaderboards as tables that sort and filter, and that are whole without a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from advbench.analysis import NOT_ADAPTIVE
from advbench.report.board import DAGGER, DOUBTFUL, NOT_RUN, Board, BoardCell, Column, percent
from advbench.report.sweeps import family

__all__ = ["board_section"]

Row = Mapping[str, Any]


def board_section(board: Board, leaderboard: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """One leaderboard with its notes.

    Args:
        board: As it is laid out.
        leaderboard: The same among the results.
        results: All of them.
    """
    rows = {row["defense"]: row for row in leaderboard["rows"]}
    threats = [column["threat"] for column in leaderboard["columns"]]
    dataset, model = (_shorts(results, leaderboard, kind) for kind in ("dataset", "model"))
    body = "".join(
        f"<tbody>{''.join(_row(cells, rows[cells[0].stands_for], threats, results) for cells in group)}</tbody>"
        for group in _groups(board)
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in board.notes)
    return (
        f'<section class="board" data-dataset="{escape(dataset)}" data-model="{escape(model)}">'
        f"<h2>{escape(board.title)}</h2>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(board.title)}">'
        f"<table><thead><tr>{_heads(board, threats)}</tr></thead>{body}</table></div>"
        f"{notes}</section>"
    )


def _shorts(results: Mapping[str, Any], leaderboard: Mapping[str, Any], kind: str) -> str:
    return next(str(cell["short"][kind]) for cell in results["cells"] if cell[kind] == leaderboard[kind])


def _groups(board: Board) -> Iterator[Sequence[tuple[BoardCell, ...]]]:
    start = 0
    for size in board.groups:
        yield board.rows[start : start + size]
        start += size


def _heads(board: Board, threats: Sequence[str]) -> str:
    heads = []
    for place, column in enumerate(board.columns):
        threat = threats[place - 2] if 2 <= place < len(board.columns) - 2 else ""
        scope = f' data-threat="{escape(threat)}"' if threat else ""
        badge = f'<span class="badge {escape(threat)}">{escape(threat)}</span>' if threat else ""
        lines = "".join(f"<small>{escape(text)}</small>" for text in _details(column, threat))
        title = f'<button type="button" class="sort">{escape(column.title)}</button>'
        heads.append(f'<th scope="col"{scope}>{badge}{title}{lines}</th>')
    return "".join(heads)


def _details(column: Column, threat: str) -> Sequence[str]:
    """A heading's lines; a threat has a badge instead."""
    return column.details[1:] if threat and column.details[:1] == (threat,) else column.details


def _row(cells: Sequence[BoardCell], row: Row, threats: Sequence[str], results: Mapping[str, Any]) -> str:
    first, clean, *rest = cells
    attacks, (worst, interval) = rest[:-2], rest[-2:]
    parts = [
        _defense(first, row, _is_stochastic(attacks, results)),
        _clean(clean),
        *(_result(cell, threat) for cell, threat in zip(attacks, threats, strict=True)),
        *_worst(worst, interval, row),
    ]
    return f'<tr data-family="{escape(family(row["defense"]))}">{"".join(parts)}</tr>'


def _clean(cell: BoardCell) -> str:
    number = f'<span class="number">{_text(cell)}</span>'
    return f'<td data-sort="{_sort(cell.score)}">{number}{_bar(cell.score, None)}</td>'


def _is_stochastic(attacks: Sequence[BoardCell], results: Mapping[str, Any]) -> bool:
    return any(results["cells"][cell.place].get("stochastic") for cell in attacks if cell.place is not None)


def _defense(cell: BoardCell, row: Row, stochastic: bool) -> str:
    name = cell.text.removesuffix(f" {DAGGER}")
    badges = '<span class="badge stochastic">stochastic</span>' if stochastic else ""
    if NOT_ADAPTIVE in row.get("marks", ()):
        badges += f'<span class="badge doubtful">{DAGGER} {NOT_ADAPTIVE}</span>'
    return f'<th scope="row" data-sort="{escape(name)}"><code>{escape(name)}</code>{badges}</th>'


def _result(cell: BoardCell, threat: str) -> str:
    """An attack's result: a button that opens its details."""
    text = cell.text.removeprefix(f"{DOUBTFUL} ")
    doubt = '<b class="doubt" title="a sanity check speaks against this number">!</b>' if text != cell.text else ""
    kind = "number bad" if cell.failed else "number best" if cell.best else "number"
    content = f'{doubt}<span class="{kind}">{escape(text)}</span>{_bar(cell.score, cell.interval)}'
    title = f' title="{_interval_text(cell.interval)}"' if cell.interval else ""
    opener = f'<button type="button" class="open" data-cell="{cell.place}"{title}>{content}</button>'
    return f'<td data-threat="{escape(threat)}" data-sort="{_sort(cell.score)}" id="at-{cell.place}">{opener}</td>'


def _worst(worst: BoardCell, interval: BoardCell, row: Row) -> Iterator[str]:
    """The worst case over all threats and, for a filter to show, under each."""
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
        "<td>"
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
    """The share as a bar, and its interval on it."""
    if score is None:
        return ""
    span = ""
    if interval is not None:
        low, high = interval
        span = f'<i style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>'
    return f'<span class="bar-of" aria-hidden="true"><b style="width:{100 * score:.2f}%"></b>{span}</span>'


def _sort(score: float | None) -> str:
    """What a column is sorted by; nothing comes last."""
    return "" if score is None else repr(score)
