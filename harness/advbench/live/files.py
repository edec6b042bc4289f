"""Files of the results of an evaluation from Python: exports, the report and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.errors import UsageError
from advbench.live.samples import live_examples
from advbench.report import Html, plan_exports, plan_outputs, write_export
from advbench.session.figures import FORMATS, KINDS, figure_folder, save_figures, select_figures
from advbench.session.page_details import SAMPLES, page_details, with_page_details
from advbench.session.run import MatrixRun

__all__ = ["write_exports", "write_figures", "write_report"]


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
    _check_count("report", samples)
    examples = live_examples(run, samples) if samples else None
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
    kinds = None if only is None else _chosen("only", only, KINDS)
    suffixes, given_as = _chosen("formats", formats, FORMATS), f"figures(): {folder}"
    _check_count("figures", samples)
    path = figure_folder(Path(folder), given_as)
    drawings, notes = select_figures(
        run.session.store,
        run.manifest,
        data,
        range(len(run.manifest["cells"])),
        kinds=kinds,
        samples=samples,
        examples=lambda: live_examples(run, samples),
    )
    for note in notes:
        run.session.say(note)
    return [path for _, paths in save_figures(drawings, path, suffixes, given_as) for path in paths]


def _check_count(method: str, samples: int) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise UsageError(f"{method}(): samples: {samples!r}: must be a whole number of at least 0")


def _chosen(name: str, given: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """The given names without duplicates."""
    chosen = list(dict.fromkeys([given] if isinstance(given, str) else given))
    if not chosen:
        raise UsageError(f"figures(): {name}: is empty; give at least one of {', '.join(known)}")
    for item in chosen:
        if item not in known:
            raise UsageError(f"figures(): {name}: unknown {item!r}; there are: {', '.join(known)}")
    return chosen
