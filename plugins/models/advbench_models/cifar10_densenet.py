"""The paper's CIFAR-10 classifier: a small DenseNet-BC."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advbench.api import Model, Trainable, TrainingJob, param
from advbench_models.cifar10_training import RECIPES, train_cifar10_classifier
from advbench_models.stored_weights import SHIPPED, StoredWeights

__all__ = ["Cifar10DenseNet", "DenseNetNetwork"]

GROWTH = 12
BLOCKS = (6, 12, 24, 16)
COMPRESSION = 0.5


class DenseLayer(nn.Module):
    """A bottleneck and a 3×3 convolution, each after batch normalisation; its output joins its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * GROWTH, kernel_size=1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm2d(4 * GROWTH)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, kernel_size=3, padding=1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Shape (batch, channels, h, w) to (batch, channels + growth, h, w)."""
        bottleneck = self.conv1(functional.relu_(self.norm1(inputs)))
        grown = self.conv2(functional.relu_(self.norm2(bottleneck)))
        return torch.cat([grown, inputs], dim=1)

    def fold(self) -> None:
        """Lets the bottleneck do the normalisation after it, which in eval mode is a fixed scale and shift.

        The other one stands before its convolution, with a ReLU between, and cannot be folded.
        """
        assert isinstance(self.norm2, nn.BatchNorm2d)
        self.conv1 = fuse_conv_bn_eval(self.conv1, self.norm2)
        self.norm2 = nn.Identity()


class Transition(nn.Module):
    """Between two blocks: half the channels, half the height and width."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Shape (batch, channels, h, w) to (batch, out_channels, h/2, w/2)."""
        return functional.avg_pool2d(self.conv(functional.relu_(self.norm(inputs))), kernel_size=2)


class DenseNetNetwork(nn.Module):
    """Images in [0, 1], shape (batch, 3, 32, 32), to logits, shape (batch, 10); 1,000,618 parameters."""

    # Mean and standard deviation of CIFAR-10's training pixels a channel, as most recipes for it have them.
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)

    _mean: torch.Tensor
    _std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        channels = 2 * GROWTH
        layers: list[nn.Module] = [nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False)]
        for block, depth in enumerate(BLOCKS):
            if block:
                halved = int(channels * COMPRESSION)
                layers.append(Transition(channels, halved))
                channels = halved
            for _ in range(depth):
                layers.append(DenseLayer(channels))
                channels += GROWTH
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(channels, 10)
        self.register_buffer("_mean", torch.tensor(self.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).reshape(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises and classifies."""
        features = self.features((images - self._mean) / self._std)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


@dataclasses.dataclass(frozen=True)
class Cifar10DenseNet(StoredWeights, Model, Trainable):
    """DenseNet-BC with 121 layers of growth 12 in four blocks, for CIFAR-10."""

    name = "cifar10-densenet"
    source = (
        "Huang, Liu, van der Maaten and Weinberger 2017, Densely Connected Convolutional Networks; in the shape "
        "of densenet_cifar (kuangliu/pytorch-cifar)"
    )
    image_shape = (3, 32, 32)
    num_classes = 10
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = ("cifar10",)
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"

    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train cifar10-densenet'"
    )

    def load(self) -> nn.Module:
        """Builds the network with its weights, for inference: normalisations are folded where they can be."""
        network = self.filled(DenseNetNetwork()).eval()
        for layer in network.modules():
            if isinstance(layer, DenseLayer):
                layer.fold()
        return network.to(memory_format=torch.channels_last)

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains by a recipe of :mod:`advbench_models.cifar10_training`."""
        return train_cifar10_classifier(self.name, DenseNetNetwork, job)
