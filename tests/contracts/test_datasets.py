"""What datasets of any plugin load is held to [0, 1]: rounding is clipped, all else is told with its true value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.toy_plugin import SHAPE, Toy, ToySign

from advbench.api import Budget, ContractError, LabelledImages
from advbench.contracts.attacks import check_adversarial
from advbench.contracts.datasets import check_dataset
from advbench.evaluation.run.dataset_facts import class_names, dataset_notes

CLEAN = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def loaded(value: float) -> tuple[Toy, LabelledImages]:
    dataset = Toy(size=4)
    images = torch.full((4, *SHAPE), 0.5)
    images[1, 0, 2, 3] = value
    return dataset, LabelledImages(images, torch.zeros(4, dtype=torch.int64), torch.arange(100, 104))


@pytest.mark.parametrize("value", [1.0000002, 1.0000009, -1e-7, -9e-7])
def test_rounding_is_clipped_in_a_copy(value: float) -> None:
    dataset, images = loaded(value)
    held = check_dataset(dataset, images)
    assert 0 <= float(held.images.min()) <= float(held.images.max()) <= 1
    assert not 0 <= float(images.images[1, 0, 2, 3]) <= 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0000021, "dataset 'toy' has pixels from 0.5 to 1.0000021; expected [0, 1]: clip them"),
        (-2e-6, "dataset 'toy' has pixels from -2e-06 to 0.5; expected [0, 1]: clip them"),
        (-2.5, "expected [0, 1]: do not normalise the images"),
        (255.0, "from 0.5 to 255; expected [0, 1]: divide by"),
        (float("nan"), "dataset 'toy' has 1 pixels that are NaN or infinite, the first at index (1, 0, 2, 3)"),
        (float("inf"), "1 pixels that are NaN or infinite"),
    ],
)
def test_what_is_no_rounding_is_told_with_its_value(value: float, message: str) -> None:
    with pytest.raises(ContractError) as raised:
        check_dataset(*loaded(value))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (1.0000011, "returned pixels from 0.5 to 1.0000011; images are in [0, 1]"),
        (-1.5e-6, "returned pixels from -1.5e-06 to 0.5; images are in [0, 1]"),
    ],
)
def test_attacks_that_leave_the_range_by_little_are_told_by_how_much(by: float, message: str) -> None:
    clean = torch.full((1, *SHAPE), 0.5)
    images = clean.clone()
    images[0, 0, 0, 0] = by
    with pytest.raises(ContractError) as raised:
        check_adversarial(ToySign(1.0), clean, images)
    assert message in str(raised.value)


class Far(ToySign):
    """An attack with an L2 budget of 2."""

    def budget(self) -> Budget:
        return Budget("l2", 2.0)


def test_a_distance_beyond_the_budget_reads_as_such() -> None:
    clean = torch.zeros(1, *SHAPE)
    with pytest.raises(ContractError, match=r"went 2\.00000\d+ from the image in l2; its budget is 2$"):
        check_adversarial(Far(), clean, clean + 0.500001)


@dataclass(frozen=True)
class Told(Toy):
    """Says what it is given."""

    names: Any = None

    def __post_init__(self) -> None:
        """Keeps any value."""

    @property
    def class_names(self) -> Any:  # type: ignore[override]
        if self.names is Exception:
            raise RuntimeError("no names")
        return self.names

    def notes(self) -> Any:
        return self.class_names


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, None),
        (Exception, None),
        ("cat", None),
        (3, None),
        ((1, 2), None),
        (("", ""), None),
        (("cat", ""), ["cat", ""]),
        (["a\nb\x1b[31m", "\u202egnitar", "x" * 600], ["a b\\x1b[31m", "\\u202egnitar", "x" * 499 + "…"]),
    ],
)
def test_names_of_classes_are_one_line_each_or_none(told: Any, expected: Any) -> None:
    assert class_names(Told(names=told)) == expected
    assert dataset_notes(Told(names=told)) == [text for text in expected or () if text]
