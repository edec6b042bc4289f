"""Training images that a defense has transformed, for classifiers that are trained behind it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from advbench.contracts.defenses import check_defended, check_range
from advbench.errors import UsageError, blamed

if TYPE_CHECKING:
    import torch

    from advbench.api import LabelledImages
    from advbench.specs import Chain

__all__ = ["apply_defense"]

BATCH_SIZE = 250


def apply_defense(chain: Chain, data: LabelledImages, *, name: str, seed: int, device: torch.device) -> LabelledImages:
    """Replaces every image by its defended version.

    A stochastic defense is drawn once for each image.

    Args:
        chain: The defense.
        data: Images of shape (n, channels, height, width).
        name: The defense's spec, for messages.
        seed: Seed of a stochastic defense.
        device: The device to compute on.

    Returns:
        The same samples with float32 images on the CPU, clipped to [0, 1].

    Raises:
        UsageError: The defense cannot transform images of this shape, changes their shape, or classifies them itself.
        ContractError: The defense broke its contract.
    """
    import torch

    from advbench.api import SampleRandom

    channels, height, width = data.images.shape[1:]
    if reason := chain.incompatibility((channels, height, width)):
        raise UsageError(f"--defense {name}: {reason}")
    if chain.classifying is not None:
        part = chain.parts[chain.classifying].name
        raise UsageError(f"--defense {name}: {part} classifies images and does not transform them; name one that does")
    if chain.output_shape((channels, height, width)) != (channels, height, width):
        raise UsageError(f"--defense {name}: it changes the shape of images, which the trained model could not take")
    defended = torch.empty(data.images.shape, dtype=torch.float32)
    for start in range(0, len(data), BATCH_SIZE):
        ids = data.ids[start : start + BATCH_SIZE].tolist()
        images = data.take(ids)[0].to(device)
        with torch.no_grad(), blamed(f"defense {name!r}"):
            returned = chain.apply(images.clone(), SampleRandom(seed, "training behind a defense", ids, device))
        checked = check_defended(name, images, returned)
        check_range(name, checked, stochastic=chain.stochastic)
        defended[start : start + BATCH_SIZE] = checked.clamp(0, 1).cpu()
    return dataclasses.replace(data, images=defended)
