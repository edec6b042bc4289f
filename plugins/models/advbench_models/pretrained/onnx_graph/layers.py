"""ONNX operators on torch tensors: convolutions, pooling, normalisation and activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from advbench_models.pretrained.onnx_graph.operators import Attributes, Values, integers

__all__ = ["LAYERS"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def _pads(images: torch.Tensor, attributes: Attributes, kernel: list[int]) -> list[tuple[int, int]]:
    """The padding before and after each spatial axis."""
    count = len(kernel)
    strides, dilations = attributes.get("strides") or [1] * count, attributes.get("dilations") or [1] * count
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for length, size, stride, dilation in zip(images.shape[2:], kernel, strides, dilations, strict=True):
            total = max((math.ceil(length / stride) - 1) * stride + (size - 1) * dilation + 1 - length, 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if auto == "SAME_UPPER" else (more, less))
        return pads
    given = attributes.get("pads") if auto == "NOTSET" else None
    given = given or [0] * (2 * count)
    return [(given[axis], given[axis + count]) for axis in range(count)]


def _flat(pads: list[tuple[int, int]]) -> list[int]:
    """The padding in the order of ``functional.pad``: the last axis first."""
    return [length for pair in reversed(pads) for length in pair]


def _symmetric(pads: list[tuple[int, int]]) -> bool:
    return all(before == after for before, after in pads)


def _convolution(values: Values, attributes: Attributes) -> Any:
    images, weight = values[:2]
    bias = values[2] if len(values) > 2 else None
    pads = _pads(images, attributes, list(weight.shape[2:]))
    count = len(pads)
    if not _symmetric(pads):
        images, pads = functional.pad(images, _flat(pads)), [(0, 0)] * count
    convolution: Callable[..., torch.Tensor] = _CONVOLUTIONS[count]
    return convolution(
        images,
        weight,
        bias,
        stride=attributes.get("strides") or 1,
        padding=[before for before, _ in pads],
        dilation=attributes.get("dilations") or 1,
        groups=attributes.get("group", 1),
    )


def _max_pool(values: Values, attributes: Attributes) -> Any:
    images, kernel = values[0], list(attributes["kernel_shape"])
    pads = _pads(images, attributes, kernel)
    if not _symmetric(pads) or any(2 * before > size for (before, _), size in zip(pads, kernel, strict=True)):
        images = functional.pad(images, _flat(pads), value=-math.inf)
        pads = [(0, 0)] * len(kernel)
    pool: Callable[..., torch.Tensor] = _MAX_POOLS[len(kernel)]
    return pool(
        images,
        kernel,
        stride=attributes.get("strides") or 1,
        padding=[before for before, _ in pads],
        dilation=attributes.get("dilations") or 1,
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(values: Values, attributes: Attributes) -> Any:
    images, kernel = values[0], list(attributes["kernel_shape"])
    if any(dilation != 1 for dilation in attributes.get("dilations") or ()):
        raise NotImplementedError("AveragePool with dilations")
    pads, pool = _pads(images, attributes, kernel), _AVERAGE_POOLS[len(kernel)]
    stride, ceiling = attributes.get("strides") or 1, bool(attributes.get("ceil_mode", 0))
    counted = bool(attributes.get("count_include_pad", 0))
    if _symmetric(pads):
        padding = [before for before, _ in pads]
        return pool(images, kernel, stride, padding, ceiling, counted)
    padded = functional.pad(images, _flat(pads))
    averages = pool(padded, kernel, stride, 0, ceiling)
    if counted:
        return averages
    inside = functional.pad(torch.ones_like(images[:1, :1]), _flat(pads))
    return averages / pool(inside, kernel, stride, 0, ceiling)


def _global_pool(function: Callable[..., torch.Tensor]) -> Callable[[Values, Attributes], Any]:
    def apply(values: Values, _: Attributes) -> Any:
        return function(values[0], list(range(2, values[0].ndim)), True)

    return apply


def _batch_normalisation(values: Values, attributes: Attributes) -> Any:
    if attributes.get("training_mode"):
        raise NotImplementedError("BatchNormalization with training_mode=1")
    images, scale, bias, mean, variance = values[:5]
    return functional.batch_norm(images, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _layer_normalisation(values: Values, attributes: Attributes) -> Any:
    bias = values[2] if len(values) > 2 else None
    axis = attributes.get("axis", -1) % values[0].ndim
    shape = values[0].shape[axis:]
    scale = values[1].expand(shape)
    return functional.layer_norm(
        values[0], shape, scale, None if bias is None else bias.expand(shape), attributes.get("epsilon", 1e-5)
    )


def _instance_normalisation(values: Values, attributes: Attributes) -> Any:
    images, scale, bias = values
    return functional.instance_norm(images, weight=scale, bias=bias, eps=attributes.get("epsilon", 1e-5))


def _hard_sigmoid(values: Values, attributes: Attributes) -> Any:
    return (attributes.get("alpha", 0.2) * values[0] + attributes.get("beta", 0.5)).clamp(0, 1)


def _gelu(values: Values, attributes: Attributes) -> Any:
    return functional.gelu(values[0], approximate=attributes.get("approximate", "none"))


def _parametric_relu(values: Values, _: Attributes) -> Any:
    images, slope = values
    return torch.where(images < 0, images * slope, images)


def _resize(values: Values, attributes: Attributes) -> Any:
    """Resizing of images with the settings that torch has."""
    images, mode = values[0], attributes.get("mode", "nearest")
    sizes = integers(values, 3, attributes, "sizes")
    if sizes is None:
        factors = values[2].tolist()
        sizes = [math.floor(length * factor) for length, factor in zip(images.shape, factors, strict=True)]
    where = attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest" and (where, attributes.get("nearest_mode", "round_prefer_floor")) == ("asymmetric", "floor"):
        return functional.interpolate(images, size=sizes[2:], mode="nearest")
    smooth = {"linear": "bilinear", "cubic": "bicubic"}.get(mode)
    if smooth and where in ("half_pixel", "pytorch_half_pixel", "align_corners") and not attributes.get("antialias"):
        return functional.interpolate(images, size=sizes[2:], mode=smooth, align_corners=where == "align_corners")
    raise NotImplementedError(f"Resize with mode {mode} and coordinates {where}")


LAYERS: dict[str, Callable[[Values, Attributes], Any]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalisation,
    "Conv": _convolution,
    "Elu": lambda values, attributes: functional.elu(values[0], attributes.get("alpha", 1.0)),
    "Gelu": _gelu,
    "GlobalAveragePool": _global_pool(torch.mean),
    "GlobalMaxPool": _global_pool(torch.amax),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda values, _: values[0] * (values[0] / 6 + 0.5).clamp(0, 1),
    "InstanceNormalization": _instance_normalisation,
    "LayerNormalization": _layer_normalisation,
    "LeakyRelu": lambda values, attributes: functional.leaky_relu(values[0], attributes.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mish": lambda values, _: functional.mish(values[0]),
    "PRelu": _parametric_relu,
    "Relu": lambda values, _: functional.relu(values[0]),
    "Resize": _resize,
    "Selu": lambda values, _: functional.selu(values[0]),
    "Sigmoid": lambda values, _: torch.sigmoid(values[0]),
    "Softplus": lambda values, _: functional.softplus(values[0]),
    "Tanh": lambda values, _: torch.tanh(values[0]),
}
"""Functions of the inputs and attributes of a node, by the operator's name."""
