"""ONNX operators on torch tensors, compared with those of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from advbench_models.pretrained.onnx_graph.network import OnnxNetwork, unsupported_operators

pytestmark = pytest.mark.slow


def weights(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def single(operator: str, inputs: Sequence[Any], opset: int = 20, outputs: int = 1, **attributes: Any) -> None:
    """Compares one operator with ONNX Runtime's; the first input is a variable, the others constant."""
    names = ["x", *(f"c{number}" for number in range(1, len(inputs)))]
    constants = {name: value for name, value in zip(names, inputs, strict=True) if name != "x" and value is not None}
    names = [name if name == "x" or name in constants else "" for name in names]
    results = [f"y{number}" for number in range(outputs)]
    x = np.asarray(inputs[0])
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, names, results, **attributes)],
            "one",
            [helper.make_tensor_value_info("x", kind, x.shape)],
            [helper.make_empty_tensor_value_info(results[0])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=9,
    )
    assert not unsupported_operators(made)
    made = onnx.shape_inference.infer_shapes(made)
    expected = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    found = OnnxNetwork(made)(torch.from_numpy(x)).numpy()
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-5), operator


IMAGES = weights(2, 4, 7, 9)
ROWS = weights(3, 6)
LENGTHS = np.array([2, 3, 4], dtype=np.int64)


@pytest.mark.parametrize(
    ("operator", "inputs", "options"),
    [
        ("Conv", [IMAGES, weights(6, 2, 3, 3)], {"group": 2, "dilations": [2, 1], "pads": [2, 1, 2, 1]}),
        ("Conv", [IMAGES, weights(3, 4, 3, 2), weights(3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("MaxPool", [IMAGES], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("MaxPool", [IMAGES], {"kernel_shape": [2, 3], "pads": [1, 0, 0, 2]}),
        ("MaxPool", [IMAGES], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        ("AveragePool", [IMAGES], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("AveragePool", [IMAGES], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("AveragePool", [IMAGES], {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "strides": [2, 2]}),
        ("LayerNormalization", [ROWS, weights(6), weights(6)], {"axis": -1, "epsilon": 1e-3}),
        ("InstanceNormalization", [IMAGES, weights(4), weights(4)], {}),
        ("HardSigmoid", [ROWS], {"alpha": 0.3}),
        ("HardSwish", [ROWS * 9], {}),
        ("Gelu", [ROWS], {"approximate": "tanh"}),
        ("Elu", [ROWS], {"alpha": 0.7}),
        ("LeakyRelu", [ROWS], {"alpha": 0.2}),
        ("PRelu", [IMAGES, weights(4, 1, 1)], {}),
        ("Softplus", [ROWS], {}),
        ("Mish", [ROWS], {}),
        ("Erf", [ROWS], {}),
        ("Clip", [ROWS, np.float32(-0.1), np.float32(0.2)], {}),
        ("Clip", [ROWS], {"opset": 6, "min": -0.1, "max": 0.2}),
        ("Pow", [np.abs(ROWS), np.float32(1.5)], {}),
        ("Div", [np.array([7, -7, 9]), np.array([2, 2, 4])], {}),
        ("Mod", [np.array([7, -7, -9]), np.array([4, 4, -4])], {}),
        ("Mod", [ROWS, np.float32(-0.17)], {"fmod": 1}),
        ("Dropout", [ROWS, np.float32(0.5), np.array(False)], {}),
        ("Max", [ROWS, weights(3, 6, seed=1), np.float32(0)], {}),
        ("Sum", [ROWS, weights(3, 6, seed=1), weights(6)], {}),
        ("Softmax", [IMAGES], {"axis": 1}),
        ("LogSoftmax", [ROWS], {}),
        ("Gemm", [ROWS, weights(3, 5), weights(5)], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
        ("ReduceMean", [IMAGES, np.array([2, 3])], {"keepdims": 0}),
        ("ReduceMean", [IMAGES], {"opset": 13, "axes": [1], "keepdims": 1}),
        ("ReduceSum", [IMAGES, np.array([], dtype=np.int64)], {"noop_with_empty_axes": 1}),
        ("ReduceL2", [IMAGES, np.array([1])], {}),
        ("ReduceMax", [IMAGES], {"keepdims": 0}),
        ("Reshape", [IMAGES, np.array([0, -1])], {}),
        ("Flatten", [IMAGES], {"axis": 2}),
        ("Flatten", [IMAGES], {"axis": 0}),
        ("Transpose", [IMAGES], {"perm": [0, 2, 3, 1]}),
        ("Transpose", [ROWS], {}),
        ("Squeeze", [weights(2, 1, 3, 1), np.array([1, -1])], {}),
        ("Squeeze", [weights(2, 1, 3, 1)], {"opset": 11}),
        ("Unsqueeze", [ROWS, np.array([0, -1])], {}),
        ("Unsqueeze", [ROWS], {"opset": 11, "axes": [1]}),
        ("Slice", [IMAGES, np.array([1, -1]), np.array([9, -100]), np.array([1, 3]), np.array([1, -2])], {}),
        ("Slice", [IMAGES], {"opset": 9, "starts": [0, 2], "ends": [1, 1000], "axes": [0, 3]}),
        ("Gather", [ROWS, np.array([[0, -1], [2, 3]])], {"axis": 1}),
        ("Gather", [ROWS, np.array(1)], {"axis": 0}),
        ("Expand", [weights(3, 1), np.array([2, 1, 4])], {}),
        ("Tile", [ROWS, np.array([2, 3])], {}),
        ("Pad", [IMAGES, np.array([0, 0, 1, 2, 0, 0, 3, 0]), np.float32(0.5)], {}),
        ("Pad", [IMAGES, np.array([0, 0, 1, 2, 0, 0, 3, 0])], {"mode": "reflect"}),
        ("Pad", [IMAGES, np.array([1, 2])], {"opset": 18, "axes": "input"}),
        ("Split", [ROWS, np.array([1, 2])], {"axis": 0, "outputs": 2}),
        ("Split", [weights(5, 3)], {"num_outputs": 2, "outputs": 2}),
        ("Shape", [LENGTHS], {}),
        ("ConstantOfShape", [LENGTHS], {"value": helper.make_tensor("v", TensorProto.INT64, [1], [7])}),
        ("Cast", [ROWS], {"to": TensorProto.INT64}),
        ("Where", [ROWS > 0, np.float32(1), np.float32(-1)], {}),
        ("Resize", [IMAGES, None, None, np.array([2, 4, 14, 27])], {"mode": "linear"}),
        (
            "Resize",
            [IMAGES, None, np.array([1, 1, 2, 2], dtype=np.float32)],
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_operator_computes_what_its_specification_says(
    operator: str, inputs: list[Any], options: dict[str, Any]
) -> None:
    if options.get("axes") == "input":
        inputs, options = [*inputs, None, np.array([2])], {"opset": options["opset"]}
    single(operator, inputs, **options)


@pytest.mark.parametrize(
    ("operator", "inputs", "options"),
    [
        ("AveragePool", [IMAGES], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
        ("Dropout", [ROWS, np.float32(0.5), np.array(True)], {}),
        ("BatchNormalization", [IMAGES, *[np.ones(4, np.float32)] * 4], {"training_mode": 1, "outputs": 3}),
    ],
)
def test_what_torch_does_not_compute_here_is_refused(operator: str, inputs: list[Any], options: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=f"{operator} with (dilations|training_mode=1)"):
        single(operator, inputs, **options)


def test_an_old_softmax_is_one_over_all_later_axes() -> None:  # which the reference implementation is not
    value_info = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("Softmax", ["x"], ["y"], axis=1)],
            "one",
            [value_info("x", TensorProto.FLOAT, IMAGES.shape)],
            [value_info("y", TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=6,
    )
    found = OnnxNetwork(made)(torch.from_numpy(IMAGES))
    assert torch.allclose(found.flatten(1).sum(dim=1), torch.ones(2))
    session = onnxruntime.InferenceSession(made.SerializeToString())
    assert np.allclose(found.numpy(), session.run(None, {"x": IMAGES})[0], atol=1e-6)
