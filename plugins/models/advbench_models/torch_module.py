"""A network of the user's own, from a Python file or an installed package."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import warnings
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn

from advbench.api import (
    Access,
    FunctionNetwork,
    Model,
    ParameterError,
    UsageError,
    WeightsError,
    find_object,
    load_state,
    param,
    read_state_dict,
    sha256_file,
    state_digest,
)
from advbench_models.arguments import parse_arguments, parse_shape, signature_mismatch
from advbench_models.execution import MEMORY_FORMAT_HELP, MEMORY_FORMATS, in_memory_format
from advbench_models.normalised import Normalised, channel_values

__all__ = ["TorchModule"]

_TORCHSCRIPT_SUFFIXES = (".pt", ".pth", ".ts", ".jit", ".torchscript")


@dataclasses.dataclass(frozen=True)
class TorchModule(Model):
    """A network of your own: ``torch-module:build=net.py:make,weights=net.safetensors``.

    ``build`` names an ``nn.Module``, its class, or a function that returns one. A class or function is called with
    ``args``, such as ``args=depth=3;width=16``. It can also be a file written by ``torch.jit.save``, whose program runs
    like code of your own. The outputs must be logits, of any floating dtype: a tensor, an attribute or item ``logits``,
    or the first item of a tuple. Inputs are images in [0, 1]: give ``mean`` and ``std`` if the network expects
    normalised ones. Weights are a .safetensors file or a state dict written by ``torch.save``; pickles with other
    content are rejected, and no code in them runs. Without weights, the network is used as built.

    With ``gives=labels``, the outputs may also be class numbers, one-hot labels or probabilities. A stochastic network
    is called with ``(images, rng)``; see :class:`advbench.api.SampleRandom`.
    """

    name: ClassVar[str] = "torch-module"

    build: str = param(
        help="FILE.py:NAME or package.module:NAME of a network or of a function that builds one; or a "
        "torch.jit.save file"
    )
    weights: str | None = param(None, help="path of a state dict, .safetensors or written by torch.save")
    mean: str | None = param(
        None, help="mean to subtract from images: one number, or one per channel as in 0.5:0.4:0.4"
    )
    std: str | None = param(None, help="standard deviation to divide images by; written like mean")
    shape: str | None = param(None, help="input shape, channels x height x width, as in 3x32x32; none: any")
    classes: int | None = param(None, min=2, help="number of logits; none: at least the dataset's classes")
    args: str | None = param(None, help="arguments for build, positional or by name, as in 3;width=16;kind=small")
    gives: str = param(  # type: ignore[assignment, misc]
        "gradients", choices=("gradients", "scores", "labels"), help="what attacks get: gradients, scores or labels"
    )
    stochastic: bool = param(False, help="whether the network is random and takes (images, rng)")  # type: ignore[misc]
    memory_format: str = param("contiguous", choices=MEMORY_FORMATS, help=MEMORY_FORMAT_HELP)

    def __post_init__(self) -> None:
        """Validates the parameters; imports nothing.

        Raises:
            ParameterError: A value is malformed, or not allowed together with the others.
        """
        super().__post_init__()
        if (self.mean is None) != (self.std is None):
            raise ParameterError("mean and std: give both, or neither")
        self._normalisation()
        if self.args is not None:
            parse_arguments(self.args)
        if self.args is not None and self._torchscript_file is not None:
            raise ParameterError(f"args={self.args}: {self.build} is already a network and takes no arguments")
        if self.stochastic and self._torchscript_file is not None:
            raise ParameterError(f"stochastic=true: {self.build} is a program of TorchScript, which takes no rng")
        parse_shape(self.shape)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """The input shape, if given."""
        return parse_shape(self.shape)

    @property
    def num_classes(self) -> int | None:  # type: ignore[override]
        """The number of logits, if given."""
        return self.classes

    def load(self) -> nn.Module:
        """Builds the network, loads its weights and adds the normalisation."""
        network = self._build_network()
        if self._path is not None:
            load_state(network, self._path)
        network = in_memory_format(network, self.memory_format)
        if self.gives != "gradients":
            label = f"model {self.name!r}: build={self.build}"
            network = FunctionNetwork(network, label, gives=cast(Access, self.gives), classes=self.classes)
        normalisation = self._normalisation()
        return network if normalisation is None else Normalised(network, *normalisation, takes_rng=self.stochastic)

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the files of weights and ScriptModule; without a file, of the state dict as built."""
        if self._path is None:
            return self._built_digest
        read_state_dict(self._path)  # unusable files are rejected before any work
        digest = sha256_file(self._path)
        if self._torchscript_file is None:
            return digest
        return hashlib.sha256(f"{self._built_digest} {digest}".encode()).hexdigest()

    def code_modules(self) -> tuple[str, ...]:
        """Returns the module that builds the network."""
        return () if self._torchscript_file is not None else (self._build_object[1],)

    @functools.cached_property
    def _build_object(self) -> tuple[Any, str]:
        try:
            build_object, module = find_object(self.build)
        except UsageError as error:
            raise UsageError(f"model {self.name!r}: build={error}") from error
        if isinstance(build_object, nn.Module):
            reason = "it is a network already" if self.args is not None else ""
        elif not callable(build_object):
            raise UsageError(
                f"model {self.name!r}: build={self.build} is a {type(build_object).__name__}; expected a network"
            )
        else:
            reason = signature_mismatch(build_object, *self._arguments)
        if reason:
            arguments = f"does not take args={self.args}" if self.args is not None else "needs args=…"
            raise UsageError(f"model {self.name!r}: build={self.build} {arguments} ({reason}); write args=3;width=16")
        return build_object, module

    @property
    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return ([], {}) if self.args is None else parse_arguments(self.args)

    @functools.cached_property
    def _built_digest(self) -> str:
        if self._torchscript_file is not None:
            self._build_network()  # unreadable files are rejected before any work
            return sha256_file(self._torchscript_file)
        try:
            first, second = (state_digest(self._build_network()) for _ in range(2))
        except WeightsError as error:
            raise WeightsError(f"model {self.name!r}: build={self.build}: {error}") from error
        if first != second:
            raise WeightsError(
                f"model {self.name!r}: build={self.build} creates different weights each time; give weights=FILE, "
                "or read or seed them"
            )
        return first

    def _build_network(self) -> nn.Module:
        if self._torchscript_file is not None:
            return self._load_torchscript(self._torchscript_file)
        network = self._build_object[0]
        if not isinstance(network, nn.Module):
            positional, keyword = self._arguments
            try:
                network = network(*positional, **keyword)
            except UsageError:
                raise
            except (Exception, SystemExit) as error:
                arguments = "" if self.args is None else f" with args={self.args}"
                raise UsageError(
                    f"model {self.name!r}: build={self.build}{arguments} raises {_one_line(error)}; fix that"
                ) from error
        if not isinstance(network, nn.Module):
            raise UsageError(
                f"model {self.name!r}: build={self.build} returns a {type(network).__name__}; "
                "expected a torch.nn.Module"
            )
        return network

    def _load_torchscript(self, file: Path) -> nn.Module:
        """Loads a ScriptModule; TorchScript's reader runs no Python."""
        if not file.is_file():
            raise UsageError(f"model {self.name!r}: build={self.build}: no such file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that TorchScript is deprecated
                network: nn.Module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        except Exception as error:
            raise UsageError(
                f"model {self.name!r}: build={self.build} is no file of torch.jit.save ({_one_line(error)}); give "
                "FILE.py:NAME, and the file as weights= where it is a state dict"
            ) from error
        return network

    @property
    def _torchscript_file(self) -> Path | None:
        """The file of a ScriptModule, if ``build`` names one."""
        path = Path(self.build).expanduser()
        return path if path.suffix in _TORCHSCRIPT_SUFFIXES else None

    @property
    def _path(self) -> Path | None:
        return None if self.weights is None else Path(self.weights).expanduser()

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if self.mean is None or self.std is None:
            return None
        return channel_values("mean", self.mean), channel_values("std", self.std, positive=True)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
