"""The results of an evaluation from Python."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from advbench.errors import UsageError
from advbench.evaluation.plan.cells import Cell
from advbench.live.comparison import Comparison, of_components, of_runs
from advbench.live.components import LiveObjects
from advbench.live.coordinates import COORDINATES, Coordinates, choices, described
from advbench.live.files import write_exports, write_figures, write_report
from advbench.live.wrappers import kind_of
from advbench.option_names import called_from_python
from advbench.report import leaderboards_html, print_results, rows_of
from advbench.session.figures import KINDS
from advbench.session.opening import tables
from advbench.session.run import MatrixRun
from advbench.session.stored_runs import find_run

if TYPE_CHECKING:
    import pandas

__all__ = ["AdversarialImages", "Results"]


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
        live: The objects that were evaluated.

    Attributes:
        data: All results, with the keys of an exported results.json (docs/results-json.md).
    """

    def __init__(self, data: Mapping[str, Any], run: MatrixRun, live: LiveObjects) -> None:
        self.data = data
        self._run = run
        self._coordinates = Coordinates(run.plan.cells, run.session.registry, live)
        self._store = run.session.store

    @property
    def ok(self) -> bool:
        """Whether no cell and no certificate failed."""
        return all(one["status"] != "error" for one in (*self.data["cells"], *self.data.get("certificates", ())))

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

    @called_from_python()
    def adversarial(self, **coordinates: Any) -> AdversarialImages:
        """The adversarial images of one cell.

        Args:
            **coordinates: ``attack``, ``defense``, ``threat``, ``model``, ``dataset``, ``surrogate``, as many as
                identify the cell: specs with or without their defaults, names of the user, component objects, or the
                networks, functions and data that :func:`matrix` was given. If the threat does not see the defense, all
                defenses share the same images.

        Raises:
            UsageError: No cell matches, the cells that match have different images, or the cell was not run.
        """
        for name in coordinates:
            if name not in COORDINATES:
                raise UsageError(f"adversarial(): unknown {name!r}; there are {', '.join(COORDINATES)}")
        matches = self._coordinates.matching("adversarial()", coordinates)
        sets = {tuple(chunk.key for chunk in cell.chunks) for cell in matches}
        if len(sets) > 1:
            what = f"{described(coordinates)} matches" if coordinates else "the run has"
            raise UsageError(f"adversarial(): {what} several sets of images; add: {choices(matches)}")
        return self._read(matches[0])

    @called_from_python()
    def export(self, *files: str | Path | Iterable[str | Path]) -> list[Path]:
        """Writes the results to files, as ``--export`` does.

        Args:
            *files: Files, or a list of them, whose suffix selects the format: ``.md``, ``.tex``, ``.csv``, ``.json`` or
                ``.html``. In an existing Markdown file, a block is replaced; ``"README.md#NAME"`` selects one of
                several.

        Returns:
            The paths of the files.

        Raises:
            UsageError: A file cannot be written, or no reporter has its suffix.
        """
        return write_exports(self._run, self.data, files)

    @called_from_python()
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

    @called_from_python()
    def figures(
        self,
        folder: str | Path,
        formats: str | Sequence[str] = ("png",),
        samples: int = 8,
        only: str | Sequence[str] | None = None,
        *,
        attacks: Any = None,
        defenses: Any = None,
        all: bool = False,
    ) -> list[Path]:
        """Draws figures of the results for print, as ``advbench figures`` does.

        Args:
            folder: The folder to write to, made if missing.
            formats: Some of ``"png"``, ``"svg"`` and ``"pdf"``.
            samples: Samples in figures of images; 0 draws no such figure.
            only: Which figures: some of ``"attacks"``, ``"reconstructions"``, ``"strips"``, ``"confusion"``,
                ``"eps"``, ``"sweep"`` and ``"scatter"``. All figures of these kinds are drawn; without ``only``, the
                dozen that says most.
            attacks: Draw only figures of these attacks: one or several specs, names, component objects or functions
                that :func:`matrix` was given. A spec with some of the parameters, such as ``"pgd"``, selects every
                attack of the run that has them.
            defenses: Draw only figures of these defenses, likewise.
            all: Draw all figures of the run.

        Returns:
            The paths of the files.

        Raises:
            UsageError: An argument is unknown, the folder cannot be written, or matplotlib is not installed.
        """
        if all and only is not None:
            raise UsageError("figures(): only and all: give only one of them")
        return write_figures(
            self._run,
            self.data,
            folder,
            formats=formats,
            samples=samples,
            only=KINDS if all else only,
            attacks=self._coordinates.specs("figures()", "attack", attacks),
            defenses=self._coordinates.specs("figures()", "defense", defenses),
        )

    @called_from_python()
    def compare(
        self,
        other: Results | str | None = None,
        *,
        defenses: tuple[Any, Any] | None = None,
        models: tuple[Any, Any] | None = None,
        attacks: tuple[Any, Any] | None = None,
    ) -> Comparison:
        """Compares these results with those of another run, or two components with each other, on the same samples.

        With several seeds, the first is compared.

        Args:
            other: Other results; or a run in the same store: its id, the beginning of its id, or ``latest~1``.
            defenses: Two defenses of this run, instead of ``other``: specs, names, component objects, or functions
                that :func:`matrix` was given.
            models: Two models of this run, likewise.
            attacks: Two attacks of this run, likewise.

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
            first, second = (self._coordinates.full_spec("compare()", axis, one) for one in _two(axis, pair))
            return of_components(run, axis, first, second)
        if isinstance(other, Results):
            return of_runs(run, (other._run.manifest, other._store))
        if not isinstance(other, str):
            raise UsageError(f"compare(): {kind_of(other)} is neither results nor the name of a run")
        return of_runs(run, (find_run(self._store, other), self._store))

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
