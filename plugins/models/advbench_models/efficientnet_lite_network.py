"""The network of EfficientNet-Lite: EfficientNet with ReLU6, without squeeze-and-excitation.

As in EfficientNet (Tan and Le 2019, table 1), a variant has stages of inverted residual blocks, whose channels and
repetitions are multiples of those of the first variant. In the Lite variants, the stem and the head have the same
size in all variants, and the first and the last stage are not repeated more often.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["EfficientNetLiteNetwork", "rename_parameter"]


class _Stage(NamedTuple):
    """The blocks of one resolution."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16), _Stage(2, 3, 2, 6, 24), _Stage(2, 5, 2, 6, 40), _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112), _Stage(4, 5, 2, 6, 192), _Stage(1, 3, 1, 6, 320),
)  # fmt: skip
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
_NORM_EPS = 1e-3


class _ConvNorm(nn.Module):
    """A convolution and its batch normalisation, padded as TensorFlow pads: an odd pixel is right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=_NORM_EPS)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps shape (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        conv = self.conv
        (kernel, _), (stride, _) = conv.kernel_size, conv.stride
        vertical, horizontal = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in inputs.shape[2:]
        )
        top, left = vertical // 2, horizontal // 2
        if vertical % 2 or horizontal % 2:
            inputs = functional.pad(inputs, (left, horizontal - left, top, vertical - top))
            top = left = 0
        # The convolution itself pads where it can: a padded copy takes time.
        outputs: torch.Tensor = self.norm(
            functional.conv2d(inputs, conv.weight, conv.bias, conv.stride, (top, left), groups=conv.groups)
        )
        return outputs

    def fold(self) -> None:
        """Folds the normalisation into the convolution; in eval mode, it is a fixed scale and shift."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.conv = fuse_conv_bn_eval(self.conv, self.norm)
        self.norm = nn.Identity()


class _Block(nn.Module):
    """An inverted residual block: expands the channels, convolves each of them, and projects back."""

    def __init__(self, inputs: int, outputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.expand = _ConvNorm(inputs, hidden) if stage.expansion > 1 else None
        self.depthwise = _ConvNorm(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.project = _ConvNorm(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps shape (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        hidden = inputs if self.expand is None else functional.relu6(self.expand(inputs), inplace=True)
        hidden = functional.relu6(self.depthwise(hidden), inplace=True)
        outputs: torch.Tensor = self.project(hidden)
        return outputs + inputs if self.residual else outputs


class EfficientNetLiteNetwork(nn.Module):
    """Maps normalised images, shape (batch, 3, height, width), to logits, shape (batch, 1000).

    Args:
        width: Factor of the channels of every stage but the stem and the head.
        depth: Factor of the repetitions of every stage but the first and the last.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.stem = _ConvNorm(3, _STEM_CHANNELS, kernel=3, stride=2)
        blocks = []
        inputs = _STEM_CHANNELS
        for number, stage in enumerate(_STAGES):
            outputs = _round_channels(stage.channels * width)
            scaled = 0 < number < len(_STAGES) - 1
            for repeat in range(math.ceil(stage.repeats * depth) if scaled else stage.repeats):
                blocks.append(_Block(inputs, outputs, stage, 1 if repeat else stage.stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _ConvNorm(inputs, _HEAD_CHANNELS)
        self.classifier = nn.Linear(_HEAD_CHANNELS, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classifies images."""
        features = self.blocks(functional.relu6(self.stem(images), inplace=True))
        features = functional.relu6(self.head(features), inplace=True)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits

    def fold(self) -> None:
        """Folds all normalisations; the network must be in eval mode."""
        for module in list(self.modules()):
            if isinstance(module, _ConvNorm):
                module.fold()


def rename_parameter(name: str) -> str:
    """Returns the name in :class:`EfficientNetLiteNetwork` of a parameter in the published weights."""
    first, _, rest = name.partition(".")
    if first != "_blocks":
        return f"{_OUTER[first]}.{rest}"
    number, layer, last = rest.split(".")
    return f"blocks.{number}.{_INNER[layer]}.{last}"


_OUTER = {
    "_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm", "_fc": "classifier",
}  # fmt: skip
_INNER = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip


def _round_channels(channels: float) -> int:
    """Rounds to a multiple of 8, by less than a tenth downwards."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
