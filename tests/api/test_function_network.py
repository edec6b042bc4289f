"""Functions as networks: what they may return, and one-line errors for all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from advbench.api import ContractError, Float32Network, FunctionNetwork, SampleRandom

IMAGES = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = [0, 2, 1, 2]
ROWS = np.array([[3.0, 1, 2], [0, 1, 5], [-1, 4, 0], [0, 0, 1]])


def _softmax(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shares: np.ndarray[Any, Any] = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    return shares


@pytest.mark.parametrize(
    "returned",
    [
        LABELS,
        np.array(LABELS),
        np.array(LABELS, dtype=np.uint8),
        np.array(LABELS, dtype=float),
        np.array(LABELS)[:, None],
        torch.tensor(LABELS),
        np.eye(3)[LABELS],
        np.eye(3, dtype=bool)[LABELS],
        ROWS,
        ROWS.tolist(),
        torch.tensor(ROWS).half(),
        torch.tensor(ROWS).bfloat16(),
        _softmax(ROWS),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')} {getattr(value, 'ndim', '')}",
)
def test_labels_may_be_given_in_any_usual_form(returned: Any) -> None:
    network = Float32Network(FunctionNetwork(lambda images: returned, gives="labels", classes=3))
    answer = network(IMAGES)
    assert answer.shape == (4, 3)
    assert answer.argmax(dim=1).tolist() == LABELS


def test_the_function_gets_an_array_or_a_tensor() -> None:
    seen: list[Any] = []

    def keep(images: Any) -> Any:
        seen.append(images)
        return LABELS

    FunctionNetwork(keep, gives="labels", classes=3)(IMAGES.clone().requires_grad_())
    FunctionNetwork(keep, gives="labels", classes=3, tensors=True)(IMAGES.clone().requires_grad_())
    array, tensor = seen
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, IMAGES.numpy())
    assert isinstance(tensor, torch.Tensor)
    assert not tensor.requires_grad


def test_scores_are_logits_or_the_logarithms_of_probabilities() -> None:
    logits = FunctionNetwork(lambda images: ROWS, gives="scores")(IMAGES)
    assert logits.dtype == torch.float64
    np.testing.assert_array_equal(logits.numpy(), ROWS)
    shares = _softmax(ROWS)
    shares[3] = [0, 0, 1]
    logits = Float32Network(FunctionNetwork(lambda images: shares, gives="scores", probabilities=True))(IMAGES)
    assert torch.isfinite(logits).all()
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), shares, atol=1e-6)


def test_gradients_pass_through() -> None:
    points = IMAGES.clone().requires_grad_()
    FunctionNetwork(lambda images: images.flatten(1)[:, :3] ** 2)(points).sum().backward()  # type: ignore[no-untyped-call]
    assert points.grad is not None
    assert torch.equal(points.grad.flatten(1)[:, :3], 2 * IMAGES.flatten(1)[:, :3])


def test_a_stochastic_function_gets_the_streams() -> None:
    def noisy(images: np.ndarray[Any, Any], rng: SampleRandom) -> torch.Tensor:
        return torch.from_numpy(images).flatten(1)[:, :3] + rng.normal(3)

    network = FunctionNetwork(noisy, gives="scores")
    first, second = (network(IMAGES, SampleRandom(0, "test", [5, 6, 7, 8])) for _ in range(2))
    alone = network(IMAGES[2:3], SampleRandom(0, "test", [7]))
    other = network(IMAGES, SampleRandom(1, "test", [5, 6, 7, 8]))
    assert torch.equal(first, second)
    assert torch.equal(first[2:3], alone)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("returned", "settings", "message"),
    [
        (None, {}, "returned NoneType; expected class numbers of shape (4,), or an array of shape (4, classes)"),
        (None, {"gives": "scores"}, "returned NoneType; expected a score for each class, shape (4, classes)"),
        ({"logits": ROWS}, {}, "returned dict; expected class numbers"),
        ([[1, 2], [3]], {}, "returned list; expected class numbers"),
        (["cat", "dog", "cat", "eel"], {}, "returned an array of <U3; expected class numbers"),
        (LABELS[:3], {}, "returned shape (3,); expected"),
        (0, {}, "returned shape (); expected"),
        (ROWS[:, :1], {}, "returned shape (4, 1); expected"),
        ([ROWS], {}, "returned shape (1, 4, 3); expected"),
        (ROWS + 1j, {}, "returned an array of complex128; expected"),
        ([0, 1, 2, 3], {}, "returned the classes 0 to 3; with classes=3 they must be from 0 to 2"),
        ([0, 1, 2, -1], {}, "returned the classes -1 to 2; with classes=3"),
        ([0, 1, 2, 0.5], {}, "returned 0.5 as a class; return class numbers from 0"),
        ([0, 1, 2, np.nan], {}, "returned nan as a class"),
        (LABELS, {"classes": None}, "returned class numbers, and their number is unknown: set classes"),
        (LABELS, {"gives": "scores"}, "returned shape (4,), and gives scores: return a score for each class"),
        (np.where(ROWS == 5, np.nan, ROWS), {}, "returned NaN or infinite values for 1 of 4 images"),
        (np.where(ROWS > 2, np.inf, ROWS), {"gives": "scores"}, "returned NaN or infinite values for 3 of 4 images"),
        (_softmax(ROWS), {"gives": "scores"}, "returned probabilities as scores; return logits, or set probabilities"),
        (ROWS, {"gives": "scores", "probabilities": True}, "returned rows that are no probabilities"),
    ],
)
def test_what_a_function_may_not_return_is_a_one_line_error(
    returned: Any, settings: dict[str, Any], message: str
) -> None:
    network = FunctionNetwork(
        lambda images: returned, "model.py:predict", **{"gives": "labels", "classes": 3, **settings}
    )
    with pytest.raises(ContractError) as raised:
        network(IMAGES)
    assert str(raised.value).startswith(f"model.py:predict {message}")
    assert "\n" not in str(raised.value)


def test_a_network_of_torch_may_give_labels() -> None:
    class Labels(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            assert isinstance(images, torch.Tensor)
            return {"logits": torch.tensor(LABELS)}

    answer: Callable[[torch.Tensor], torch.Tensor] = FunctionNetwork(Labels(), gives="labels", classes=3)
    assert answer(IMAGES).argmax(dim=1).tolist() == LABELS
