"""What components answer is compared with a tolerance that machines keep and changes do not."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from tests.toy_plugin import ToyLinear

from advbench.evaluation.plan.behaviours import is_self_contained
from advbench.evaluation.work.behaviour.outputs import (
    SAMPLES,
    decode_array,
    digest_of_outputs,
    encode_array,
    observe_outputs,
    outputs_agree,
)

STORED = np.array([[0.0, 10.0, -10.0], [1.0, 1.5, 2.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("change", "precision", "same"),
    [
        ([[0.0, 0.019, 0.0], [0.0, 0.0, 0.0]], 0.0, True),
        ([[0.0, 0.021, 0.0], [0.0, 0.0, 0.0]], 0.0, False),
        ([[0.0, 0.0, 0.0], [0.0, 0.0009, 0.0]], 0.0, True),
        ([[0.0, 0.0, 0.0], [0.0, 0.002, 0.0]], 0.0, False),
        ([[0.0, 0.1, 0.0], [0.0, 0.0, 0.0]], torch.finfo(torch.bfloat16).eps, True),
        ([[0.0, 0.4, 0.0], [0.0, 0.0, 0.0]], torch.finfo(torch.bfloat16).eps, False),
        ([[np.nan, 0.0, 0.0], [0.0, 0.0, 0.0]], 0.0, False),
    ],
)
def test_answers_agree_within_a_share_of_each_images_spread(
    change: list[list[float]], precision: float, same: bool
) -> None:
    assert outputs_agree(STORED, STORED + np.array(change, dtype=np.float32), precision) is same


def test_entries_near_zero_are_rounded_like_the_others_of_their_image() -> None:
    constant = np.tile(np.array([0.3, -0.2, 1e-4, 0.25, -0.15], dtype=np.float32), (4, 1))
    for change, same in ((6e-8, True), (1e-5, False)):
        assert outputs_agree(constant, constant + np.float32(change) * np.eye(4, 5, 2, dtype=np.float32)) is same
    constant[:, 3:] = -1e9
    assert not outputs_agree(constant, constant + np.float32(1e-5) * np.eye(4, 5, 2, dtype=np.float32))


def masked(kind: str) -> np.ndarray:
    """Answers of which some classes are far from the others."""
    logits = np.random.default_rng(0).normal(size=(16, 12)).astype(np.float32)
    if kind == "shifted":
        logits[:, 10:] -= 1e9
    elif kind == "by image":
        logits[:, 10:] = np.where(np.arange(16)[:, None] % 2, -1e9, logits[:, 10:])
    elif kind == "most":
        logits[:, 3:] = -1e9
    elif kind == "half":
        logits[:, 10:] = -65504
    else:
        logits[:, 10:] = -1e9
    return logits


@pytest.mark.parametrize("kind", ["plain", "shifted", "by image", "most", "half"])
@pytest.mark.parametrize("precision", [0.0, torch.finfo(torch.float16).eps])
def test_a_masked_class_hides_no_change_of_another(kind: str, precision: float) -> None:
    stored = masked(kind)
    noise = 1 + np.random.default_rng(1).uniform(-1, 1, stored.shape) * max(1e-6, precision)
    assert outputs_agree(stored, (stored * noise).astype(np.float32), precision)
    changed = stored.copy()
    changed[:, 1] += 0.5
    assert not outputs_agree(stored, changed, precision)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e-7])
def test_a_class_whose_answer_is_constant_agrees_within_rounding(value: float) -> None:
    stored = np.random.default_rng(0).normal(size=(16, 5), scale=10).astype(np.float32)
    stored[:, 2] = value
    noise = np.random.default_rng(1).uniform(-1, 1, stored.shape) * 1e-5
    assert outputs_agree(stored, (stored + noise).astype(np.float32))
    constant = np.full((16, 3), value, dtype=np.float32)
    assert outputs_agree(constant, (constant * (1 + 9e-7)).astype(np.float32))
    assert not outputs_agree(constant, constant + 1)


def test_what_is_no_number_agrees_with_the_same_alone() -> None:
    odd = np.array([[np.nan, np.inf, -np.inf], [0.0, 1.0, 2.0]], dtype=np.float32)
    assert outputs_agree(odd, odd.copy())
    assert not outputs_agree(odd, np.nan_to_num(odd))
    assert not outputs_agree(odd, np.array([[np.nan, -np.inf, -np.inf], [0.0, 1.0, 2.0]], dtype=np.float32))
    assert outputs_agree(np.full((2, 3), np.nan, dtype=np.float32), np.full((2, 3), np.nan, dtype=np.float32))
    assert not outputs_agree(STORED, STORED[:1])
    assert digest_of_outputs(decode_array(encode_array(odd))) == digest_of_outputs(odd)


def test_a_network_is_asked_about_images_and_synthetic_ones_with_global_randomness_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    linear = torch.nn.Linear(16, 3)
    torch.manual_seed(5)
    behaviour = observe_outputs(
        lambda images: linear(images.flatten(1)), torch.rand(4, 1, 4, 4, generator=torch.Generator())
    )
    assert torch.equal(torch.rand(3), expected)
    assert behaviour.outputs is not None
    assert behaviour.outputs.shape == (4 + SAMPLES, 3)
    assert not behaviour.randomness


def test_images_that_no_dataset_has_may_be_refused() -> None:
    def particular(images: torch.Tensor) -> torch.Tensor:
        if bool((images.flatten(1).std(dim=1) == 0).any()):
            raise ValueError("a plain image")
        return images.flatten(1)[:, :3]

    behaviour = observe_outputs(particular, torch.rand(4, 1, 4, 4))
    assert behaviour.outputs is not None
    assert len(behaviour.outputs) == 4


@pytest.mark.parametrize("how", ["global", "own"])
def test_randomness_is_found(how: str) -> None:
    own = torch.Generator().manual_seed(1)

    def drawn(images: torch.Tensor) -> torch.Tensor:
        return torch.rand(len(images), 3, generator=own if how == "own" else None)

    assert observe_outputs(drawn, torch.rand(4, 1, 4, 4)).randomness > 0.1


def test_what_fails_or_gives_no_tensor_is_known_by_that() -> None:
    images = torch.rand(4, 1, 4, 4)
    assert observe_outputs(lambda images: images.view(3, 7), images).failure == "raises RuntimeError"
    assert observe_outputs(lambda images: images.sum(), images).failure == "answers by no numbers"


def test_a_class_of_another_package_does_not_inherit_that_it_need_not_be_asked() -> None:
    class Derived(ToyLinear):
        name: ClassVar[str] = "derived"

    assert is_self_contained(ToyLinear())
    assert is_self_contained(Derived())
    Derived.__module__ = "elsewhere.models"
    assert not is_self_contained(Derived())
