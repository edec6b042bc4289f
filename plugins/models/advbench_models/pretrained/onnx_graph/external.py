"""The files that hold tensors of an ONNX model outside of its own file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["external_files"]


def external_files(model: Any) -> set[str]:
    """The names of the files of external data, relative to the model's folder.

    Tensors are initializers, attributes of nodes (such as ``value`` of Constant), and those of subgraphs and functions.

    Args:
        model: An ``onnx.ModelProto`` that was loaded without external data.
    """
    tensors = [*_of_graph(model.graph)]
    for function in model.functions:
        tensors.extend(_of_nodes(function.node))
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from _of_sparse(sparse)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield from _of_sparse(attribute.sparse_tensor)
        for sparse in attribute.sparse_tensors:
            yield from _of_sparse(sparse)
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _of_graph(graph)


def _of_sparse(sparse: Any) -> Iterator[Any]:
    yield sparse.values
    yield sparse.indices
