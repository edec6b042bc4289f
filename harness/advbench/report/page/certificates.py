"""The details of certificates for the page's script, as texts that are ready to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.api.perturbation import NORM_SYMBOLS
from advbench.report.columns import percent

__all__ = ["MOST_LISTED", "certificate_details"]

MOST_LISTED = 1000
"""At most this many samples are listed, since longer tables are slow in browsers."""


def certificate_details(
    entry: Mapping[str, Any], samples: Sequence[Sequence[Any]] | None, run: Mapping[str, Any]
) -> dict[str, Any]:
    """The details of the certificates of a defended model, in the form of those of a cell.

    Args:
        entry: The entry in the results.
        samples: The sample's id, its label, its certified class (-1: abstained) and its radius, for each sample; None
            if they are not known.
        run: The run of the results.

    Returns:
        ``dataset``, ``title``, ``badges``, ``facts``, ``warnings``, and if known ``certified``: the curve of the
        certified accuracy, and the radii of the samples.
    """
    short, seeds = entry["short"], list(run.get("seeds", ()))
    name = short["model"] if short["defense"] == "none" else short["defense"]
    listed = [] if samples is None else [list(sample) for sample in samples[:MOST_LISTED]]
    certified = {
        "curve": entry["curve"],
        "norm": NORM_SYMBOLS[entry["norm"]],
        "samples": listed,
        "all": 0 if samples is None else len(samples),
    }
    return {
        "dataset": entry["dataset"],
        "title": f"Certificates of {name}",
        "badges": ["certified"],
        "facts": list(_facts(entry, seeds)),
        "warnings": [],
        **({"certified": certified} if entry["curve"] else {}),
        **({"seed": seeds[0]} if len(seeds) > 1 else {}),
    }


def _facts(entry: Mapping[str, Any], seeds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Labels and texts; with several seeds, numbers are means."""
    for name in ("dataset", "model", "defense"):
        yield name, entry[name]
    if entry["status"] != "ok":
        yield entry["status"], entry["error"]
        return
    if len(seeds) > 1:
        yield "seeds", f"{', '.join(seeds)}; the numbers are means over them"
    yield "samples", f"{entry['n']:,}"
    symbol = NORM_SYMBOLS[entry["norm"]]
    for at in (entry["accuracy"], *entry["at"]):
        low, high = at["ci95"]
        text = f"{percent(at['accuracy'])} % (95 % interval {percent(low)}–{percent(high)})"
        yield f"certified at {symbol} ≤ {at['radius']:.6g}", text
    yield "abstained", f"{entry['abstained']:,.6g} samples"
    if entry["median_radius"] is not None:
        yield f"median {symbol} radius", f"{entry['median_radius']:.4g} (of the samples with the right certified class)"
    yield "time", f"{entry['seconds']:,.3g} s"
