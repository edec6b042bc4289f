"""The results of an evaluation from Python."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from advbench.errors import UsageError
from advbench.evaluation.plan.cells import Cell
from advbench.report import leaderboards_html, print_results, rows_of
from advbench.session.opening import tables
from advbench.specs import short_spec
from advbench.store import Store

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
        cells: The cells of the run; with several seeds, those of the first.
        store: The store that holds the adversarial images.

    Attributes:
        data: All results, with the keys of an exported results.json (docs/results-json.md).
    """

    def __init__(self, data: Mapping[str, Any], cells: Sequence[Cell], store: Store) -> None:
        self.data = data
        self._cells = cells
        self._store = store

    @property
    def ok(self) -> bool:
        """Whether no cell failed."""
        return all(cell["status"] != "error" for cell in self.data["cells"])

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

    def adversarial(self, **coordinates: str) -> AdversarialImages:
        """The adversarial images of one cell.

        Args:
            **coordinates: ``attack``, ``defense``, ``threat``, ``model``, ``dataset``, as many as identify the
                cell; specs as on the leaderboard, or in full. If the threat does not see the defense, all defenses
                share the same images.

        Raises:
            UsageError: No cell matches, the cells that match have different images, or the cell was not run.
        """
        for name in coordinates:
            if name not in _COORDINATES:
                raise UsageError(f"adversarial(): unknown {name!r}; there are {', '.join(_COORDINATES)}")
        matches = [
            cell for cell in self._cells if all(spec in _specs(cell, name) for name, spec in coordinates.items())
        ]
        described = ", ".join(f"{name}={spec!r}" for name, spec in coordinates.items()) or "no coordinate"
        if not matches:
            raise UsageError(f"adversarial(): no cell has {described}; there are: {_choices(self._cells)}")
        sets = {tuple(chunk.key for chunk in cell.chunks) for cell in matches}
        if len(sets) > 1:
            raise UsageError(f"adversarial(): {described} matches several sets of images; add: {_choices(matches)}")
        return self._read(matches[0])

    def _read(self, cell: Cell) -> AdversarialImages:
        parts: dict[str, list[npt.NDArray[Any]]] = {}
        for chunk in cell.chunks:
            stored = self._store.read_tensors(chunk.key)
            if stored is None:
                raise UsageError(f"adversarial(): {cell.label()} has no images in the store; its status says why")
            for name in ("images", "labels", "clean_predictions", "predictions"):
                parts.setdefault(name, []).append(stored[0][name].numpy())
            parts.setdefault("ids", []).append(np.asarray(chunk.ids, dtype=np.int64))
        if not parts:
            raise UsageError(f"adversarial(): {cell.label()} was not run: {cell.skipped or cell.failed}")
        return AdversarialImages(**{name: np.concatenate(pieces) for name, pieces in parts.items()})

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


def _specs(cell: Cell, name: str) -> tuple[str, ...]:
    """The specs by which a coordinate of a cell may be named."""
    full = cell.specs()[name]
    return (full,) if name == "threat" else (full, short_spec(getattr(cell, name)))


def _choices(cells: Sequence[Cell]) -> str:
    specs = {name: list(dict.fromkeys(_specs(cell, name)[-1] for cell in cells)) for name in _COORDINATES}
    return (
        "; ".join(f"{name} {', '.join(of_name)}" for name, of_name in specs.items() if len(of_name) > 1) or "one cell"
    )
