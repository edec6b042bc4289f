"""Files of the results of an evaluation from Python: exports, the report and figures."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.analysis import SHOWN_SAMPLES, combine_seeds
from advbench.errors import UsageError
from advbench.live.samples import live_examples
from advbench.live.wrappers import kind_of
from advbench.report import Html, plan_exports, plan_outputs, write_export
from advbench.session.cell_filter import matching_cells, only_cells
from advbench.session.figures import FORMATS, KINDS, figure_folder, save_figures, select_figures
from advbench.session.page_details import page_details, with_page_details
from advbench.session.run import MatrixRun
from advbench.session.stored_runs import find_run, read_results

__all__ = ["write_exports", "write_figures", "write_report"]


def write_exports(
    run: MatrixRun, data: Mapping[str, Any], files: Sequence[str | Path | Iterable[str | Path]]
) -> list[Path]:
    """Writes results to files, as ``--export`` does; see :meth:`advbench.live.Results.export`."""
    given = [list(item) if isinstance(item, Iterable) and not _is_path(item) else [item] for item in files]
    targets = [_path("export()", "file", item) for item in itertools.chain.from_iterable(given)]
    if not targets:
        raise UsageError("export(): give at least one file, such as 'board.md'")
    exports = plan_exports(run.session.registry, targets, data["run"]["name"], "export():")
    exported = with_page_details(
        data, exports, run.session.store, run.manifest, lambda: live_examples(run, SHOWN_SAMPLES)
    )
    for export in exports:
        write_export(export, exported)
    return [export.path for export in exports]


def write_report(run: MatrixRun, data: Mapping[str, Any], file: str | Path, samples: int) -> Path:
    """Writes the HTML report; see :meth:`advbench.live.Results.report`."""
    (export,) = plan_outputs([Html()], [_path("report()", "file", file)], data["run"]["name"], "report():")
    _check_count("report", samples)
    examples = (lambda: live_examples(run, samples)) if samples else None
    details = page_details(run.session.store, run.manifest, examples, samples)
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
    attacks: Sequence[str],
    defenses: Sequence[str],
) -> list[Path]:
    """Writes figures; see :meth:`advbench.live.Results.figures`."""
    kinds = None if only is None else _chosen("only", only, KINDS)
    suffixes, given_as = _chosen("formats", formats, FORMATS), f"figures(): {folder}"
    _check_count("figures", samples)
    try:
        wanted = matching_cells(run.manifest, attacks, defenses)
    except UsageError as error:
        raise UsageError(f"figures(): {error}") from error
    path = figure_folder(Path(_path("figures()", "folder", folder)), given_as)
    drawings, notes = select_figures(
        run.session.store,
        run.manifest,
        _results_of(run, data, wanted) if attacks or defenses else data,
        wanted,
        kinds=kinds,
        samples=samples,
        examples=lambda: live_examples(run, samples),
    )
    for note in notes:
        run.session.say(note)
    return [path for _, paths in save_figures(drawings, path, suffixes, given_as) for path in paths]


def _results_of(run: MatrixRun, data: Mapping[str, Any], wanted: Sequence[int]) -> dict[str, Any]:
    """The results of some cells, over all seeds; worst cases are those over these cells."""
    store = run.session.store
    manifests = [find_run(store, seed_run) for seed_run in data["run"].get("seeds", {}).values()] or [run.manifest]
    return combine_seeds([read_results(store, only_cells(manifest, wanted))[0] for manifest in manifests])


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike))


def _path(method: str, name: str, value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise UsageError(f"{method}: {name}: {kind_of(value)} is not a path; give text or a pathlib.Path")
    return os.fsdecode(value)


def _check_count(method: str, samples: int) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise UsageError(f"{method}(): samples: {samples!r}: must be a whole number of at least 0")


def _chosen(name: str, given: Any, known: Sequence[str]) -> list[str]:
    """The given names, one or several, without duplicates."""
    chosen = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not chosen:
        raise UsageError(f"figures(): {name}: is empty; give at least one of {', '.join(known)}")
    for item in chosen:
        if item not in known:
            raise UsageError(f"figures(): {name}: unknown {item!r}; there are: {', '.join(known)}")
    return list(dict.fromkeys(chosen))
