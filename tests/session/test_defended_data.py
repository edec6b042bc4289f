"""Training images that a defense has transformed."""

from __future__ import annotations

import pytest
import torch

from advbench.api import Defense, LabelledImages, SampleRandom, UsageError
from advbench.session import defended_data
from advbench.specs import Chain


class Noise(Defense):
    """Adds noise that depends on the sample alone."""

    name = "noise"
    stochastic = True

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return images + rng.uniform(*images.shape[1:]) - 0.5

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        return "" if image_shape[0] == 3 else "it needs colours"


def data(count: int, channels: int = 3) -> LabelledImages:
    images = torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8)
    return LabelledImages(images, torch.zeros(count, dtype=torch.int64), torch.arange(7, 7 + count))


def test_every_image_is_transformed_with_its_own_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    given, cpu = data(20), torch.device("cpu")
    whole = defended_data.apply_defense(Chain((Noise(),)), given, name="noise", seed=3, device=cpu)
    assert whole.images.dtype == torch.float32
    assert torch.equal(whole.ids, given.ids)
    rng = SampleRandom(3, "training behind a defense", given.ids.tolist(), cpu).derive("0:noise")
    expected = (given.images / 255 + rng.uniform(3, 8, 8) - 0.5).clamp(0, 1)
    assert torch.allclose(whole.images, expected)
    monkeypatch.setattr(defended_data, "BATCH_SIZE", 3)
    parts = defended_data.apply_defense(Chain((Noise(),)), given, name="noise", seed=3, device=cpu)
    assert torch.equal(parts.images, whole.images)


def test_a_defense_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match="--defense noise: it needs colours"):
        defended_data.apply_defense(Chain((Noise(),)), data(2, 1), name="noise", seed=0, device=torch.device("cpu"))


class Vote(Defense):
    """Classifies, and has no images to train on."""

    name = "vote"

    def classify(self, network, images, rng, fitted=None):
        return network(images)


class Crop(Defense):
    """Drops a column."""

    name = "crop"

    def apply(self, images, rng):
        return images[..., 1:]

    def output_shape(self, image_shape):
        return (*image_shape[:2], image_shape[2] - 1)


@pytest.mark.parametrize(
    ("defense", "reason"),
    [(Vote(), "vote classifies images and does not transform them"), (Crop(), "it changes the shape of images")],
)
def test_a_defense_that_gives_no_images_of_the_datasets_shape_is_a_usage_error(defense: Defense, reason: str) -> None:
    with pytest.raises(UsageError, match=f"--defense d: {reason}"):
        defended_data.apply_defense(Chain((defense,)), data(2), name="d", seed=0, device=torch.device("cpu"))
