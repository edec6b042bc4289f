"""What every attack is held to, for the tests of each of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.plugins.attacks.classifiers import Constant, Undefined

from advbench.api import Attack, SampleRandom

Streams = Callable[..., SampleRandom]


def check_independence_of_the_batch(
    attack: Attack,
    network: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    streams: Streams,
    *,
    tolerance: float = 1e-3,
) -> None:
    """A sample's result is the same in whichever batch it is attacked, up to rounding."""
    count = len(images)
    whole = attack.run(network, images, labels, streams(range(count)))
    parts = [
        attack.run(network, images[rows], labels[rows], streams(rows.tolist()))
        for rows in torch.arange(count).split([1, 3, count - 4])
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=tolerance, rtol=0)


def some_mislabelled(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of six samples are misclassified already, shape (6,), and the labels that make them so."""
    wrong = torch.tensor([False, True, False, False, True, False])
    return wrong, torch.where(wrong, (labels + 1) % 10, labels)


def check_misclassified_samples_keep_their_images(
    attack: Attack, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, streams: Streams
) -> None:
    """Of six samples those that are misclassified already keep their clean images, and the others do not."""
    wrong, labels = some_mislabelled(labels)
    crafted = attack.run(network, images, labels, streams(range(6)))
    assert torch.equal(crafted[wrong], images[wrong])
    assert (crafted[~wrong] != images[~wrong]).flatten(1).any(dim=1).all()


def check_clean_images_where_nothing_fools(attack: Attack, images: torch.Tensor, streams: Streams) -> None:
    """A classifier with one answer leaves the clean images."""
    count = len(images)
    labels = torch.zeros(count, dtype=torch.int64)
    assert torch.equal(attack.run(Constant().eval(), images, labels, streams(range(count))), images)


def check_clean_images_where_gradients_are_undefined(
    attack: Attack, images: torch.Tensor, streams: Streams, *, images_only: bool = True
) -> None:
    """Gradients that are not numbers leave the clean images."""
    model = Undefined(images_only=images_only).eval()
    count = len(images)
    labels = torch.full((count,), 4)  # not the first class, which torch finds the largest of logits that are no numbers
    assert torch.equal(attack.run(model, images, labels, streams(range(count))), images)
