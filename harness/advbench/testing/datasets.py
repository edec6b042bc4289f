"""The contract of datasets."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from advbench.api import Dataset, DataSources, LabelledImages
from advbench.contracts.datasets import check_dataset
from advbench.errors import DataError
from advbench.testing.common import common_rules
from advbench.testing.finding import NotAsked, Rule, expect, origin

__all__ = ["dataset_rules"]


def dataset_rules(dataset: Dataset, sources: DataSources) -> Iterator[Rule]:
    """Ids, form and range, reproducible subsets, digests."""
    load, ids, digest = (origin(dataset, method) for method in ("load", "ids", "digest"))

    def data() -> LabelledImages:
        try:
            if dataset.location(sources) is None:
                raise NotAsked("the data is not at hand; give --data-dir, or use it once")
            return dataset.load(sources)
        except DataError as error:
            raise NotAsked(str(error)) from error

    def ascending() -> None:
        told = [int(one) for one in dataset.ids()]
        expect(bool(told), "sample ids", "none")
        expect(told == sorted(set(told)), "ascending sample ids, none twice", f"{told[:5]}…")

    def form() -> None:
        check_dataset(dataset, data())

    def reproducible() -> None:
        first, second = data(), data()
        few = [int(one) for one in dataset.ids()][::-7][:50]
        for one, other in zip(first.take(few), second.take(few), strict=True):
            expect(torch.equal(one, other), "the same images and labels at every load", "others at the second")

    def digests() -> None:
        loaded = data()
        told = dataset.digest(sources)
        expect(told == dataset.digest(sources), "the same digest at every call", "another at the second")
        expect(isinstance(told, str) and len(told) >= 32, "a SHA-256", repr(told))
        del loaded

    def named() -> None:
        names = dataset.class_names
        expect(
            names is None or (isinstance(names, tuple) and all(isinstance(name, str) for name in names)),
            "a tuple of texts, or None",
            repr(names)[:80],
        )
        expect(
            names is None or len(names) == dataset.num_classes, f"{dataset.num_classes} names", f"{len(names or ())}"
        )

    yield Rule("sample ids", ids, ascending, "ascending whole numbers")
    yield Rule("images, labels and ids of the right form", load, form, "what LabelledImages says")
    yield Rule("reproducible", load, reproducible)
    yield Rule("digest", digest, digests, "a SHA-256 of the content")
    yield Rule("class names", origin(dataset, "class_names"), named, "a tuple of texts, one a class, or None")
    yield from common_rules(dataset)
