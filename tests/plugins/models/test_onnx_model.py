"""Networks in ONNX files, computed by torch and by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from advbench.discovery.identity import dependency_versions
from advbench.discovery.loading import discover
from advbench.specs import resolve_one
from advbench_models.pretrained.onnx_graph.network import OnnxNetwork, unsupported_operators

pytestmark = pytest.mark.slow

CLASSES = 10
WORDS = ("matrix", "--datasets", "cifar10-20", "--models")


def build(spec: str) -> Any:
    return resolve_one(discover(), "models", spec)


def weights(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any],
    *,
    shape: Sequence[int | str] = ("n", 3, 32, 32),
    classes: int | None = CLASSES,
    opset: int = 20,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from ``x`` to ``y``."""
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [shape[0], classes or "k"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def classifier(*, softmax: bool = False, **options: Any) -> onnx.ModelProto:
    """Convolution, batch normalisation, pooling and a linear layer."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 0, 0], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "b", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "h"], ["z" if softmax else "y"], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["y"]))
    constants = {"w": weights(5, 3, 3, 3), "b": weights(5), "s": weights(5), "v": np.abs(weights(5)) + 1}
    return graph(nodes, {**constants, "h": weights(CLASSES, 5)}, **options)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def reference(model: onnx.ModelProto, images: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(ReferenceEvaluator(model).run(None, {"x": images.numpy()})[0])


@pytest.mark.parametrize("gives", ["gradients", "scores"])
def test_a_file_gives_the_logits_that_onnx_computes(tmp_path: Path, gives: str) -> None:
    model = build(f"onnx:path={saved(classifier(), tmp_path)},gives={gives},mean=0.5,std=0.2:0.3:0.4")
    assert (model.image_shape, model.num_classes, model.gives) == ((3, 32, 32), CLASSES, gives)
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    normalised = (images.detach() - 0.5) / torch.tensor([0.2, 0.3, 0.4]).reshape(3, 1, 1)
    logits = model.load().eval()(images)
    assert torch.allclose(logits, reference(classifier(), normalised), atol=1e-5)
    assert logits.requires_grad == (gives == "gradients")
    if gives == "gradients":
        logits.sum().backward()
        assert images.grad is not None
        assert float(images.grad.abs().max()) > 0


def test_a_softmax_at_the_end_is_left_out(tmp_path: Path) -> None:
    file = saved(classifier(softmax=True), tmp_path)
    images = torch.rand(2, 3, 32, 32)
    for gives in ("gradients", "scores"):
        logits = build(f"onnx:path={file},gives={gives}").load().eval()(images)
        assert torch.allclose(logits, reference(classifier(), images), atol=1e-5)


def test_channels_last_and_single_images(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "h"], ["y"]),
    ]
    made = graph(nodes, {"axes": np.array([1, 2]), "h": weights(3, CLASSES)}, shape=(1, 6, 8, 3))
    model = build(f"onnx:path={saved(made, tmp_path)}")
    assert model.image_shape == (3, 6, 8)
    images = torch.rand(3, 3, 6, 8)
    expected = images.mean(dim=(2, 3)) @ torch.from_numpy(weights(3, CLASSES))
    assert torch.allclose(model.load()(images), expected, atol=1e-6)


def test_channels_last_and_images_of_any_size(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),  # of images of at least 5 x 5 pixels
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    made = graph(nodes, {"w": weights(CLASSES, 3, 5, 5)}, shape=("n", "height", "width", 3))
    model = build(f"onnx:path={saved(made, tmp_path)}")
    assert model.image_shape is None
    images = torch.rand(2, 3, 6, 8)
    assert torch.allclose(model.load()(images), reference(made, images.permute(0, 2, 3, 1)), atol=1e-5)


def test_half_precision_and_images_of_any_size(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalMaxPool", ["x"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "h"], ["y"]),
    ]
    constants = {"h": weights(3, CLASSES).astype(np.float16)}
    made = graph(nodes, constants, shape=("n", 3, "h", "w"), kind=TensorProto.FLOAT16)
    model = build(f"onnx:path={saved(made, tmp_path)}")
    assert model.image_shape is None
    images = torch.rand(2, 3, 5, 7)
    expected = images.amax(dim=(2, 3)) @ torch.from_numpy(weights(3, CLASSES))
    logits = model.load()(images)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=1e-2)


def test_the_digest_covers_weights_in_other_files(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    onnx.save_model(
        classifier(), file, save_as_external_data=True, location="net.data", size_threshold=0, convert_attribute=False
    )
    model = build(f"onnx:path={file}")
    first = model.weights_digest()
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model.load().eval()(images), reference(classifier(), images), atol=1e-5)
    content = bytearray((tmp_path / "net.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "net.data").write_bytes(content)
    assert build(f"onnx:path={file}").weights_digest() != first
    (tmp_path / "net.data").unlink()
    with pytest.raises(Exception, match=r"net\.data"):
        build(f"onnx:path={file}").weights_digest()


@pytest.mark.parametrize("where", ["Constant", "subgraph"])
def test_the_digest_covers_attributes_in_other_files(tmp_path: Path, where: str) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights(3, CLASSES)))
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "h"], ["y"]),
    ]
    if where == "Constant":
        constant.output[0] = "h"
        made = graph([constant, *nodes], {})
    else:
        branch = helper.make_graph(
            [constant], "branch", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, (3, CLASSES))]
        )
        nodes.insert(0, helper.make_node("If", ["always"], ["h"], then_branch=branch, else_branch=branch))
        made = graph(nodes, {"always": np.array(True)})
    images = torch.rand(2, 3, 32, 32)
    expected = reference(made, images)
    file, gives = tmp_path / "net.onnx", "gradients" if where == "Constant" else "scores"
    onnx.save_model(
        made, file, save_as_external_data=True, location="net.data", size_threshold=64, convert_attribute=True
    )
    model = build(f"onnx:path={file},gives={gives}")
    first = model.weights_digest()
    assert torch.allclose(model.load().eval()(images), expected, atol=1e-5)
    content = bytearray((tmp_path / "net.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "net.data").write_bytes(content)
    assert build(f"onnx:path={file},gives={gives}").weights_digest() != first


def test_the_versions_of_both_packages_are_recorded(tmp_path: Path) -> None:
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    assert dependency_versions(type(build(f"onnx:path={saved(classifier(), tmp_path)}"))) == versions


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


def custom() -> onnx.ModelProto:
    made = classifier()
    made.graph.node[2].op_type = "Celu"
    return made


def two_inputs() -> onnx.ModelProto:
    made = classifier()
    made.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    return made


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (custom, "", "torch does not compute Celu here; with gives=scores, ONNX Runtime does, without gradients"),
        (two_inputs, "", "has 2 inputs and an output of 2 dimensions; expected images"),
        (lambda: classifier(shape=(4, 3, 32, 32)), "", "takes 4 images at a time; export it with a dynamic batch"),
        (classifier, ",mean=0.5", "mean and std: give both, or neither"),
        (lambda: b"no model", "", "is not a valid ONNX file"),
        (lambda: None, "", "no such file"),
    ],
)
def test_unusable_input_is_a_one_line_error(
    call: Callable[..., Any], tmp_path: Path, model: Callable[[], Any], more: str, message: str
) -> None:
    content = model()
    if isinstance(content, bytes):
        (tmp_path / "net.onnx").write_bytes(content)
    elif content is not None:
        saved(content, tmp_path)
    called = call(*WORDS, f"onnx:path={tmp_path / 'net.onnx'}{more}", "--attacks", "fgsm")
    assert called.code == 2
    assert message in called.error_line()


def test_operators_that_torch_does_not_compute_can_be_scored(tmp_path: Path) -> None:
    model = build(f"onnx:path={saved(custom(), tmp_path)},gives=scores")
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model.load()(images), reference(custom(), images), atol=1e-5)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_a_one_line_error(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    file = saved(classifier(), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    called = call(*WORDS, f"onnx:path={file},gives=scores", "--attacks", "square")
    assert called.code == 2
    assert f"needs {package}; install it with: pip install 'advbench[onnx]'" in called.error_line()
