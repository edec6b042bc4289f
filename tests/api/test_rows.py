from __future__ import annotations

import torch

from advbench.api import ClassifierWrapper, for_rows, has_approximate_gradients, is_stochastic


class ByRow(torch.nn.Module):
    """Its output depends on the rows of the images."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = rows

    def for_rows(self, rows: torch.Tensor) -> torch.nn.Module:
        return ByRow(self.rows[rows])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.rows[:, None]


def test_a_row_aware_classifier_gets_the_rows() -> None:
    part = for_rows(ByRow(torch.tensor([10.0, 20.0, 30.0])), torch.tensor([2, 0, 2]))
    assert part(torch.zeros(3, 1)).flatten().tolist() == [30, 10, 30]


def test_any_other_model_is_returned_unchanged() -> None:
    model = torch.nn.Flatten()
    assert for_rows(model, torch.tensor([1])) is model


def test_a_model_is_stochastic_if_it_declares_so() -> None:
    model = ByRow(torch.zeros(1))
    assert not is_stochastic(torch.nn.Flatten())
    assert not is_stochastic(model)
    model.stochastic = True
    assert is_stochastic(model)


def test_gradients_are_exact_unless_a_model_declares_otherwise() -> None:
    model = torch.nn.Flatten()
    assert not has_approximate_gradients(model)
    model.approximate_gradients = True
    assert has_approximate_gradients(model)


class Counting(ClassifierWrapper):
    """Counts the images that its target gets."""

    def __init__(self, target: torch.nn.Module, counts: list[int]) -> None:
        super().__init__(target)
        self.counts = counts

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.counts.append(len(images))
        logits: torch.Tensor = self.target(images)
        return logits


def test_a_wrapper_forwards_what_its_target_declares_and_the_rows() -> None:
    target = ByRow(torch.tensor([10.0, 20.0, 30.0]))
    target.stochastic, target.approximate_gradients = True, True
    counts: list[int] = []
    wrapper = Counting(Counting(target, counts), counts)
    part = for_rows(for_rows(wrapper, torch.tensor([2, 0, 1])), torch.tensor([1, 0]))
    for classifier in (wrapper, part):
        assert is_stochastic(classifier)
        assert has_approximate_gradients(classifier)
        assert not classifier.training
    assert part(torch.zeros(2, 1)).flatten().tolist() == [10, 30]
    assert wrapper(torch.zeros(3, 1)).flatten().tolist() == [10, 20, 30]
    assert counts == [2, 2, 3, 3]


def test_a_wrapper_declares_nothing_that_its_target_does_not() -> None:
    wrapper = Counting(torch.nn.Flatten(), [])
    assert not is_stochastic(wrapper)
    assert not has_approximate_gradients(wrapper)


def test_a_wrapper_may_declare_more_than_its_target() -> None:
    wrapper = Counting(torch.nn.Flatten(), [])
    wrapper.stochastic = True
    assert is_stochastic(for_rows(wrapper, torch.tensor([0])))
