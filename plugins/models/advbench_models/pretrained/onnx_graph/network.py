"""A network of torch that computes an ONNX graph, so that autograd follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from advbench_models.pretrained.onnx_graph.layers import LAYERS
from advbench_models.pretrained.onnx_graph.operators import OPERATORS, Attributes, Values

__all__ = ["OnnxNetwork", "unsupported_operators"]

_STANDARD = ("", "ai.onnx")
_FUNCTIONS: dict[str, Callable[[Values, Attributes], Any]] = {**OPERATORS, **LAYERS}
_OWN = ("Constant",)


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    last_use: tuple[str, ...] = ()
    """Names of values that no later node reads."""

    def __call__(self, values: dict[str, Any]) -> None:
        result = _FUNCTIONS[self.operator]([values.get(name) for name in self.inputs], self.attributes)
        results = result if isinstance(result, (tuple, list)) else (result,)
        values.update(zip(self.outputs, results, strict=False))


def unsupported_operators(model: Any) -> list[str]:
    """The operators of a model that :class:`OnnxNetwork` does not compute, by name.

    Args:
        model: An ``onnx.ModelProto``.
    """
    return sorted(
        {
            f"{node.domain}.{node.op_type}" if node.domain not in _STANDARD else node.op_type
            for node in model.graph.node
            if node.domain not in _STANDARD or node.op_type not in (*_FUNCTIONS, *_OWN)
        }
    )


class OnnxNetwork(nn.Module):
    """Computes the first output of an ONNX graph of one input with torch's functions.

    Nodes whose inputs are all constant are computed once, when the network is built. Whole numbers, which are shapes
    and indices, stay on the CPU.

    Args:
        model: An ``onnx.ModelProto`` all of whose operators are supported; see :func:`unsupported_operators`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        from onnx import numpy_helper

        graph = model.graph
        opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), 1)
        constants: dict[str, Any] = {entry.name: _tensor(numpy_helper.to_array(entry)) for entry in graph.initializer}
        entry = next(entry for entry in graph.input if entry.name not in constants)
        self.input, self.dtype = entry.name, _dtype(entry.type.tensor_type.elem_type)
        self.output = graph.output[0].name
        nodes: list[_Node] = []
        with torch.no_grad():
            for entry in graph.node:
                attributes = {"opset": opset, **{one.name: _attribute(one) for one in entry.attribute}}
                if entry.op_type == "Constant":
                    constants[entry.output[0]] = _constant(attributes)
                    continue
                node = _Node(entry.op_type, tuple(entry.input), tuple(entry.output), attributes)
                if all(name in constants for name in node.inputs if name):
                    node(constants)
                else:
                    nodes.append(node)
        self.nodes = _with_last_uses(nodes, self.output)
        self.whole: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        read = {name for node in self.nodes for name in node.inputs}
        for name, value in constants.items():
            if name in read and isinstance(value, torch.Tensor) and value.is_floating_point():
                self.names[name] = f"constant_{len(self.names)}"
                self.register_buffer(self.names[name], value)
            elif name in read:
                self.whole[name] = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The output of the graph.

        Args:
            images: The input, of the shape that the graph takes; converted to its type.
        """
        values: dict[str, Any] = {self.input: images.to(self.dtype), **self.whole}
        values.update((name, getattr(self, buffer)) for name, buffer in self.names.items())
        for node in self.nodes:
            node(values)
            for name in node.last_use:
                values.pop(name, None)
        result: torch.Tensor = values[self.output]
        return result


def _with_last_uses(nodes: list[_Node], output: str) -> tuple[_Node, ...]:
    seen, result = {output}, []
    for node in reversed(nodes):
        names = tuple({name for name in (*node.inputs, *node.outputs) if name and name not in seen})
        seen.update(names)
        result.append(_Node(node.operator, node.inputs, node.outputs, node.attributes, names))
    return tuple(reversed(result))


def _attribute(entry: Any) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    value = helper.get_attribute_value(entry)
    if isinstance(value, TensorProto):
        return _tensor(numpy_helper.to_array(value))
    return value.decode() if isinstance(value, bytes) else value


def _constant(attributes: Attributes) -> torch.Tensor:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64)):
        if name in attributes:
            return _tensor(np.asarray(attributes[name], dtype=dtype))
    if "value_ints" in attributes:
        return _tensor(np.asarray(attributes["value_ints"], dtype=np.int64))
    value: torch.Tensor = attributes["value"]
    return value


def _dtype(number: int) -> torch.dtype:
    """The type of torch with a number of ONNX."""
    from onnx import helper

    dtype: torch.dtype = getattr(torch, helper.tensor_dtype_to_np_dtype(number).name)
    return dtype


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))  # a copy, since arrays of the file cannot be written to
