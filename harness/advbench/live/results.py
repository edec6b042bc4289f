"""What an evaluation from Python gives back."""

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
    """The adversarial images of a cell, as arrays with a row a sample.

    Attributes:
        images: float32 in [0, 1], shape (n, channels, height, width).
        labels: The true labels, int64, shape (n,).
        ids: The sample ids in the dataset, int64, shape (n,).
        clean_predictions: What the attacked classifier says of the clean images, int64, shape (n,).
        predictions: What it says of these, int64, shape (n,).
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    clean_predictions: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]


class Results:
    """A run's results: print it for the leaderboard, or take rows, a DataFrame, or the adversarial images.

    Args:
        data: All results, with the keys of an exported results.json.
        cells: The cells of the run, of the first seed where there are several.
        store: Where the adversarial images lie.

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
        """A dictionary a cell, with the columns of an exported CSV file; what was not measured is None."""
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
                "to_frame() needs pandas: pip install pandas; rows() gives dictionaries without"
            ) from error
        return pandas.DataFrame(self.rows())

    def adversarial(self, **coordinates: str) -> AdversarialImages:
        """The adversarial images of one cell.

        Args:
            **coordinates: ``attack``, ``defense``, ``threat``, ``model``, ``dataset``, as far as they are needed to
                tell the cell from the others; specs as on the leaderboard, or in full. Images of a threat that does not
                see the defense are the same for all defenses.

        Raises:
            UsageError: No cell, or cells with different images, are so described; or the cell has not run.
        """
        for name in coordinates:
            if name not in _COORDINATES:
                raise UsageError(f"adversarial(): unknown {name!r}; there are {', '.join(_COORDINATES)}")
        found = [cell for cell in self._cells if all(spec in _specs(cell, name) for name, spec in coordinates.items())]
        described = ", ".join(f"{name}={spec!r}" for name, spec in coordinates.items()) or "nothing said"
        if not found:
            raise UsageError(f"adversarial(): no cell has {described}; there are: {_choices(self._cells)}")
        sets = {tuple(chunk.key for chunk in cell.chunks) for cell in found}
        if len(sets) > 1:
            raise UsageError(f"adversarial(): {described} leaves several sets of images; say more: {_choices(found)}")
        return self._read(found[0])

    def _read(self, cell: Cell) -> AdversarialImages:
        parts: dict[str, list[npt.NDArray[Any]]] = {}
        for chunk in cell.chunks:
            stored = self._store.read_tensors(chunk.key)
            if stored is None:
                raise UsageError(f"adversarial(): {cell.label()} has no images in the store; its status tells why")
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
    """What a cell's coordinate may be called."""
    full = cell.specs()[name]
    return (full,) if name == "threat" else (full, short_spec(getattr(cell, name)))


def _choices(cells: Sequence[Cell]) -> str:
    told = {name: list(dict.fromkeys(_specs(cell, name)[-1] for cell in cells)) for name in _COORDINATES}
    return "; ".join(f"{name} {', '.join(specs)}" for name, specs in told.items() if len(specs) > 1) or "one cell"
