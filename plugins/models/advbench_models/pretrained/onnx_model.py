"""Networks in ONNX files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from advbench.api import (
    ContractError,
    Float32Network,
    FunctionNetwork,
    Model,
    ParameterError,
    WeightsError,
    param,
    sha256_file,
)
from advbench_models.normalised import Normalised, channel_values
from advbench_models.pretrained.onnx_graph.external import external_files
from advbench_models.pretrained.packages import missing_package, one_line

__all__ = ["OnnxModel"]

_CHANNELS = (1, 3)
_TOLERANCE = 1e-3
"""How far the logits of ONNX Runtime and of torch may be apart, relative to the largest one."""


@dataclasses.dataclass(frozen=True)
class OnnxModel(Model):
    """A network in an ONNX file: ``onnx:path=net.onnx``.

    With ``gives=gradients``, torch computes the graph, so that attacks get gradients. advbench has operators of its own
    for this: at the time of writing, onnx2torch could not convert what torch itself exports (opset 18 and later). If
    ONNX Runtime is installed, the logits of an image are compared with its. With ``gives=scores``, ONNX Runtime
    computes the graph, whatever its operators, and attacks get logits without a gradient.

    The shape of images and the number of classes are those of the file. Inputs are images in [0, 1]: give ``mean`` and
    ``std`` if the network expects normalised ones. A softmax at the end of the graph is left out, so that the outputs
    are logits. Graphs that take images with the channels last get them so, and graphs that take one image at a time get
    them one by one. Graphs that take bytes (uint8) get images rounded to 0 to 255, and are computed with
    ``gives=scores``, since rounded values have no gradient.
    """

    name: ClassVar[str] = "onnx"
    source: ClassVar[str] = "the ONNX specification, https://onnx.ai"
    depends_on: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    path: str = param(help="path of an .onnx file")
    mean: str | None = param(
        None, help="mean to subtract from images: one number, or one per channel as in 0.5:0.4:0.4"
    )
    std: str | None = param(None, help="standard deviation to divide images by; written like mean")
    gives: str = param(  # type: ignore[assignment, misc]
        "gradients", choices=("gradients", "scores"), help="what attacks get: gradients, or scores of ONNX Runtime"
    )
    output: str | None = param(None, help="name of the output that holds the logits, if the file has several")
    probabilities: bool = param(
        False, help="with gives=scores: the outputs are probabilities, whose logarithms are taken as logits"
    )

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: A value is malformed, or onnx is not installed.
        """
        super().__post_init__()
        if (self.mean is None) != (self.std is None):
            raise ParameterError("mean and std: give both, or neither")
        if self.probabilities and self.gives != "scores":
            raise ParameterError("probabilities=true: needs gives=scores; gradients need logits")
        self._normalisation()
        _library()

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """The shape of the graph's input, or None if its height or width is not fixed."""
        dimensions = self._input_shape[1:]
        if self._channels_last:
            dimensions = (dimensions[2], *dimensions[:2])
        channels, height, width = dimensions
        return None if not (channels and height and width) else (channels, height, width)

    @property
    def num_classes(self) -> int | None:  # type: ignore[override]
        """The length of the graph's output, or None if the file does not say it."""
        return _dimensions(self._graph.output[0])[-1] or None

    def load(self) -> nn.Module:
        """Builds the network.

        Raises:
            WeightsError: The graph has operators that torch does not compute here, or cannot be computed.
            ParameterError: ``mean``, ``std`` or ``gives`` does not suit the input of the graph.
        """
        self._check_input()
        images = _Images(self._computed(), self._channels, self._channels_last, self._one_by_one, self._label)
        network = Float32Network(images, self._label)
        normalisation = self._normalisation()
        return network if normalisation is None else Normalised(network, *normalisation)

    def weights_digest(self) -> str:
        """The SHA-256 of the file, and of the files of external data that it names.

        Raises:
            WeightsError: A file is missing or damaged.
            ParameterError: ``mean``, ``std`` or ``gives`` does not suit the input of the graph.
        """
        self._check_input()  # what cannot be used is rejected before any work
        if self.gives == "scores":
            _runtime()
        else:
            self._check_operators(self._structure)
        return hashlib.sha256(" ".join(map(sha256_file, (self._file, *self._external_files))).encode()).hexdigest()

    @property
    def _label(self) -> str:
        return f"model {self.name!r}: path={self.path}"

    @property
    def _file(self) -> Path:
        return Path(self.path).expanduser()

    @property
    def _graph(self) -> Any:
        return self._structure.graph

    @functools.cached_property
    def _structure(self) -> Any:
        """The file without external data, and with logits as its output."""
        onnx = _library()
        if not self._file.is_file():
            raise WeightsError(f"{self._label}: no such file")
        try:
            model = onnx.load(self._file, load_external_data=False)
            onnx.checker.check_model(model if not external_files(model) else str(self._file))
            model = onnx.shape_inference.infer_shapes(model)
        except Exception as error:
            raise WeightsError(f"{self._label} is not a valid ONNX file ({one_line(error)})") from error
        return self._with_logits(model)

    @property
    def _external_files(self) -> tuple[Path, ...]:
        files = tuple(self._file.parent / name for name in sorted(external_files(self._structure)))
        for file in files:
            if not file.is_file():
                raise WeightsError(f"{self._label}: the file of its weights, {file}, is missing")
        return files

    @functools.cached_property
    def _input_shape(self) -> tuple[int, int, int, int]:
        """The dimensions of the input: 0 stands for one that is not fixed."""
        constants = {entry.name for entry in self._graph.initializer}
        inputs = [entry for entry in self._graph.input if entry.name not in constants]
        shape = _dimensions(inputs[0]) if len(inputs) == 1 else ()
        output = _dimensions(self._graph.output[0])
        if len(shape) != 4 or len(output) != 2:
            found = f"{len(inputs)} inputs" if len(inputs) != 1 else f"an input of {len(shape)} dimensions"
            raise WeightsError(
                f"{self._label} has {found} and an output of {len(output)} dimensions; expected images, shape (batch, "
                "channels, height, width), and logits, shape (batch, classes)"
            )
        batch, second, third, last = shape
        if batch > 1:
            raise WeightsError(f"{self._label} takes {batch} images at a time; export it with a dynamic batch")
        return batch, second, third, last

    def _check_input(self) -> None:
        """Checks that the parameters suit the type and the channels of the graph's input."""
        channels, kind = self._channels, _input_type(self._structure)
        for name in ("mean", "std"):
            count = len(channel_values(name, getattr(self, name) or "0"))
            if channels and count not in (1, channels):
                raise ParameterError(
                    f"{name}={getattr(self, name)}: {self.path} takes {channels} channels; give one number, or "
                    f"{channels} separated by ':'"
                )
        if kind.is_floating_point:
            return
        taken = str(kind).removeprefix("torch.")
        if kind != torch.uint8:
            raise WeightsError(f"{self._label} takes {taken}; export it with an input of float32, or of uint8")
        if self.mean is not None:
            raise ParameterError(f"mean and std: {self.path} takes bytes (uint8), which are not normalised")
        if self.gives == "gradients":
            raise ParameterError(
                f"gives=gradients: {self.path} takes bytes (uint8), which have no gradient; use gives=scores, or "
                "export it with an input of float32"
            )

    @property
    def _channels(self) -> int:
        """The number of channels that the graph takes; 0 if it is not fixed."""
        return self._input_shape[3 if self._channels_last else 1]

    @property
    def _channels_last(self) -> bool:
        return self._input_shape[3] in _CHANNELS and self._input_shape[1] not in _CHANNELS

    @property
    def _one_by_one(self) -> bool:
        return self._input_shape[0] == 1

    def _computed(self) -> nn.Module:
        """The graph as a network."""
        from advbench_models.pretrained.onnx_graph.network import OnnxNetwork

        onnx = _library()
        model = self._with_logits(onnx.load(self._file))
        if self.gives == "scores":
            return FunctionNetwork(_session(model), self._label, gives="scores", probabilities=self.probabilities)
        self._check_operators(model)
        try:
            network = OnnxNetwork(model).eval()
            self._compare(network, model)
        except WeightsError:
            raise
        except Exception as error:
            raise WeightsError(
                f"{self._label}: torch cannot compute the graph ({one_line(error)}); use gives=scores"
            ) from error
        return network

    def _check_operators(self, model: Any) -> None:
        from advbench_models.pretrained.onnx_graph.network import unsupported_operators

        unsupported = unsupported_operators(model)
        if unsupported:
            raise WeightsError(
                f"{self._label}: torch does not compute {', '.join(unsupported)} here; with gives=scores, ONNX "
                "Runtime does, without gradients"
            )

    def _compare(self, network: nn.Module, model: Any) -> None:
        """Computes the logits of one image; compares them with those of ONNX Runtime, if it is installed."""
        usual = (1, 224, 224, 3) if self._channels_last else (1, 3, 224, 224)
        shape = [length or other for length, other in zip(self._input_shape, usual, strict=True)]
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found = network(image).double()
        if not torch.isfinite(found).all():
            raise WeightsError(f"{self._label} returns NaN or infinite values for an image of noise")
        try:
            run = _session(model)
        except ParameterError:
            return
        expected = torch.from_numpy(run(image.numpy())).double()
        if not torch.allclose(found, expected, atol=_TOLERANCE * float(expected.abs().max()), rtol=_TOLERANCE):
            raise WeightsError(f"{self._label}: torch and ONNX Runtime give other logits; use gives=scores")

    def _with_logits(self, model: Any) -> Any:
        """Leaves the output that holds the logits: the input of a softmax at the end of the graph, if there is one.

        Raises:
            WeightsError: The graph has several outputs, and ``output`` is none of them.
        """
        outputs, graph = model.graph.output, model.graph
        chosen = [value for value in outputs if self.output in (None, value.name)]
        if len(chosen) != 1:
            names = ", ".join(value.name for value in outputs)
            remedy = "give one of them as output=NAME" if self.output is None else f"none is {self.output}"
            count = "1 output" if len(outputs) == 1 else f"{len(outputs)} outputs"
            raise WeightsError(f"{self._label} has {count} ({names}): {remedy}")
        logits = type(chosen[0])()
        logits.CopyFrom(chosen[0])
        before = {name: node for node in graph.node for name in node.output}
        last = before.get(logits.name)
        while last is not None and last.op_type == "Identity":
            last = before.get(last.input[0])
        if last is not None and last.op_type == "Softmax" and not last.domain and not self.probabilities:
            logits.name = last.input[0]
        del outputs[:]
        outputs.append(logits)
        return model

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if self.mean is None or self.std is None:
            return None
        return channel_values("mean", self.mean), channel_values("std", self.std, positive=True)


class _Images(nn.Module):
    """Gives images to a graph in the form that it takes."""

    def __init__(self, graph: nn.Module, channels: int, channels_last: bool, one_by_one: bool, label: str) -> None:
        super().__init__()
        self.graph = graph
        self.channels = channels
        self.label = label
        self.channels_last = channels_last
        self.one_by_one = one_by_one

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.channels not in (0, images.shape[1]):
            raise ContractError(f"{self.label} takes images of {self.channels} channels, not of {images.shape[1]}")
        if self.channels_last:
            images = images.permute(0, 2, 3, 1)
        if not self.one_by_one or len(images) == 1:
            logits: torch.Tensor = self.graph(images)
            return logits
        return torch.cat([self.graph(images[place : place + 1]) for place in range(len(images))])


def _dimensions(value: Any) -> tuple[int, ...]:
    """The lengths of an input or output; 0 for those that are not fixed."""
    return tuple(int(dimension.dim_value) for dimension in value.type.tensor_type.shape.dim)


def _input_type(model: Any) -> torch.dtype:
    constants = {entry.name for entry in model.graph.initializer}
    kind = next(entry for entry in model.graph.input if entry.name not in constants).type.tensor_type.elem_type
    dtype: torch.dtype = getattr(torch, _library().helper.tensor_dtype_to_np_dtype(kind).name)
    return dtype


def _session(model: Any) -> Any:
    """A function of arrays of images that ONNX Runtime computes."""
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name, kind = session.get_inputs()[0].name, str(_input_type(model)).removeprefix("torch.")

    def run(images: Any) -> Any:
        given = np.rint(images * 255) if kind == "uint8" else images
        return session.run([session.get_outputs()[0].name], {name: given.astype(kind)})[0]

    return run


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_package("onnxruntime", "onnx", error) from error
    return onnxruntime


def _library() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.shape_inference
    except ImportError as error:
        raise missing_package("onnx", "onnx", error) from error
    return onnx
