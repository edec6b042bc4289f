"""A network of the user's own, from a Python file or an installed package."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import (
    Model,
    ParameterError,
    UsageError,
    WeightsError,
    fill,
    find_object,
    param,
    read_state_dict,
    sha256_file,
    state_digest,
)
from advbench_models.arguments import argument_mismatch, parse_arguments
from advbench_models.normalised import Normalised, channel_values

__all__ = ["TorchModule"]

_PROGRAMS = (".pt", ".pth", ".ts", ".jit", ".torchscript")
_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")


@dataclasses.dataclass(frozen=True)
class TorchModule(Model):
    """A network of your own: ``torch-module:build=net.py:make,weights=net.safetensors``.

    ``build`` names an ``nn.Module``, its class, or a function that returns one; a class and a function are called
    with ``args``, such as ``args=depth=3;width=16``. It may be a file that ``torch.jit.save`` wrote, too: its program
    runs as code of your own does. Its outputs are logits, of any floating type, alone or as ``logits`` of a mapping or
    an object or the first item of a tuple. It takes images in [0, 1]: give ``mean`` and ``std`` where it was trained on
    normalised ones. Weights are a .safetensors file or a state dict that ``torch.save`` wrote; a pickle that holds
    anything else is refused, and nothing in it runs. Without weights, the network is used as it is built.
    """

    name: ClassVar[str] = "torch-module"

    build: str = param(
        help="FILE.py:NAME or package.module:NAME of a network, or of what makes one; or a file of torch.jit.save"
    )
    weights: str | None = param(None, help="path of a state dict: .safetensors, or written by torch.save")
    mean: str | None = param(None, help="what is subtracted from images: a number, or one a channel as in 0.5:0.4:0.4")
    std: str | None = param(None, help="what images are divided by then; written as the mean")
    shape: str | None = param(None, help="channels x height x width that it takes, as in 3x32x32; none: any")
    classes: int | None = param(None, min=2, help="how many logits it gives; none: at least the dataset's classes")
    args: str | None = param(None, help="what build is called with, by place or name, as in 3;width=16;kind=small")

    def __post_init__(self) -> None:
        """Checks the forms of the parameters; nothing is imported yet."""
        super().__post_init__()
        if (self.mean is None) != (self.std is None):
            raise ParameterError("mean and std: give both, or neither")
        self._normalisation()
        if self.args is not None:
            parse_arguments(self.args)
        if self.args is not None and self._program is not None:
            raise ParameterError(f"args={self.args}: {self.build} is a network already, which takes none")
        if self.shape is not None and not _SHAPE.fullmatch(self.shape):
            raise ParameterError(f"shape={self.shape}: must be channels x height x width, as in 3x32x32")

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """What it takes, where that is said."""
        found = _SHAPE.fullmatch(self.shape or "")
        return (int(found[1]), int(found[2]), int(found[3])) if found else None

    @property
    def num_classes(self) -> int | None:  # type: ignore[override]
        """How many logits it gives, where that is said."""
        return self.classes

    def load(self) -> nn.Module:
        """Builds the network, fills it and puts the normalisation before it."""
        network = self._built()
        if self._path is not None:
            fill(network, self._path)
        normalisation = self._normalisation()
        return network if normalisation is None else Normalised(network, *normalisation)

    def weights_digest(self) -> str:
        """SHA-256 of the files of weights and of a ScriptModule; without one, of the network as it is built."""
        if self._path is None:
            return self._own_digest
        read_state_dict(self._path)  # what cannot be used is refused before any work
        digest = sha256_file(self._path)
        if self._program is None:
            return digest
        return hashlib.sha256(f"{self._own_digest} {digest}".encode()).hexdigest()

    def code_modules(self) -> tuple[str, ...]:
        """The module that builds the network."""
        return () if self._program is not None else (self._found[1],)

    @functools.cached_property
    def _found(self) -> tuple[Any, str]:
        try:
            found, module = find_object(self.build)
        except UsageError as error:
            raise UsageError(f"model {self.name!r}: build={error}") from error
        if isinstance(found, nn.Module):
            reason = "it is a network already" if self.args is not None else ""
        elif not callable(found):
            raise UsageError(f"model {self.name!r}: build={self.build} is a {type(found).__name__}; expected a network")
        else:
            reason = argument_mismatch(found, *self._arguments)
        if reason:
            given = f"does not take args={self.args}" if self.args is not None else "needs args=…"
            raise UsageError(f"model {self.name!r}: build={self.build} {given} ({reason}); write args=3;width=16")
        return found, module

    @property
    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return ([], {}) if self.args is None else parse_arguments(self.args)

    @functools.cached_property
    def _own_digest(self) -> str:
        if self._program is not None:
            self._built()  # what cannot be read is refused before any work
            return sha256_file(self._program)
        try:
            first, second = (state_digest(self._built()) for _ in range(2))
        except WeightsError as error:
            raise WeightsError(f"model {self.name!r}: build={self.build}: {error}") from error
        if first != second:
            raise WeightsError(
                f"model {self.name!r}: build={self.build} makes other weights each time; give weights=FILE, or let it "
                "read or seed them"
            )
        return first

    def _built(self) -> nn.Module:
        if self._program is not None:
            return self._loaded(self._program)
        made = self._found[0]
        if not isinstance(made, nn.Module):
            placed, named = self._arguments
            try:
                made = made(*placed, **named)
            except UsageError:
                raise
            except (Exception, SystemExit) as error:
                given = "" if self.args is None else f" with args={self.args}"
                raise UsageError(
                    f"model {self.name!r}: build={self.build}{given} raises {_in_a_line(error)}; mend that"
                ) from error
        if not isinstance(made, nn.Module):
            raise UsageError(
                f"model {self.name!r}: build={self.build} returns a {type(made).__name__}; expected a torch.nn.Module"
            )
        return made

    def _loaded(self, file: Path) -> nn.Module:
        """The ScriptModule of a file: TorchScript's own reader runs no Python."""
        if not file.is_file():
            raise UsageError(f"model {self.name!r}: build={self.build}: no such file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that TorchScript is deprecated
                network: nn.Module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        except Exception as error:
            raise UsageError(
                f"model {self.name!r}: build={self.build} is no file of torch.jit.save ({_in_a_line(error)}); give "
                "FILE.py:NAME, and the file as weights= where it is a state dict"
            ) from error
        return network

    @property
    def _program(self) -> Path | None:
        """The file of a ScriptModule, where that is what is to be built."""
        path = Path(self.build).expanduser()
        return path if path.suffix in _PROGRAMS else None

    @property
    def _path(self) -> Path | None:
        return None if self.weights is None else Path(self.weights).expanduser()

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if self.mean is None or self.std is None:
            return None
        return channel_values("mean", self.mean), channel_values("std", self.std, positive=True)


def _in_a_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
