"""Contract rules of datasets."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from advbench.api import Dataset, DataSources, LabelledImages
from advbench.contracts.datasets import check_dataset
from advbench.errors import DataError
from advbench.testing.common import common_rules
from advbench.testing.finding import Rule, RuleSkipped, contract_of, expect

__all__ = ["dataset_rules"]


def dataset_rules(dataset: Dataset, sources: DataSources) -> Iterator[Rule]:
    """Yields the rules on ids, form, range, subsets, digests and class names."""
    load, ids, digest = (contract_of(dataset, method) for method in ("load", "ids", "digest"))

    def data() -> LabelledImages:
        try:
            if dataset.location(sources) is None:
                raise RuleSkipped("the data is not available here; give --data-dir, or use the dataset once")
            return dataset.load(sources)
        except DataError as error:
            raise RuleSkipped(str(error)) from error

    def ascending() -> None:
        reported = [int(sample_id) for sample_id in dataset.ids()]
        expect(bool(reported), "sample ids", "none")
        expect(reported == sorted(set(reported)), "ascending sample ids without duplicates", f"{reported[:5]}…")

    def form() -> None:
        check_dataset(dataset, data())

    def reproducible() -> None:
        first, second = data(), data()
        some_ids = [int(sample_id) for sample_id in dataset.ids()][::-7][:50]
        for one, other in zip(first.take(some_ids), second.take(some_ids), strict=True):
            expect(torch.equal(one, other), "the same images and labels at every load", "different ones at the second")

    def digests() -> None:
        loaded = data()
        reported = dataset.digest(sources)
        expect(reported == dataset.digest(sources), "the same digest at every call", "a different one at the second")
        expect(isinstance(reported, str) and len(reported) >= 32, "a SHA-256", repr(reported))
        del loaded

    def class_names_valid() -> None:
        names = dataset.class_names
        expect(
            names is None or (isinstance(names, tuple) and all(isinstance(name, str) for name in names)),
            "a tuple of strings, or None",
            repr(names)[:80],
        )
        expect(
            names is None or len(names) == dataset.num_classes,
            f"{dataset.num_classes} names",
            f"{len(names or ())} names",
        )

    yield Rule("sample ids", ids, ascending, "ascending whole numbers")
    yield Rule("form of images, labels and ids", load, form, "the form of LabelledImages")
    yield Rule("reproducible", load, reproducible)
    yield Rule("digest", digest, digests, "a SHA-256 of the content")
    yield Rule(
        "class names",
        contract_of(dataset, "class_names"),
        class_names_valid,
        "a tuple of strings, one per class, or None",
    )
    yield from common_rules(dataset)
