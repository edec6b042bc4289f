"""All figures of a run."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from advbench.analysis import CellExamples
from advbench.analysis.surrogates import attacker, threat_name
from advbench.report.charts import eps_charts, query_charts, scatter_charts, sweep_charts
from advbench.report.figures.confusions import Pair, confusion_pairs
from advbench.report.figures.curves import draw_chart
from advbench.report.figures.strips import Named, attack_examples, reconstructions, strip
from advbench.report.figures.style import SETTINGS
from advbench.report.sweeps import with_sweep_names

__all__ = ["Drawing", "Subject", "distinct", "draw_charts", "draw_confusions", "draw_images", "save"]

_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_MOST_ATTACKS, _MOST_DEFENSES, _MOST_ROWS = 3, 8, 9

Cell = Mapping[str, Any]


class Subject(NamedTuple):
    """The cell that a figure is about, or with an empty defense the cells of several defenses.

    The surrogate is empty unless the run has several.
    """

    dataset: str
    model: str
    attack: str
    threat: str
    defense: str = ""
    surrogate: str = ""

    @classmethod
    def of(cls, cell: Cell) -> Subject:
        """The subject of a figure of one cell."""
        surrogate = cell["surrogate"] if "surrogate" in cell["short"] else ""
        return cls(cell["dataset"], cell["model"], cell["attack"], cell["threat"], cell["defense"], surrogate)

    @property
    def attacker(self) -> tuple[str, ...]:
        """What attacks that are ranked together have in common: dataset, model, threat and surrogate."""
        return self.dataset, self.model, self.threat, self.surrogate


class Drawing(NamedTuple):
    """A figure that is drawn on demand.

    Attributes:
        name: The name of its file, without suffix.
        what: A one-line description.
        draw: Draws the figure.
        subject: The cell that it is about; None for figures of many attacks.
    """

    name: str
    what: str
    draw: Callable[[], Figure]
    subject: Subject | None = None

    @property
    def kind(self) -> str:
        """The kind of the figure, with which its name begins."""
        return self.name.partition("-")[0]


def save(drawn: Drawing, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Draws a figure and writes it in some formats. Equal figures give equal bytes.

    Args:
        drawn: The figure.
        folder: The folder to write to.
        formats: Some of ``png``, ``svg`` and ``pdf``.

    Returns:
        The written files.

    Raises:
        OSError: A file cannot be written.
    """
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in class names; a box is shown instead
        figure = drawn.draw()
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # the layout is done; an engine would draw each format twice
        paths = [folder / f"{drawn.name}.{kind}" for kind in formats]
        for kind, path in zip(formats, paths, strict=True):
            figure.savefig(path, format=kind, metadata=_METADATA[kind])
    return paths


def distinct(figures: Iterable[Drawing]) -> Iterator[Drawing]:
    """Adds a number to the names of figures that occur more than once, ignoring case."""
    taken: set[str] = set()
    for drawn in figures:
        names = itertools.chain([drawn.name], (f"{drawn.name}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name.lower() not in taken)
        taken.add(name.lower())
        yield drawn._replace(name=name)


def draw_charts(results: Mapping[str, Any]) -> Iterator[Drawing]:
    """Charts of robust accuracy by eps, of sweeps, of success by queries, and of clean accuracy and worst case."""
    charts = [*eps_charts(results), *sweep_charts(results), *query_charts(results), *scatter_charts(results)]
    for chart in charts:
        name = _name(chart.kind, chart.dataset, chart.model, chart.title)
        yield Drawing(name, f"{chart.title}, {chart.dataset}, {chart.model}", lambda chart=chart: draw_chart(chart))  # type: ignore[misc]


def draw_confusions(
    cells: Sequence[Cell],
    details: Mapping[int, Mapping[str, Any]],
    class_names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Iterator[Drawing]:
    """Two pairs of confusion matrices for each defense and attack: undefended and defended, clean and attacked.

    Args:
        cells: The cells of the manifest.
        details: Details of finished cells by index; see :func:`~advbench.analysis.cell_details`.
        class_names: The names of the classes by dataset, if they have some.
    """
    cells = with_sweep_names(cells)
    undefended: dict[tuple[str, ...], Pair] = {}
    for index, cell in enumerate(cells):
        if cell["identity"] and details.get(index, {}).get("before"):
            pair = Pair("undefended", details[index]["before"], details[index]["after"])
            undefended.setdefault((cell["dataset"], cell["model"], cell["attack"], attacker(cell)), pair)
    for index, cell in enumerate(cells):
        matrices = details.get(index, {})
        if cell["identity"] or not matrices.get("before"):
            continue
        short = cell["short"]
        own = Pair(short["defense"], matrices["before"], matrices["after"])
        other = undefended.get((cell["dataset"], cell["model"], cell["attack"], attacker(cell)))
        pairs = [own] if other is None else [other, own]
        name = _name("confusion", *_of(short), short["attack"], threat_name(cell), short["defense"])
        what = f"confusion of {short['defense']} under {short['attack']}, {threat_name(cell)}, clean and attacked"
        names = class_names.get(cell["dataset"], ())
        draw = lambda pairs=pairs, names=names: confusion_pairs(pairs, names)  # noqa: E731
        yield Drawing(name, what, draw, Subject.of(cell))


def draw_images(cells: Sequence[Cell], examples: Mapping[int, CellExamples], count: int) -> Iterator[Drawing]:
    """Attack examples, reconstructions, and strips of original, attacked, difference and defended images.

    Args:
        cells: The cells of the manifest.
        examples: Their samples, by the cell's index.
        count: Largest number of samples.
    """
    cells = with_sweep_names(cells)
    groups: dict[tuple[str, str], list[tuple[Cell, CellExamples]]] = {}
    for index, of_cell in examples.items():
        if len(of_cell.ids):
            cell = cells[index]
            groups.setdefault((cell["dataset"], cell["model"]), []).append((cell, of_cell))
    for pairs in groups.values():
        yield from _examples(pairs, count)
        yield from _reconstructions(pairs, count)
        yield from _strips(pairs, count)


def _examples(pairs: Sequence[tuple[Cell, CellExamples]], count: int) -> Iterator[Drawing]:
    """Attacks on the undefended model, if there are cells with such images."""
    attacks = {cell["attack"]: Named(cell["short"]["attack"], shown) for cell, shown in pairs if _sees_model(cell)}
    for number, part in _parts(list(attacks.values()), _MOST_ATTACKS):
        name = _name("attacks", *_of(pairs[0][0]["short"]), number)
        what = f"samples under {', '.join(named.name for named in part)}"
        yield Drawing(name, what, lambda part=part: attack_examples(part, min(count, _MOST_ROWS)))  # type: ignore[misc]


def _sees_model(cell: Cell) -> bool:
    """Whether the images of a cell were crafted on the undefended model."""
    return cell["threat"] == "oblivious" or (cell["threat"] == "adaptive" and bool(cell["identity"]))


def _reconstructions(pairs: Sequence[tuple[Cell, CellExamples]], count: int) -> Iterator[Drawing]:
    defenses = {
        cell["defense"]: Named(cell["short"]["defense"], shown) for cell, shown in pairs if not cell["identity"]
    }
    for number, part in _parts(list(defenses.values()), _MOST_DEFENSES):
        name = _name("reconstructions", *_of(pairs[0][0]["short"]), number)
        what = f"clean samples through {', '.join(named.name for named in part)}"
        yield Drawing(name, what, lambda part=part: reconstructions(part, min(count, _MOST_ROWS)))  # type: ignore[misc]


def _strips(pairs: Sequence[tuple[Cell, CellExamples]], count: int) -> Iterator[Drawing]:
    """One strip per attack if all defenses share its images; for adaptive attacks, one per attack and defense."""
    groups: dict[tuple[str, ...], list[tuple[Cell, CellExamples]]] = {}
    for cell, examples in pairs:
        if not cell["identity"]:
            adaptive = cell["threat"] == "adaptive"
            key = (cell["attack"], attacker(cell), cell["defense"] if adaptive else "")
            groups.setdefault(key, []).append((cell, examples))
    for (*_, defense), members in groups.items():
        first = members[0][0]
        short, threat = first["short"], threat_name(first)
        named = [Named(cell["short"]["defense"], examples) for cell, examples in members]
        for number, part in _parts(named, _MOST_DEFENSES):
            tail = (short["defense"],) if defense else (number,)
            name = _name("strips", *_of(short), short["attack"], threat, *tail)
            what = f"original, attacked by {short['attack']} ({threat}), difference, defended"
            subject = Subject.of(first)._replace(defense=defense)
            yield Drawing(name, what, lambda part=part: strip(part, count), subject)  # type: ignore[misc]


def _parts(items: Sequence[Named], most: int) -> Iterator[tuple[str, list[Named]]]:
    """Splits items into parts of at most ``most``, numbered if there are several."""
    starts = range(0, len(items), most)
    for start in starts:
        yield (str(start // most + 1) if len(starts) > 1 else ""), list(itertools.islice(items, start, start + most))


def _of(short: Mapping[str, str]) -> tuple[str, str]:
    return short["dataset"], short["model"]


def _name(*parts: str) -> str:
    """A file name for shells and LaTeX: words, digits and hyphens, at most 150 characters; 0.5 is written 0p5."""
    texts = (re.sub(r"(?<=\d)\.(?=\d)", "p", part.replace("∞", "inf")) for part in parts if part)
    words = (re.sub(r"[\W_]+", "-", text).strip("-") for text in texts)
    return "-".join(word for word in words if word)[:150].rstrip("-")
