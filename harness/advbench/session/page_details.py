"""What a page shows of a run's cells beyond their numbers, read from the store and computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis import cell_details
from advbench.errors import describe
from advbench.evaluation.work.example_images import ExampleImages
from advbench.report import Export, Gallery, Html
from advbench.store import Store

__all__ = ["MOST_DETAILED", "MOST_SHOWN", "SAMPLES", "detailed", "page_details"]

SAMPLES = 6
"""So many samples of a cell are shown, unless another number is asked for."""

MOST_DETAILED = 2000
"""So many cells have confusion matrices and histograms on a page: beyond, browsers take their time."""

MOST_SHOWN = 400
"""So many cells have samples."""

MOST_CHARACTERS = 6 * 2**20
"""So much of a page may be images, so that it can be sent; cells have fewer samples where that does not suffice."""


def detailed(
    results: Mapping[str, Any],
    exports: Sequence[Export],
    store: Store,
    manifest: Mapping[str, Any],
    examples: ExampleImages | None,
) -> Mapping[str, Any]:
    """The results with details where a page is among the exports; see :func:`page_details`."""
    if not any(isinstance(export.reporter, Html) for export in exports):
        return results
    return {**results, "details": page_details(store, manifest, examples)}


def page_details(store: Store, manifest: Mapping[str, Any], examples: ExampleImages | None) -> dict[str, Any]:
    """The details of a run's finished cells, as a page's reporter takes them.

    Args:
        store: Where the run is.
        manifest: The run's.
        examples: Where samples come from; None for a page without.

    What keeps samples from being shown, such as a plugin that is gone, is a note on the page and no failure.
    """
    gallery = Gallery()
    detailed = shown = without = 0
    last = min(MOST_SHOWN, sum(bool(described["key"]) for described in manifest["cells"]))
    for place, described in enumerate(manifest["cells"]):
        record = store.read_record("cells", described["key"], arrays=True) if described["key"] else None
        if record is None or record["status"] != "ok":
            continue
        detailed += 1
        if detailed <= MOST_DETAILED:
            gallery.add(place, cell_details(record, described.get("norm")))
        if examples is None:
            continue
        shown += 1
        room = (MOST_CHARACTERS - gallery.size) / max(1, last + 1 - shown)
        if shown <= MOST_SHOWN and room > 0:
            _add_samples(gallery, place, described, examples, room)
        without += shown <= MOST_SHOWN and room <= 0
    for count, most, what in ((detailed, MOST_DETAILED, "Confusion matrices"), (shown, MOST_SHOWN, "Samples")):
        if count > most:
            gallery.add_note(f"{what} are shown of the first {most:,} of {count:,} finished cells.")
    if without:
        gallery.add_note(f"Samples of {without:,} cells are left out, with which the page would become too large.")
    return gallery.details


def _add_samples(
    gallery: Gallery, place: int, described: Mapping[str, Any], examples: ExampleImages, room: float
) -> None:
    try:
        gallery.add_samples(place, examples.of(described), room)
    except (Exception, SystemExit) as error:
        what = ", ".join(described["short"][name] for name in ("dataset", "model", "defense"))
        gallery.add_note(f"Samples of {what} are not shown: {describe(error)}")
