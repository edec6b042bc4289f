"""The results of an evaluation from Python."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from advbench.api import Component
from advbench.errors import UsageError
from advbench.evaluation.plan.cells import Cell
from advbench.live.comparison import Comparison, of_components, of_runs
from advbench.live.files import write_exports, write_figures, write_report
from advbench.report import leaderboards_html, print_results, rows_of
from advbench.session.opening import tables
from advbench.session.run import MatrixRun
from advbench.session.stored_runs import find_run
from advbench.specs import full_spec, resolve_chain, resolve_one, short_spec

if TYPE_CHECKING:
    import pandas

__all__ = ["AdversarialImages", "Results"]

_COORDINATES = ("dataset", "model", "attack", "threat", "defense")


class AdversarialImages(NamedTuple):
    """The adversarial images of a cell, as arrays with one row for each sample.

    Attributes:
        images: float32 in [0, 1], shape (n, channels, height, width).
        labels: The true labels, int64, shape (n,).
        ids: The sample ids in the dataset, int64, shape (n,).
        clean_predictions: The attacked classifier's labels for the clean images, int64, shape (n,).
        predictions: Its labels for the adversarial images, int64, shape (n,).
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    clean_predictions: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]


class Results:
    """The results of a run: print them for the leaderboard, or take rows, a DataFrame, or the adversarial images.

    Args:
        data: All results, with the keys of an exported results.json.
        run: The run; with several seeds, that of the first.

    Attributes:
        data: All results, with the keys of an exported results.json (docs/results-json.md).
    """

    def __init__(self, data: Mapping[str, Any], run: MatrixRun) -> None:
        self.data = data
        self._run = run
        self._cells = run.plan.cells
        self._store = run.session.store

    @property
    def ok(self) -> bool:
        """Whether no cell failed."""
        return all(cell["status"] != "error" for cell in self.data["cells"])

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the sanity checks found, as ``advbench audit`` prints it; empty if they found nothing.

        Each entry has ``criterion``, ``message``, ``advice``, and ``cells``, the indices of its cells in :meth:`rows`.
        """
        return [dict(finding) for finding in self.data["findings"]]

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each cell, with the columns of an exported CSV file; None for what was not measured."""
        return rows_of(self.data)

    def to_frame(self) -> pandas.DataFrame:
        """The rows as a pandas DataFrame.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UsageError(
                "to_frame() needs pandas: pip install pandas; rows() returns dictionaries without it"
            ) from error
        return pandas.DataFrame(self.rows())

    def adversarial(self, **coordinates: str | Component) -> AdversarialImages:
        """The adversarial images of one cell.

        Args:
            **coordinates: ``attack``, ``defense``, ``threat``, ``model``, ``dataset``, as many as identify the
                cell: specs with or without their defaults, names of the user, or component objects. If the threat does
                not see the defense, all defenses share the same images.

        Raises:
            UsageError: No cell matches, the cells that match have different images, or the cell was not run.
        """
        for name in coordinates:
            if name not in _COORDINATES:
                raise UsageError(f"adversarial(): unknown {name!r}; there are {', '.join(_COORDINATES)}")
        wanted = {name: self._spellings(name, spec) for name, spec in coordinates.items()}
        matches = [
            cell
            for cell in self._cells
            if all(spellings & {*self._specs(cell, name)} for name, spellings in wanted.items())
        ]
        described = ", ".join(f"{name}={_text(spec)!r}" for name, spec in coordinates.items()) or "no coordinate"
        if not matches:
            raise UsageError(f"adversarial(): no cell has {described}; there are: {self._choices(self._cells)}")
        sets = {tuple(chunk.key for chunk in cell.chunks) for cell in matches}
        if len(sets) > 1:
            raise UsageError(
                f"adversarial(): {described} matches several sets of images; add: {self._choices(matches)}"
            )
        return self._read(matches[0])

    def export(self, *files: str | Path) -> list[Path]:
        """Writes the results to files, as ``--export`` does.

        Args:
            *files: Files whose suffix selects the format: ``.md``, ``.tex``, ``.csv``, ``.json`` or ``.html``. In an
                existing Markdown file, a block is replaced; ``"README.md#NAME"`` selects one of several.

        Returns:
            The paths of the files.

        Raises:
            UsageError: A file cannot be written, or no reporter has its suffix.
        """
        return write_exports(self._run, self.data, files)

    def report(self, file: str | Path = "report.html", samples: int = 6) -> Path:
        """Writes the results as one HTML page, as ``advbench report`` does.

        Args:
            file: The page, an ``.html`` file.
            samples: Samples shown for each cell. Live objects that have changed since have none, and the page says so.

        Returns:
            The path of the page.

        Raises:
            UsageError: The file cannot be written.
        """
        return write_report(self._run, self.data, file, samples)

    def figures(
        self,
        folder: str | Path,
        formats: str | Sequence[str] = ("png",),
        samples: int = 8,
        only: str | Sequence[str] | None = None,
    ) -> list[Path]:
        """Draws figures of the results for print, as ``advbench figures`` does.

        Args:
            folder: The folder to write to, made if missing.
            formats: Some of ``"png"``, ``"svg"`` and ``"pdf"``.
            samples: Samples in figures of images; 0 draws no such figure.
            only: Which figures: some of ``"attacks"``, ``"reconstructions"``, ``"strips"``, ``"confusion"``,
                ``"eps"``, ``"sweep"`` and ``"scatter"``. All figures of these kinds are drawn; without ``only``, the
                dozen that says most.

        Returns:
            The paths of the files.

        Raises:
            UsageError: An argument is unknown, the folder cannot be written, or matplotlib is not installed.
        """
        return write_figures(self._run, self.data, folder, formats=formats, samples=samples, only=only)

    def compare(
        self,
        other: Results | str | None = None,
        *,
        defenses: tuple[str | Component, str | Component] | None = None,
        models: tuple[str | Component, str | Component] | None = None,
        attacks: tuple[str | Component, str | Component] | None = None,
    ) -> Comparison:
        """Compares these results with those of another run, or two components with each other, on the same samples.

        With several seeds, the first is compared.

        Args:
            other: Other results; or a run in the same store: its id, the beginning of its id, or ``latest~1``.
            defenses: Two defenses of this run, instead of ``other``.
            models: Two models of this run, instead of ``other``.
            attacks: Two attacks of this run, instead of ``other``.

        Returns:
            Both robust accuracies for each attack and in the worst case, with McNemar's exact test on the samples.

        Raises:
            UsageError: There is no such run or component, or nothing was evaluated on the same samples.
        """
        pairs = {"defense": defenses, "model": models, "attack": attacks}
        given = {axis: pair for axis, pair in pairs.items() if pair is not None}
        if (other is not None) + len(given) != 1:
            raise UsageError(
                "compare(): give either other results, or defenses=(FIRST, SECOND), models=(FIRST, SECOND) or "
                "attacks=(FIRST, SECOND)"
            )
        run = (self._run.manifest, self._store)
        if given:
            ((axis, pair),) = given.items()
            first, second = (self._component(axis, one) for one in _two(axis, pair))
            return of_components(run, axis, first, second)
        if isinstance(other, Results):
            return of_runs(run, (other._run.manifest, other._store))
        return of_runs(run, (find_run(self._store, str(other)), self._store))

    def _component(self, axis: str, given: str | Component) -> str:
        """The full spec of a defense, a model or an attack of this run."""
        wanted = self._spellings(axis, given)
        for cell in self._cells:
            if wanted & {*self._specs(cell, axis)}:
                return cell.specs()[axis]
        shown = dict.fromkeys(self._specs(cell, axis)[-1] for cell in self._cells)
        raise UsageError(f"compare(): no cell has {axis}={_text(given)!r}; there are: {', '.join(shown)}")

    def _spellings(self, name: str, given: str | Component) -> set[str]:
        """A coordinate as it is given, and as the full spec of the component that it names, if it names one."""
        text, registry = _text(given), self._run.session.registry
        if name == "threat":
            return {text}
        try:
            named = resolve_chain(registry, text) if name == "defense" else [resolve_one(registry, f"{name}s", text)]
        except UsageError:  # the caller lists the specs of the run
            return {text}
        return {text, *map(full_spec, named)}

    def _specs(self, cell: Cell, name: str) -> tuple[str, ...]:
        """The specs by which a coordinate of a cell may be named; the last is shown."""
        full = cell.specs()[name]
        if name == "threat":
            return (full,)
        return full, short_spec(getattr(cell, name)), cell.short_names()[name]

    def _choices(self, cells: Sequence[Cell]) -> str:
        """The coordinates in which cells differ, for messages."""
        specs = {name: list(dict.fromkeys(self._specs(cell, name)[-1] for cell in cells)) for name in _COORDINATES}
        several = (f"{name} {', '.join(of_name)}" for name, of_name in specs.items() if len(of_name) > 1)
        return "; ".join(several) or "one cell"

    def _read(self, cell: Cell) -> AdversarialImages:
        parts: dict[str, list[npt.NDArray[Any]]] = {}
        for chunk in cell.chunks:
            stored = self._store.read_tensors(chunk.key)
            if stored is None:
                raise UsageError(f"adversarial(): {cell.label()} {self._why_without_images(cell)}")
            for name in ("images", "labels", "clean_predictions", "predictions"):
                parts.setdefault(name, []).append(stored[0][name].numpy())
            parts.setdefault("ids", []).append(np.asarray(chunk.ids, dtype=np.int64))
        if not parts:
            raise UsageError(f"adversarial(): {cell.label()} was not run: {cell.skipped or cell.failed}")
        return AdversarialImages(**{name: np.concatenate(pieces) for name, pieces in parts.items()})

    def _why_without_images(self, cell: Cell) -> str:
        record = self._store.read_record("cells", cell.key) or {}
        if record.get("status") == "error":
            return f"failed and has no images: {record.get('error')}"
        return (
            "has no images: they are damaged or no longer in the store; to compute them again, repeat the evaluation "
            "with rerun='all'"
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows())

    def __len__(self) -> int:
        return len(self.data["cells"])

    def __str__(self) -> str:
        text = io.StringIO()
        print_results(tables(text), self.data)
        return text.getvalue().strip("\n")

    def __repr__(self) -> str:
        return f"<advbench results {self.data['run']['run']}: {len(self)} cells>"

    def _repr_html_(self) -> str:
        return leaderboards_html(self.data)


def _two(axis: str, given: Any) -> tuple[Any, Any]:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        raise UsageError(f"compare(): {axis}s must be a pair of {axis}s, such as {axis}s=(FIRST, SECOND)")
    return given[0], given[1]


def _text(given: str | Component) -> str:
    return full_spec(given) if isinstance(given, Component) else str(given)
