"""The CIFAR-10 classifier of the paper: a small DenseNet-BC."""

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
    """A bottleneck and a 3×3 convolution, each after batch normalisation; the output is concatenated to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * GROWTH, kernel_size=1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm2d(4 * GROWTH)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, kernel_size=3, padding=1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps shape (batch, channels, h, w) to (batch, channels + growth, h, w)."""
        bottleneck = self.conv1(functional.relu_(self.norm1(inputs)))
        grown = self.conv2(functional.relu_(self.norm2(bottleneck)))
        return torch.cat([grown, inputs], dim=1)

    def fold(self) -> None:
        """Folds the second batch normalisation into the bottleneck; in eval mode, it is a fixed scale and shift.

        The first one cannot be folded: a ReLU separates it from its convolution.
        """
        assert isinstance(self.norm2, nn.BatchNorm2d)
        self.conv1 = fuse_conv_bn_eval(self.conv1, self.norm2)
        self.norm2 = nn.Identity()


class Transition(nn.Module):
    """Reduces the channels and halves height and width between two blocks."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps shape (batch, channels, h, w) to (batch, out_channels, h/2, w/2)."""
        return functional.avg_pool2d(self.conv(functional.relu_(self.norm(inputs))), kernel_size=2)


class DenseNetNetwork(nn.Module):
    """Maps images in [0, 1], shape (batch, 3, 32, 32), to logits, shape (batch, 10); 1,000,618 parameters."""

    # Mean and standard deviation of CIFAR-10's training pixels per channel, as in most recipes.
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
                reduced = int(channels * COMPRESSION)
                layers.append(Transition(channels, reduced))
                channels = reduced
            for _ in range(depth):
                layers.append(DenseLayer(channels))
                channels += GROWTH
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(channels, 10)
        self.register_buffer("_mean", torch.tensor(self.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).reshape(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises and classifies images."""
        features = self.features((images - self._mean) / self._std)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


@dataclasses.dataclass(frozen=True)
class Cifar10DenseNet(StoredWeights, Model, Trainable):
    """DenseNet-BC with 121 layers of growth rate 12 in four blocks, for CIFAR-10."""

    name = "cifar10-densenet"
    source = (
        "Huang, Liu, van der Maaten and Weinberger 2017, Densely Connected Convolutional Networks; in the shape "
        "of densenet_cifar (kuangliu/pytorch-cifar)"
    )
    image_shape = (3, 32, 32)
    num_classes = 10
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = ("cifar10",)
    trains_behind_defenses = True
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"

    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train cifar10-densenet'"
    )

    def load(self) -> nn.Module:
        """Builds the network with its weights for inference; normalisations are folded where possible."""
        network = self.load_weights_into(DenseNetNetwork()).eval()
        for layer in network.modules():
            if isinstance(layer, DenseLayer):
                layer.fold()
        return network.to(memory_format=torch.channels_last)

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with a recipe of :mod:`advbench_models.cifar10_training`."""
        return train_cifar10_classifier(self.name, DenseNetNetwork, job)
