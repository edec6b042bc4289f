"""Files of the results of an evaluation from Python: exports, the report and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.analysis import CellExamples, cell_details
from advbench.errors import UsageError, describe
from advbench.live.samples import LiveExamples, live_examples
from advbench.report import Html, plan_exports, plan_outputs, write_export
from advbench.session.page_details import SAMPLES, page_details, with_page_details
from advbench.session.run import MatrixRun

if TYPE_CHECKING:
    from advbench.report.figures import Drawing, Ranking

__all__ = ["write_exports", "write_figures", "write_report"]

_KINDS = ("attacks", "reconstructions", "strips", "confusion", "eps", "sweep", "scatter")
_OF_IMAGES = _KINDS[:3]
_FORMATS = ("png", "svg", "pdf")


def write_exports(run: MatrixRun, data: Mapping[str, Any], files: Sequence[str | Path]) -> list[Path]:
    """Writes results to files, as ``--export`` does; see :meth:`advbench.live.Results.export`."""
    targets = [str(file) for file in files]
    if not targets:
        raise UsageError("export(): give at least one file, such as 'board.md'")
    exports = plan_exports(run.session.registry, targets, data["run"]["name"], "export():")
    exported = with_page_details(data, exports, run.session.store, run.manifest, live_examples(run, SAMPLES))
    for export in exports:
        write_export(export, exported)
    return [export.path for export in exports]


def write_report(run: MatrixRun, data: Mapping[str, Any], file: str | Path, samples: int) -> Path:
    """Writes the HTML report; see :meth:`advbench.live.Results.report`."""
    (export,) = plan_outputs([Html()], [str(file)], data["run"]["name"], "report():")
    examples = live_examples(run, _checked_count("report", samples))
    details = page_details(run.session.store, run.manifest, examples)
    write_export(export, {**data, "details": details})
    for note in details["notes"]:
        run.session.say(note)
    return export.path


def write_figures(
    run: MatrixRun,
    data: Mapping[str, Any],
    folder: str | Path,
    *,
    formats: str | Sequence[str],
    samples: int,
    only: str | Sequence[str] | None,
) -> list[Path]:
    """Writes figures; see :meth:`advbench.live.Results.figures`."""
    kinds = _chosen("only", _KINDS if only is None else only, _KINDS)
    suffixes = _chosen("formats", formats, _FORMATS)
    examples = live_examples(run, _checked_count("figures", samples)) if {*kinds} & {*_OF_IMAGES} else None
    try:
        from advbench.report import figures
    except ImportError as error:
        raise UsageError(f"figures() needs matplotlib: pip install 'advbench[figures]' ({describe(error)})") from error
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"figures(): {path}: cannot be made: {error.strerror}") from error
    written = []
    ranking = figures.Ranking(data["cells"]) if only is None else None
    everything = figures.distinct(_drawings(run, data, samples, examples, ranking))
    drawings = [drawing for drawing in everything if drawing.kind in kinds]
    if ranking is not None:
        drawings = figures.dozen(drawings, ranking)
    for drawing in drawings:
        try:
            written += figures.save(drawing, path, suffixes)
        except OSError as error:  # noqa: PERF203  some dozen figures
            raise UsageError(f"figures(): {path}: {drawing.name} cannot be written: {error.strerror}") from error
    return written


def _drawings(
    run: MatrixRun, data: Mapping[str, Any], samples: int, examples: LiveExamples | None, ranking: Ranking | None
) -> Iterator[Drawing]:
    """All figures for which the run has data, drawn when they are saved; with a ranking, images of its first alone."""
    from advbench.report import figures

    cells, store = run.manifest["cells"], run.session.store
    details, images = dict[int, dict[str, Any]](), dict[int, CellExamples]()
    for index, described in enumerate(cells):
        record = store.read_record("cells", described["key"], arrays=True) if described["key"] else None
        if record is None or record["status"] != "ok":
            continue
        details[index] = cell_details(record, described.get("norm"))
    shown = details if ranking is None else figures.cells_with_images(cells, details, ranking)
    for index in shown:
        if examples is None:
            break
        try:
            images[index] = examples.of(cells[index])
        except (Exception, SystemExit) as error:  # an error in one cell leaves the others
            what = ", ".join(cells[index]["short"][name] for name in ("dataset", "model", "defense"))
            run.session.say_once(f"no images of {what}: {describe(error)}")
    yield from figures.draw_images(cells, images, samples)
    yield from figures.draw_confusions(cells, details, run.manifest.get("class_names", {}))
    yield from figures.draw_charts(data)


def _checked_count(method: str, samples: int) -> int:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise UsageError(f"{method}(): samples: {samples!r}: must be a whole number of at least 0")
    return samples


def _chosen(name: str, given: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """The given names without duplicates."""
    chosen = list(dict.fromkeys([given] if isinstance(given, str) else given))
    if not chosen:
        raise UsageError(f"figures(): {name}: is empty; give at least one of {', '.join(known)}")
    for item in chosen:
        if item not in known:
            raise UsageError(f"figures(): {name}: unknown {item!r}; there are: {', '.join(known)}")
    return chosen
