"""The certificates of a run, from the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from advbench.analysis.certificates import Certificates, count_breaks
from advbench.analysis.samples import sample_ids
from advbench.store import Store

__all__ = ["certified_samples", "read_certificates"]


def read_certificates(store: Store, manifest: Mapping[str, Any]) -> list[Certificates]:
    """The certificates of a run as far as the store has them, compared with the cells of the same defended models."""
    return [_read(store, described, manifest["cells"]) for described in manifest.get("certificates", ())]


def certified_samples(store: Store, manifest: Mapping[str, Any]) -> dict[str, list[list[Any]]]:
    """Of each complete list of certificates, by its index: the id, label, class and radius of each sample."""
    listed = {}
    for number, described in enumerate(manifest.get("certificates", ())):
        certificates = _stored(store, described)
        if certificates.complete:
            ids = sample_ids(manifest, described)
            columns = (certificates.labels.tolist(), certificates.classes.tolist(), certificates.radii.tolist())
            listed[str(number)] = [list(sample) for sample in zip(ids, *columns, strict=True)]
    return listed


def _read(store: Store, described: Mapping[str, Any], cells: list[Mapping[str, Any]]) -> Certificates:
    certificates = _stored(store, described)
    if not certificates.complete:
        return certificates
    breaks = {}
    for cell in cells:
        own = (cell["dataset"], cell["model"], cell["defense"]) == certificates.identity
        if cell["key"] and own and cell["n"] == described["n"]:
            record = store.read_record("cells", cell["key"])
            found = None if record is None else count_breaks(certificates, record)
            if found is not None:
                breaks[cell["key"]] = found
    return dataclasses.replace(certificates, breaks=breaks)


def _stored(store: Store, described: Mapping[str, Any]) -> Certificates:
    records = [record for key in described["keys"] if (record := store.read_record("certificates", key)) is not None]
    errors = [str(record["error"]) for record in records if record["status"] != "ok"]
    done = [record for record in records if record["status"] == "ok"]
    labels, classes, radii = (
        np.asarray([value for record in done for value in record[name]], dtype=kind)
        for name, kind in (("labels", np.int64), ("classes", np.int64), ("radii", np.float64))
    )
    seconds = round(sum(record["seconds"] for record in done), 6)
    return Certificates(described, labels, classes, radii, seconds, errors[0] if errors else "")
