"""Which samples the cells of a run have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["most_samples", "sample_ids"]


def sample_ids(manifest: Mapping[str, Any], described: Mapping[str, Any]) -> Any:
    """The ids of the samples of a cell or of certificates, ascending; None if the run has none of their dataset.

    The parts of a suite may have different numbers of samples. Then the manifest's ``samples`` has the largest set of
    each dataset, and ``subsets`` the others, by the number of their samples.

    Args:
        manifest: The manifest of the run.
        described: An entry of its ``cells`` or ``certificates``.
    """
    dataset = described["dataset"]
    subset = manifest.get("subsets", {}).get(dataset, {}).get(str(described["n"]))
    return manifest["samples"].get(dataset) if subset is None else subset


def most_samples(manifest: Mapping[str, Any]) -> dict[str, int]:
    """The largest number of samples of a cell, for each dataset."""
    return {dataset: len(ids) for dataset, ids in manifest["samples"].items()}
