"""Confusion matrices, histograms and samples for a run's HTML page, read from the store or computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from advbench.analysis import cell_details
from advbench.errors import describe
from advbench.report import Export, Gallery, Html
from advbench.session.certificates import certified_samples
from advbench.store import Store

if TYPE_CHECKING:  # it imports torch, which commands that show stored numbers only do not need
    from advbench.evaluation.work.example_images import ExampleImages

__all__ = ["MOST_DETAILED", "MOST_SHOWN", "SAMPLES", "page_details", "with_page_details"]

SAMPLES = 6
"""Default number of samples that are shown for each cell."""

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
    examples: ExampleImages | None,
) -> Mapping[str, Any]:
    """The results, with details if an HTML page is among the exports; see :func:`page_details`."""
    if not any(isinstance(export.reporter, Html) for export in exports):
        return results
    return {**results, "details": page_details(store, manifest, examples)}


def page_details(store: Store, manifest: Mapping[str, Any], examples: ExampleImages | None) -> dict[str, Any]:
    """The details of a run's finished cells, as the reporter of the page expects them.

    If samples cannot be shown, for example because a plugin is no longer installed, a note on the page says why.

    Args:
        store: The store of the run.
        manifest: The manifest of the run.
        examples: The source of samples; None for a page without samples.
    """
    gallery = Gallery()
    detailed = shown = without = 0
    last = min(MOST_SHOWN, sum(bool(described["key"]) for described in manifest["cells"]))
    for index, described in enumerate(manifest["cells"]):
        record = store.read_record("cells", described["key"], arrays=True) if described["key"] else None
        if record is None or record["status"] != "ok":
            continue
        detailed += 1
        if detailed <= MOST_DETAILED:
            gallery.add(index, cell_details(record, described.get("norm")))
        if examples is None:
            continue
        shown += 1
        space = (MOST_CHARACTERS - gallery.size) / max(1, last + 1 - shown)
        if shown <= MOST_SHOWN and space > 0:
            _add_samples(gallery, index, described, examples, space)
        without += shown <= MOST_SHOWN and space <= 0
    for count, most, what in ((detailed, MOST_DETAILED, "Confusion matrices"), (shown, MOST_SHOWN, "Samples")):
        if count > most:
            gallery.add_note(f"{what} are shown for the first {most:,} of {count:,} finished cells.")
    for note in examples.notes if examples is not None else ():
        gallery.add_note(note)
    if without:
        gallery.add_note(f"Samples of {without:,} cells are left out, to limit the size of the page.")
    return {**gallery.details, "certificates": certified_samples(store, manifest)}


def _add_samples(
    gallery: Gallery, index: int, described: Mapping[str, Any], examples: ExampleImages, space: float
) -> None:
    try:
        gallery.add_samples(index, examples.of(described), space)
    except (Exception, SystemExit) as error:
        what = ", ".join(described["short"][name] for name in ("dataset", "model", "defense"))
        gallery.add_note(f"Samples of {what} are not shown: {describe(error)}")
