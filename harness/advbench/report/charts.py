"""Charts as plain data, which HTML reports and printed figures draw in their own ways. All characters print."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.surrogates import attacker, threat_name
from advbench.printable import one_line
from advbench.report.board import NORMS, kind_in_title
from advbench.report.sweeps import as_number, family, parameters_of, terms_of, with_sweep_names
from advbench.specs import quote

__all__ = ["Chart", "Line", "Point", "eps_charts", "query_charts", "scatter_charts", "sweep_charts"]

UNDEFENDED = "undefended model"

Cell = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a chart; accuracies are fractions.

    Attributes:
        x: Horizontal coordinate.
        y: Vertical coordinate.
        low: Lower bound of the 95 % interval of ``y``, or None.
        high: Upper bound, or None.
        name: The name of the point in a scatter chart; otherwise empty.
        best: Whether it is on the Pareto front.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    name: str = ""
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: The entry in the legend.
        points: The points, from left to right.
    """

    name: str
    points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart of accuracies from 0 to 1.

    Attributes:
        kind: ``eps``, ``sweep``, ``queries`` or ``scatter``.
        dataset: Short spec of the dataset.
        model: Short spec of the model.
        title: The title, without dataset and model.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        lines: The lines; for a scatter chart a single one, whose points are not connected.
        steps: Whether the lines are step functions that keep a value until the next point.
        logarithmic: Whether the horizontal axis is logarithmic; its values are then at least 1.
        note: A note for readers; empty if there is none.
    """

    kind: str
    dataset: str
    model: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    steps: bool = False
    logarithmic: bool = False
    note: str = ""


def eps_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Robust accuracy by eps: for minimal attacks from their distances, for budget attacks from sweeps of eps.

    Also certified accuracy by radius.
    """
    cells = with_sweep_names(results["cells"])
    charts = [
        *_minimal_charts(cells),
        *_swept_charts(cells),
        *_certified_charts(results.get("certificates", ()), cells),
    ]
    return _with_seeds(charts, results)


def sweep_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Accuracy by a parameter of a defense, for defenses that differ only in one number."""
    groups: dict[tuple[Any, ...], list[tuple[float, Cell]]] = {}
    for cell in _finished(with_sweep_names(results["cells"])):
        given = parameters_of(cell["defense"])
        for key, text in given.items():
            value = as_number(text)
            if value is not None:
                rest = tuple((other, known) for other, known in given.items() if other != key)
                group = (cell["dataset"], cell["model"], attacker(cell), family(cell["defense"]), key, rest)
                groups.setdefault(group, []).append((value, cell))
    varying = _varying(groups)
    swept = [(group, pairs) for group, pairs in groups.items() if len({x for x, _ in pairs}) > 1]
    return _with_seeds([_sweep_chart(group, pairs, varying) for group, pairs in swept], results)


def scatter_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Clean accuracy and worst case of each defense as a point, with the Pareto front marked."""
    short = {
        (cell["dataset"], cell["model"], cell["defense"]): cell["short"] for cell in with_sweep_names(results["cells"])
    }
    charts = []
    for board in results["leaderboards"]:
        dataset, model = board["dataset"], board["model"]
        if model is None:  # the points of one chart are the defenses of one model
            continue
        rows = [row for row in board["rows"] if row["worst_case"] is not None and row["worst_case"]["complete"]]
        pairs = [(row["clean_accuracy"], row["worst_case"]["accuracy"]) for row in rows]
        if len(rows) < 2:
            continue
        points = tuple(
            Point(
                clean,
                worst,
                low=row["worst_case"]["ci95"][0],
                high=row["worst_case"]["ci95"][1],
                name=short[dataset, model, row["defense"]]["defense"],
                best=not any(_dominates(other, (clean, worst)) for other in pairs),
            )
            for row, (clean, worst) in zip(rows, pairs, strict=True)
        )
        charts.append(_scatter_chart(board, short[dataset, model, rows[0]["defense"]], points))
    return _with_seeds(charts, results)


def query_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Attack success rate by the number of queries: for each attack by defense, and of the first defense by attack.

    Attacks that use gradients are left out, unless the run limits queries.
    """
    by_attack: dict[tuple[str, ...], list[Cell]] = {}
    by_defense: dict[tuple[str, ...], list[Cell]] = {}
    limited = results["run"].get("max_queries") is not None
    for cell in _finished(with_sweep_names(results["cells"])):
        queries = cell.get("queries")
        if queries and queries["success"] and queries["forwards"] and (limited or not queries["backwards"]):
            where = cell["dataset"], cell["model"], attacker(cell)
            by_attack.setdefault((*where, cell["attack"]), []).append(cell)
            by_defense.setdefault(where, []).append(cell)
    charts = [_query_chart(cells, "attack", "defense") for cells in by_attack.values()]
    for cells in by_defense.values():
        of_first = [cell for cell in cells if cell["defense"] == cells[0]["defense"]]
        if len(of_first) > 1:
            charts.append(_query_chart(of_first, "defense", "attack"))
    return _with_seeds(charts, results)


def _query_chart(cells: Sequence[Cell], shared: str, varied: str) -> Chart:
    """The chart of cells that share a component, with a line for each of another one."""
    short = cells[0]["short"]
    what = short["attack"] if shared == "attack" else UNDEFENDED if short["defense"] == "none" else short["defense"]
    lines = []
    for cell in cells:
        curve = cell["queries"]["success"]
        points = [Point(max(1, x), y) for x, y in zip(curve["queries"], curve["rate"], strict=True)]
        start = [] if points[0].x <= 1 else [Point(1, 0.0)]
        lines.append(Line(cell["short"][varied], (*start, *points)))
    return Chart(
        "queries", short["dataset"], short["model"],
        f"Attack success by queries: {what}, {threat_name(cells[0])}", "queries", "attack success rate",
        tuple(lines), steps=True, logarithmic=True,
        note="Queries until the first success on the attacked classifier, of the samples that the attack breaks in the "
        "score; images times the draws of a stochastic defense.",
    )  # fmt: skip


def _with_seeds(charts: Sequence[Chart], results: Mapping[str, Any]) -> list[Chart]:
    """Adds a note to the charts if their numbers are means over several seeds."""
    seeds = results["run"].get("seeds", ())
    seed_note = f"Means over the seeds {', '.join(seeds)}." if len(seeds) > 1 else ""
    return [dataclasses.replace(_printable(chart), note=f"{chart.note} {seed_note}".strip()) for chart in charts]


def _printable(chart: Chart) -> Chart:
    """The chart with names and titles of printable characters."""
    lines = [
        Line(one_line(line.name), tuple(dataclasses.replace(p, name=one_line(p.name)) for p in line.points))
        for line in chart.lines
    ]
    return dataclasses.replace(
        chart,
        dataset=one_line(chart.dataset),
        model=one_line(chart.model),
        title=one_line(chart.title),
        x_label=one_line(chart.x_label),
        lines=tuple(lines),
    )


def _scatter_chart(board: Mapping[str, Any], names: Mapping[str, str], points: tuple[Point, ...]) -> Chart:
    return Chart(
        "scatter", names["dataset"], names["model"],
        f"Clean accuracy and worst case, {', '.join((*kind_in_title(board), ' and '.join(board['threats'])))}",
        "clean accuracy", "worst-case robust accuracy", (Line("defenses", points),),
        note="Filled: on the Pareto front; no other defense is at least as good in both and better in one.",
    )  # fmt: skip


def _dominates(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first != second and first[0] >= second[0] and first[1] >= second[1]


def _finished(cells: Sequence[Cell]) -> Iterator[Cell]:
    return (cell for cell in cells if cell["status"] == "ok")


def _certified_charts(certificates: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> Iterator[Chart]:
    """Certified accuracy by radius, with a line for each defense, which has the name that it has in the cells."""
    names = {(cell["dataset"], cell["model"], cell["defense"]): cell["short"] for cell in cells}
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for entry in certificates:
        if entry["curve"] is not None:
            curve = entry["curve"]
            short = names.get((entry["dataset"], entry["model"], entry["defense"]), entry["short"])
            points = tuple(Point(x, y) for x, y in zip(curve["eps"], curve["accuracy"], strict=True))
            key = short["dataset"], short["model"], entry["norm"]
            groups.setdefault(key, []).append(Line(one_line(short["defense"]), points))
    for (dataset, model, norm), lines in groups.items():
        yield Chart(
            kind="eps",
            dataset=one_line(dataset),
            model=one_line(model),
            title=f"Certified accuracy by {NORMS[norm]} radius",
            x_label=f"radius ({NORMS[norm]})",
            y_label="certified accuracy",
            lines=tuple(lines),
            steps=True,
        )


def _minimal_charts(cells: Sequence[Cell]) -> Iterator[Chart]:
    """One chart per dataset, model and norm for attacks on the undefended model, and one per adaptive attack."""
    groups: dict[tuple[Any, ...], dict[str, Line]] = {}
    firsts: dict[tuple[Any, ...], Cell] = {}
    for cell in _finished(cells):
        curve = cell.get("curve")
        if curve is None:
            continue
        adaptive = cell["threat"] == "adaptive"
        key = cell["dataset"], cell["model"], attacker(cell), curve["norm"], cell["attack"] if adaptive else ""
        line = cell["short"]["defense" if adaptive else "attack"]
        points = tuple(Point(x, y) for x, y in zip(curve["eps"], curve["accuracy"], strict=True))
        groups.setdefault(key, {}).setdefault(line, Line(line, points))
        firsts.setdefault(key, cell)
    for key, lines in groups.items():
        (*_, norm, attack), threat, short = key, firsts[key]["threat"], firsts[key]["short"]
        what = f"{short['attack']}, {threat}" if attack else f"{UNDEFENDED}, minimal attacks"
        if threat == "transfer":
            what = (
                " ".join(["surrogate", *([short["surrogate"]] if "surrogate" in short else [])]) + ", minimal attacks"
            )
        yield Chart(
            "eps", short["dataset"], short["model"], f"Robust accuracy by {NORMS[norm]} eps: {what}",
            f"eps ({NORMS[norm]})", "robust accuracy", tuple(lines.values()), steps=True,
            note="" if attack else "Attacks that do not know the defense have one curve for all defenses: that of the "
            "model that they attack.",
        )  # fmt: skip


def _swept_charts(cells: Sequence[Cell]) -> Iterator[Chart]:
    """One chart for each attack that was run with several values of eps, with one line per defense."""
    groups: dict[tuple[str, ...], dict[str, list[Cell]]] = {}
    for cell in _finished(cells):
        if cell["attack_kind"] == "budget":
            norm, attack = cell["budget"]["norm"], _without_eps(cell["attack"])
            key = cell["dataset"], cell["model"], attacker(cell), norm, attack
            groups.setdefault(key, {}).setdefault(cell["defense"], []).append(cell)
    for (_, _, _, norm, _), lines in groups.items():
        first = next(iter(lines.values()))
        if len(first) < 2:
            continue
        short = first[0]["short"]
        yield Chart(
            "eps", short["dataset"], short["model"],
            f"Robust accuracy by {NORMS[norm]} eps: {_without_eps(short['attack'])}, {threat_name(first[0])}",
            f"eps ({NORMS[norm]})", "robust accuracy", tuple(_by_eps(same_defense) for same_defense in lines.values()),
            note="The value at eps 0 is the clean accuracy.",
        )  # fmt: skip


def _by_eps(cells: Sequence[Cell]) -> Line:
    points = [_point(cell["budget"]["eps"], cell) for cell in cells if cell["budget"]["eps"] > 0]
    start = Point(0.0, cells[0]["clean_accuracy"])
    return Line(cells[0]["short"]["defense"], (start, *sorted(points, key=lambda point: point.x)))


def _without_eps(spec: str) -> str:
    (term,) = terms_of(spec)
    items = ",".join(f"{key}={quote(value)}" for key, (value,) in term.items if key != "eps")
    return f"{term.name}:{items}" if items else term.name


def _point(x: float, cell: Cell) -> Point:
    low, high = cell["robust_accuracy_ci95"]
    return Point(x, cell["robust_accuracy"], low, high)


def _varying(groups: Mapping[tuple[Any, ...], Any]) -> set[tuple[Any, ...]]:
    """The parameters that have several values in a run, with their dataset, model, threat and family."""
    seen: dict[tuple[Any, ...], set[Any]] = {}
    for (*group, key, rest), pairs in groups.items():
        seen.setdefault((*group, key), set()).update(value for value, _ in pairs)
        for other, text in rest:
            seen.setdefault((*group, other), set()).add(as_number(text) if as_number(text) is not None else text)
    return {parameter for parameter, values in seen.items() if len(values) > 1}


def _sweep_chart(group: tuple[Any, ...], pairs: Sequence[tuple[float, Cell]], varying: set[tuple[Any, ...]]) -> Chart:
    dataset, model, threat, name, (part, key), rest = group
    first = pairs[0][1]
    short = first["short"]
    lines: dict[str, list[Point]] = {}
    clean: dict[float, float] = {}
    for value, cell in sorted(pairs, key=lambda pair: pair[0]):
        lines.setdefault(cell["short"]["attack"], []).append(_point(value, cell))
        clean[value] = cell["clean_accuracy"]
    others = [f"{other}={text}" for (at, other), text in rest if (dataset, model, threat, name, (at, other)) in varying]
    parameter = f"{name.split('+')[part]}'s {key}" if "+" in name else key
    fixed = f" at {', '.join(others)}" if others else ""
    return Chart(
        "sweep", short["dataset"], short["model"],
        f"{name} by {parameter}{fixed}, {threat_name(first)}", parameter, "accuracy",
        (
            Line("clean", tuple(Point(x, y) for x, y in clean.items())),
            *(Line(attack, tuple(points)) for attack, points in lines.items()),
        ),
    )  # fmt: skip
