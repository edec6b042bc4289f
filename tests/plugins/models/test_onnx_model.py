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

from advbench.api import ContractError, WeightsError
from advbench.discovery.identity import dependency_versions
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

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


def test_a_softmax_before_an_identity_is_left_out_and_kept_where_probabilities_are_declared(tmp_path: Path) -> None:
    made = classifier(softmax=True)
    made.graph.node[-1].output[0] = "p"
    made.graph.node.append(helper.make_node("Identity", ["p"], ["y"]))
    file, images = saved(made, tmp_path), torch.rand(2, 3, 32, 32)
    logits = reference(classifier(), images)
    assert torch.allclose(build(f"onnx:path={file}").load().eval()(images), logits, atol=1e-5)
    declared = build(f"onnx:path={file},gives=scores,probabilities=true").load()(images)
    assert torch.allclose(declared.float(), logits.log_softmax(dim=1), atol=1e-4)


def of_bytes(kind: int = TensorProto.UINT8) -> onnx.ModelProto:
    """The classifier with an input of whole numbers from 0 to 255."""
    made = classifier()
    made.graph.input[0].type.tensor_type.elem_type = kind
    made.graph.node[0].input[0] = "scaled"
    made.graph.initializer.append(numpy_helper.from_array(np.float32(255), "most"))
    for place, node in enumerate(
        [
            helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["cast", "most"], ["scaled"]),
        ]
    ):
        made.graph.node.insert(place, node)
    return made


def test_a_graph_of_bytes_gets_images_rounded_to_255_levels(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 32, 32)
    logits = build(f"onnx:path={saved(of_bytes(), tmp_path)},gives=scores").load()(images)
    assert torch.allclose(logits, reference(classifier(), (images * 255).round() / 255), atol=1e-5)


def several_outputs() -> onnx.ModelProto:
    made = classifier()
    made.graph.output.insert(0, helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", 5]))
    return made


@pytest.mark.parametrize("gives", ["gradients", "scores"])
def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path, gives: str) -> None:
    model = build(f"onnx:path={saved(several_outputs(), tmp_path)},output=y,gives={gives}")
    assert model.num_classes == CLASSES
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model.load().eval()(images), reference(classifier(), images), atol=1e-5)


def test_values_that_are_not_finite_are_reported_on_loading(tmp_path: Path) -> None:
    made = classifier()
    made.graph.node[-1].output[0] = "z"
    made.graph.node.append(helper.make_node("Log", ["z"], ["y"]))
    with pytest.raises(WeightsError, match="returns NaN or infinite values for an image of noise"):
        build(f"onnx:path={saved(made, tmp_path)}").load()


def test_grey_images_for_a_graph_of_three_channels_and_any_size_are_named(tmp_path: Path) -> None:
    network = build(f"onnx:path={saved(classifier(shape=('n', 3, 'h', 'w')), tmp_path)}").load().eval()
    with pytest.raises(ContractError, match="takes images of 3 channels, not of 1"):
        network(torch.rand(2, 1, 28, 28))


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
        (classifier, ",mean=0.5:0.5,std=1:1", "takes 3 channels; give one number, or 3 separated by ':'"),
        (classifier, ",probabilities=true", "probabilities=true: needs gives=scores"),
        (of_bytes, "", "takes bytes (uint8), which have no gradient; use gives=scores"),
        (of_bytes, ",gives=scores,mean=0.5,std=1", "takes bytes (uint8), which are not normalised"),
        (lambda: of_bytes(TensorProto.INT32), ",gives=scores", "takes int32; export it with an input of float32"),
        (several_outputs, "", "has 2 outputs (f, y): give one of them as output=NAME"),
        (classifier, ",output=z", "has 1 output (y): none is z"),
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


@pytest.mark.parametrize("installed", [True, False])
def test_a_setting_that_torch_does_not_compute_is_reported_on_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    made = classifier()
    made.graph.node[3].CopyFrom(
        helper.make_node("AveragePool", ["r"], ["g"], kernel_shape=[16, 16], dilations=[1, 1], strides=[1, 1])
    )
    build(f"onnx:path={saved(made, tmp_path)}").load()
    made.graph.node[3].CopyFrom(
        helper.make_node("AveragePool", ["r"], ["g"], kernel_shape=[8, 8], dilations=[2, 2], strides=[9, 9])
    )
    if not installed:
        monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    message = r"torch cannot compute the graph \(NotImplementedError: AveragePool with dilations\); use gives=scores"
    with pytest.raises(WeightsError, match=message):
        build(f"onnx:path={saved(made, tmp_path)}").load()


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
