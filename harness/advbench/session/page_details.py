"""Confusion matrices, histograms and samples for a run's HTML page, read from the store.

Samples are stored when a cell is scored. They are computed again only if more are wanted than are stored, or if an
earlier version has scored the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from advbench.analysis import SHOWN_SAMPLES, cell_details, sample_rows
from advbench.errors import describe
from advbench.report import Export, Gallery, Html
from advbench.session.certificates import certified_samples
from advbench.store import Store

if TYPE_CHECKING:  # it imports torch, which commands that show stored numbers only do not need
    from advbench.evaluation.work.examples.example_images import ExampleImages

__all__ = ["MOST_DETAILED", "MOST_SHOWN", "page_details", "with_page_details"]

MOST_DETAILED = 2000
"""At most this many cells have confusion matrices and histograms: larger pages are slow in browsers."""

MOST_SHOWN = 400
"""At most this many cells have samples."""

MOST_CHARACTERS = 6 * 2**20
"""Size limit of all images on a page, so that it can be sent; cells have fewer samples if this does not suffice."""


def with_page_details(
    results: Mapping[str, Any],
    exports: Sequence[Export],
    store: Store,
    manifest: Mapping[str, Any],
    examples: Callable[[], ExampleImages] | None,
) -> Mapping[str, Any]:
    """The results, with details if an HTML page is among the exports; see :func:`page_details`."""
    if not any(isinstance(export.reporter, Html) for export in exports):
        return results
    return {**results, "details": page_details(store, manifest, examples)}


def page_details(
    store: Store,
    manifest: Mapping[str, Any],
    examples: Callable[[], ExampleImages] | None,
    count: int = SHOWN_SAMPLES,
) -> dict[str, Any]:
    """The details of a run's finished cells, as the reporter of the page expects them.

    If samples cannot be shown, for example because a plugin is no longer installed, a note on the page says why.

    Args:
        store: The store of the run.
        manifest: The manifest of the run.
        examples: Opens the source of samples that are not stored; None for a page without samples.
        count: How many samples to show of each cell.
    """
    gallery = Gallery()
    samples = None if examples is None else _Samples(store, examples, count)
    detailed = shown = without = 0
    last = min(MOST_SHOWN, sum(bool(described["key"]) for described in manifest["cells"]))
    for index, described in enumerate(manifest["cells"]):
        record = store.read_record("cells", described["key"], arrays=True) if described["key"] else None
        if record is None or record["status"] != "ok":
            continue
        detailed += 1
        if detailed <= MOST_DETAILED:
            gallery.add(index, cell_details(record, described.get("norm")))
        if samples is None:
            continue
        shown += 1
        space = (MOST_CHARACTERS - gallery.size) / max(1, last + 1 - shown)
        if shown <= MOST_SHOWN and space > 0:
            samples.add_to(gallery, index, described, space)
        without += shown <= MOST_SHOWN and space <= 0
    for found, most, what in ((detailed, MOST_DETAILED, "Confusion matrices"), (shown, MOST_SHOWN, "Samples")):
        if found > most:
            gallery.add_note(f"{what} are shown for the first {most:,} of {found:,} finished cells.")
    for note in samples.notes if samples is not None else ():
        gallery.add_note(note)
    if without:
        gallery.add_note(f"Samples of {without:,} cells are left out, to limit the size of the page.")
    return {**gallery.details, "certificates": certified_samples(store, manifest)}


class _Samples:
    """The samples of a run's cells, stored or computed again."""

    def __init__(self, store: Store, examples: Callable[[], ExampleImages], count: int) -> None:
        self._store = store
        self._open = examples
        self._count = count
        self._opened: ExampleImages | None = None

    @property
    def notes(self) -> list[str]:
        """What readers should know of samples that were computed again."""
        return [] if self._opened is None else self._opened.notes

    def add_to(self, gallery: Gallery, index: int, described: Mapping[str, Any], space: float) -> None:
        """Adds those of one cell, or a note that says why there are none."""
        stored = self._stored(described)
        if stored is not None:
            gallery.add_samples(index, stored, space)
            return
        if self._opened is None:
            self._opened = self._open()
        try:
            found = self._opened.of(described)
            samples = sample_rows(found.ids, found.labels.tolist(), found.clean, found.adversarial, found.defended)
        except (Exception, SystemExit) as error:
            what = ", ".join(described["short"][name] for name in ("dataset", "model", "defense"))
            gallery.add_note(f"Samples of {what} are not shown: {describe(error)}")
        else:
            gallery.add_samples(index, samples, space)

    def _stored(self, described: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Those that were stored when the cell was scored; None if they are too few."""
        stored = self._store.read_record("examples", described["key"]) or {"rows": []}
        if len(stored["rows"]) < min(self._count, described["n"]):
            return None
        return {**stored, "rows": stored["rows"][: self._count]}
