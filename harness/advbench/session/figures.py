"""Figures of a run with results, from the command line and from Python: which are drawn, and their files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from advbench.errors import UsageError, describe

if TYPE_CHECKING:  # the command line declares its flags without these
    from advbench.analysis import CellExamples
    from advbench.evaluation.work.examples.example_images import ExampleImages
    from advbench.report.figures import Drawing
    from advbench.store import Store

__all__ = ["FORMATS", "KINDS", "figure_folder", "save_figures", "select_figures"]

KINDS = ("attacks", "reconstructions", "strips", "confusion", "eps", "sweep", "queries", "scatter")
"""The kinds of figures. The names of their files begin with these."""

FORMATS = ("png", "svg", "pdf")
"""The formats of the files of figures."""

_OF_IMAGES = {"attacks", "reconstructions", "strips"}
"""The kinds of figures that show images, for which components are loaded."""


def figure_folder(folder: Path, given_as: str) -> Path:
    """Makes the folder of the figures.

    Args:
        folder: The folder.
        given_as: How the user gave it, such as ``--output figures``, for messages.

    Raises:
        UsageError: It cannot be made, or matplotlib is missing.
    """
    _figures()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{given_as}: cannot be made: {error.strerror}") from error
    return folder


def select_figures(
    store: Store,
    manifest: Mapping[str, Any],
    results: Mapping[str, Any],
    wanted: Collection[int],
    *,
    kinds: Collection[str] | None,
    samples: int,
    examples: Callable[[], ExampleImages],
) -> tuple[list[Drawing], list[str]]:
    """The figures to draw; each is drawn when it is saved.

    Args:
        store: The store of the run.
        manifest: The manifest of the run.
        results: The results of the wanted cells.
        wanted: The indices of the cells to draw.
        kinds: The kinds of figures, of which all are drawn; None for the dozen that a paper needs.
        samples: The number of samples in figures that show images; 0 for none of these.
        examples: Gives the example images; called only if a figure shows images.

    Returns:
        The figures, and notes on their images and on cells whose images cannot be shown.
    """
    figures, cells = _figures(), manifest["cells"]
    ranking, details = figures.Ranking(results["cells"]), _details(store, manifest, wanted)
    images: dict[int, CellExamples] = {}
    notes: list[str] = []
    if samples and _OF_IMAGES.intersection(KINDS if kinds is None else kinds):
        shown = figures.cells_with_images(cells, details, ranking) if kinds is None else details
        images, notes = _example_images(examples(), cells, shown)
    drawings = figures.distinct(
        (
            *figures.draw_images(cells, images, samples),
            *figures.draw_confusions(cells, details, manifest.get("class_names", {})),
            *figures.draw_charts(results),
        )
    )
    if kinds is None:
        return figures.dozen(drawings, ranking), notes
    return [drawing for drawing in drawings if drawing.kind in kinds], notes


def save_figures(
    drawings: Iterable[Drawing], folder: Path, formats: Sequence[str], given_as: str
) -> Iterator[tuple[Drawing, list[Path]]]:
    """Writes figures, one after another, and yields each with its files.

    Args:
        drawings: The figures.
        folder: Where to write to.
        formats: The formats of the files.
        given_as: How the user gave the folder, for messages.

    Raises:
        UsageError: A file cannot be written.
    """
    for drawing in drawings:
        try:
            yield drawing, _figures().save(drawing, folder, formats)
        except OSError as error:  # noqa: PERF203  some dozen figures
            raise UsageError(f"{given_as}: {drawing.name} cannot be written: {error.strerror}") from error


def _figures() -> ModuleType:
    try:
        from advbench.report import figures
    except ImportError as error:
        raise UsageError(f"figures need matplotlib: pip install 'advbench[figures]' ({describe(error)})") from error
    return figures


def _details(store: Store, manifest: Mapping[str, Any], wanted: Collection[int]) -> dict[int, dict[str, Any]]:
    """Confusion matrix and histograms of finished cells, by index: of the wanted ones and of the undefended model's."""
    from advbench.analysis import cell_details

    cells, details = manifest["cells"], {}
    groups = {(cells[index]["dataset"], cells[index]["model"], cells[index]["attack"]) for index in wanted}
    for index, described in enumerate(cells):
        group = described["dataset"], described["model"], described["attack"]
        if index not in wanted and not (described["identity"] and group in groups):
            continue
        record = store.read_record("cells", described["key"], arrays=True) if described["key"] else None
        if record is not None and record["status"] == "ok":
            details[index] = cell_details(record, described.get("norm"))
    return details


def _example_images(
    images: ExampleImages, cells: Sequence[Mapping[str, Any]], shown: Iterable[int]
) -> tuple[dict[int, CellExamples], list[str]]:
    """The samples of cells, and notes on them and on cells whose samples cannot be loaded."""
    examples, notes = {}, dict[str, None]()
    for index in shown:
        try:
            examples[index] = images.of(cells[index])
        except (Exception, SystemExit) as error:  # noqa: PERF203  an error in one cell leaves the others
            what = ", ".join(cells[index]["short"][name] for name in ("dataset", "model", "defense"))
            notes[f"no images of {what}: {describe(error)}"] = None
    return examples, [*notes, *images.notes]
