"""Details of single cells for the page: confusion matrices, distances and samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["Gallery"]

_VIEWS = ("clean", "adversarial", "defended")


class Gallery:
    """Collects the details of cells; images that several cells share are stored once.

    Attributes:
        size: Total length of the images' data URIs, in characters.
    """

    def __init__(self) -> None:
        self.size = 0
        self._images: dict[str, int] = {}
        self._cells: dict[str, dict[str, Any]] = {}
        self._notes: list[str] = []

    @property
    def details(self) -> dict[str, Any]:
        """The collected details, as plain data.

        ``cells`` by their index in the results, ``images`` as data URIs, and ``notes`` on the samples, such as the
        reasons why some cells have none.
        """
        return {"cells": self._cells, "images": list(self._images), "notes": self._notes}

    def add(self, index: int, details: Mapping[str, Any]) -> None:
        """Adds the details of a record, from :func:`~advbench.analysis.cell_details`."""
        self._cells[str(index)] = {**self._cells.get(str(index), {}), **details}

    def add_note(self, text: str) -> None:
        """Adds a note on the samples, or on why some cells have none; once."""
        if text not in self._notes:
            self._notes.append(text)

    def add_samples(self, index: int, samples: Mapping[str, Any], limit: float = math.inf) -> None:
        """Adds the samples of a cell.

        Args:
            index: The cell's index in the results.
            samples: The samples, from :func:`~advbench.analysis.sample_rows`.
            limit: Approximate limit of the size of their images, in characters; further samples are omitted.
        """
        if not samples["rows"]:
            return
        before = self.size
        rows = []
        for at, row in enumerate(samples["rows"]):
            if at and self.size - before >= limit * at / (at + 1):
                break
            views = {name: [self._image(row[name][0]), *row[name][1:]] for name in _VIEWS}
            rows.append({**row, **views, "difference": self._image(row["difference"])})
        self.add(index, {"samples": {**samples, "rows": rows}})

    def _image(self, uri: str) -> int:
        if uri not in self._images:
            self._images[uri] = len(self._images)
            self.size += len(uri)
        return self._images[uri]
