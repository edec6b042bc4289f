"""ONNX operators on torch tensors: arithmetic, reductions and shapes. Those with a kernel are in ``layers``.

The names, inputs and attributes are those of the ONNX specification. Attributes of old versions that newer ones take as
inputs are read where both exist. ``attributes["opset"]`` is the version.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

__all__ = ["OPERATORS", "Attributes", "Values", "integers"]

Values = list[Any]
"""The inputs of a node: tensors, or None for those that are left out."""

Attributes = dict[str, Any]


def integers(values: Values, position: int, attributes: Attributes, name: str) -> list[int] | None:
    """Whole numbers that are an input in new versions and an attribute in old ones; None if they are left out."""
    if len(values) > position and values[position] is not None:
        return [int(value) for value in values[position].reshape(-1).tolist()]
    given = attributes.get(name)
    return None if given is None else [int(value) for value in ([given] if isinstance(given, int) else given)]


def _elementwise(function: Callable[..., Any]) -> Callable[[Values, Attributes], Any]:
    def apply(values: Values, _: Attributes) -> Any:
        return function(*_together(values))

    return apply


def _together(values: Values) -> Values:
    """Moves whole numbers and scalars, which may be on the CPU, to the device of the others."""
    device = next((value.device for value in values if value is not None and value.device.type != "cpu"), None)
    return values if device is None else [value if value is None else value.to(device) for value in values]


def _folded(function: Callable[[Any, Any], Any]) -> Callable[[Values, Attributes], Any]:
    def apply(values: Values, _: Attributes) -> Any:
        first, *others = _together(values)
        for other in others:
            first = function(first, other)
        return first

    return apply


def _divided(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    if first.is_floating_point():
        return first / second
    return torch.div(first, second, rounding_mode="trunc")


def _reduced(function: Callable[..., torch.Tensor]) -> Callable[[Values, Attributes], Any]:
    def apply(values: Values, attributes: Attributes) -> Any:
        axes = integers(values, 1, attributes, "axes")
        if not axes and attributes.get("noop_with_empty_axes"):
            return values[0]
        keep = bool(attributes.get("keepdims", 1))
        return function(values[0], axes or list(range(values[0].ndim)), keep)

    return apply


def _softmax(function: Callable[..., torch.Tensor]) -> Callable[[Values, Attributes], Any]:
    def apply(values: Values, attributes: Attributes) -> Any:
        images = values[0]
        if attributes["opset"] >= 13:
            return function(images, dim=attributes.get("axis", -1))
        axis = attributes.get("axis", 1) % max(images.ndim, 1)
        return function(images.flatten(axis), dim=axis).reshape(images.shape)

    return apply


def _clip(values: Values, attributes: Attributes) -> Any:
    low = values[1] if len(values) > 1 else attributes.get("min")
    high = values[2] if len(values) > 2 else attributes.get("max")
    return torch.clamp(values[0], None if low is None else float(low), None if high is None else float(high))


def _cast(values: Values, attributes: Attributes) -> Any:
    from onnx import helper

    name = helper.tensor_dtype_to_np_dtype(attributes["to"]).name
    return values[0].to(getattr(torch, name))


def _reshape(values: Values, attributes: Attributes) -> Any:
    shape = integers(values, 1, attributes, "shape") or []
    if not attributes.get("allowzero"):
        shape = [values[0].shape[position] if length == 0 else length for position, length in enumerate(shape)]
    return values[0].reshape(shape)


def _flatten(values: Values, attributes: Attributes) -> Any:
    axis = attributes.get("axis", 1)
    axis = axis + values[0].ndim if axis < 0 else axis
    return values[0].reshape(math.prod(values[0].shape[:axis]), -1)


def _squeeze(values: Values, attributes: Attributes) -> Any:
    axes = integers(values, 1, attributes, "axes")
    return values[0].squeeze() if axes is None else values[0].squeeze(tuple(axes))


def _unsqueeze(values: Values, attributes: Attributes) -> Any:
    axes = integers(values, 1, attributes, "axes") or []
    result = values[0]
    for axis in sorted(axis % (values[0].ndim + len(axes)) for axis in axes):
        result = result.unsqueeze(axis)
    return result


def _split(values: Values, attributes: Attributes) -> Any:
    axis, sizes = attributes.get("axis", 0), integers(values, 1, attributes, "split")
    if sizes is None:
        length, parts = values[0].shape[axis], attributes.get("num_outputs") or 2
        step = math.ceil(length / parts)
        sizes = [min(step, length - start) for start in range(0, length, step)]
    return values[0].split(sizes, axis)


def _slice(values: Values, attributes: Attributes) -> Any:
    starts, ends = integers(values, 1, attributes, "starts") or [], integers(values, 2, attributes, "ends") or []
    axes = integers(values, 3, attributes, "axes") or list(range(len(starts)))
    steps = integers(values, 4, attributes, "steps") or [1] * len(starts)
    result = values[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = range(*slice(start, end if step > 0 or end > -(2**31) else None, step).indices(result.shape[axis]))
        if step == 1:
            result = result.narrow(axis, places.start, len(places))
        else:
            result = result.index_select(axis, torch.tensor(list(places), device=result.device))
    return result


def _gather(values: Values, attributes: Attributes) -> Any:
    data, places = values
    axis = attributes.get("axis", 0) % data.ndim
    places = places.to(data.device)
    places = torch.where(places < 0, places + data.shape[axis], places)
    taken = data.index_select(axis, places.reshape(-1))
    return taken.reshape([*data.shape[:axis], *places.shape, *data.shape[axis + 1 :]])


def _shape(values: Values, attributes: Attributes) -> Any:
    return torch.tensor(values[0].shape[attributes.get("start", 0) : attributes.get("end")], dtype=torch.int64)


def _expand(values: Values, attributes: Attributes) -> Any:
    shape = integers(values, 1, attributes, "shape") or []
    return values[0].expand(np.broadcast_shapes(tuple(values[0].shape), tuple(shape)))


def _constant_of_shape(values: Values, attributes: Attributes) -> Any:
    value = attributes.get("value", torch.zeros(1))
    return value.reshape(()).expand(values[0].tolist()).clone()


def _range(values: Values, _: Attributes) -> Any:
    start, limit, step = (value.item() for value in values)
    return torch.arange(start, limit, step, dtype=values[0].dtype)


def _pad(values: Values, attributes: Attributes) -> Any:
    pads = integers(values, 1, attributes, "pads") or []
    value = values[2] if len(values) > 2 and values[2] is not None else attributes.get("value", 0.0)
    axes = integers(values, 3, attributes, "axes") or list(range(len(pads) // 2))
    both = [(0, 0)] * values[0].ndim
    for position, axis in enumerate(axes):
        both[axis] = (pads[position], pads[position + len(axes)])
    flat = [length for pair in reversed(both) for length in pair]
    mode = attributes.get("mode", "constant")
    if mode == "constant":
        return functional.pad(values[0], flat, value=float(value))
    mode = {"edge": "replicate", "reflect": "reflect"}[mode]
    return functional.pad(values[0], flat[: 2 * (values[0].ndim - 2)], mode=mode)


def _gemm(values: Values, attributes: Attributes) -> Any:
    first = values[0].t() if attributes.get("transA") else values[0]
    second = values[1].t() if attributes.get("transB") else values[1]
    result = attributes.get("alpha", 1.0) * (first @ second)
    if len(values) > 2 and values[2] is not None:
        result = result + attributes.get("beta", 1.0) * values[2]
    return result


def _transpose(values: Values, attributes: Attributes) -> Any:
    return values[0].permute(attributes.get("perm") or list(reversed(range(values[0].ndim))))


def _same(values: Values, _: Attributes) -> Any:
    return values[0]


def _dropout(values: Values, _: Attributes) -> Any:
    # The third input is training_mode, which opset 12 introduced.
    if len(values) > 2 and values[2] is not None and bool(values[2]):
        raise NotImplementedError("Dropout with training_mode=1")
    return values[0]


def _modulo(values: Values, attributes: Attributes) -> Any:
    return (torch.fmod if attributes.get("fmod") else torch.remainder)(*_together(values))


OPERATORS: dict[str, Callable[[Values, Attributes], Any]] = {
    "Abs": _elementwise(torch.abs),
    "Add": _elementwise(torch.add),
    "And": _elementwise(torch.logical_and),
    "Cast": _cast,
    "CastLike": lambda values, _: values[0].to(values[1].dtype),
    "Ceil": _elementwise(torch.ceil),
    "Clip": _clip,
    "Concat": lambda values, attributes: torch.cat(_together(values), attributes["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Cos": _elementwise(torch.cos),
    "Div": _elementwise(_divided),
    "Dropout": _dropout,
    "Einsum": lambda values, attributes: torch.einsum(attributes["equation"], *values),
    "Equal": _elementwise(torch.eq),
    "Erf": _elementwise(torch.erf),
    "Exp": _elementwise(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _elementwise(torch.floor),
    "Gather": _gather,
    "Gemm": _gemm,
    "Greater": _elementwise(torch.gt),
    "GreaterOrEqual": _elementwise(torch.ge),
    "Identity": _same,
    "Less": _elementwise(torch.lt),
    "LessOrEqual": _elementwise(torch.le),
    "Log": _elementwise(torch.log),
    "LogSoftmax": _softmax(functional.log_softmax),
    "MatMul": _elementwise(torch.matmul),
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Mod": _modulo,
    "Mul": _elementwise(torch.mul),
    "Neg": _elementwise(torch.neg),
    "Not": _elementwise(torch.logical_not),
    "Or": _elementwise(torch.logical_or),
    "Pad": _pad,
    "Pow": _elementwise(torch.pow),
    "Range": _range,
    "Reciprocal": _elementwise(torch.reciprocal),
    "ReduceL1": _reduced(lambda value, axes, keep: value.abs().sum(axes, keep)),
    "ReduceL2": _reduced(lambda value, axes, keep: torch.linalg.vector_norm(value, dim=axes, keepdim=keep)),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Reshape": _reshape,
    "Round": _elementwise(torch.round),
    "Shape": _shape,
    "Sin": _elementwise(torch.sin),
    "Slice": _slice,
    "Softmax": _softmax(functional.softmax),
    "Split": _split,
    "Sqrt": _elementwise(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(torch.sub),
    "Sum": _folded(torch.add),
    "Tile": lambda values, _: values[0].repeat(values[1].tolist()),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(torch.where),
}
"""Functions of the inputs and attributes of a node, by the operator's name."""
