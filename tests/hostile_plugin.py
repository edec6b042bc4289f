"""Components each of which changes the process for all others, in the way that its parameter says."""

from __future__ import annotations

import builtins
import dataclasses
import functools
import gc
import locale
import math
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import advbench.api
from advbench.api import Attack, Budget, Dataset, Defense, LabelledImages, Model, hookimpl, param

SHAPE = (1, 4, 4)
functional = torch.nn.functional
kept: list[Any] = []


def zeros(*given: Any, **_: Any) -> torch.Tensor:
    return torch.zeros(len(given[0]), dtype=torch.int64)


class Mode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def flipped(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: -function(*args, **kwargs)


def limit(name: str, least: int) -> Callable[[], None]:
    def lower() -> None:
        number = getattr(resource, name)
        soft, hard = resource.getrlimit(number)
        resource.setrlimit(number, (least if soft < 0 else min(least, soft), hard))

    return lower


def replace(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


def later() -> None:
    """Replaces a function once the component is done."""

    def wait() -> None:
        time.sleep(0.3)
        torch.Tensor.argmax = zeros

    threading.Thread(target=wait, daemon=True).start()


def kernel() -> None:
    kept.append(torch.library.Library("aten", "IMPL"))
    kept[-1].impl("relu6", lambda images: images, "CPU")


def scores() -> Any:
    return sys.modules["advbench.evaluation.work.score"]


def toy(name: str) -> Any:
    module = next(module for name, module in sys.modules.items() if name.startswith("_advbench_file_toy_plugin"))
    return getattr(module, name)


def mocked() -> None:
    from unittest import mock

    with mock.patch.object(functional, "relu", zeros), mock.patch.object(torch.Tensor, "argmax", zeros):
        functional.relu(torch.ones(1))


class Descriptor:
    def __get__(self, tensor, kind=None):
        return lambda *given: torch.zeros(len(tensor), dtype=torch.int64)


def identity(input, inplace=False):
    return input


def worse() -> None:
    """Lets PIL write all JPEG files by the code of another format."""
    Image.preinit()
    Image.register_save("JPEG", Image.SAVE["BMP"])


def own_format() -> None:
    Image.init()
    Image.register_save("OF-MINE", Image.SAVE["BMP"])


class Numbers(torch.utils.data.Dataset[int]):
    def __len__(self):
        return 4

    def __getitem__(self, place):
        return place


def loader() -> None:
    """Reads a dataset by a process that torch starts."""
    assert len(list(torch.utils.data.DataLoader(Numbers(), num_workers=1))) == 4


HOW: dict[str, tuple[Callable[[], object], str]] = {
    "argmax": (replace(torch.Tensor, "argmax", zeros), "torch.Tensor.argmax"),
    "partial": (replace(torch.Tensor, "argmax", functools.partialmethod(torch.Tensor.argmin)), "torch.Tensor.argmax"),
    "descriptor": (replace(torch.Tensor, "argmax", Descriptor()), "torch.Tensor.argmax"),
    "code": (
        lambda: setattr(functional.relu, "__code__", identity.__code__),
        "torch.nn.functional.relu",
    ),
    "defaults": (
        lambda: setattr(functional.mse_loss, "__defaults__", (None, None, "sum", None)),
        "torch.nn.functional.mse_loss",
    ),
    "float32": (replace(torch, "float32", torch.float64), "torch.float32"),
    "pi": (replace(math, "pi", 3.0), "math.pi"),
    "fields": (replace(dataclasses, "fields", lambda _: ()), "dataclasses.fields"),
    "jpeg": (worse, "the image formats of PIL (PIL.Image.SAVE['JPEG'])"),
    "argmin": (replace(torch.Tensor, "argmax", torch.Tensor.argmin), "torch.Tensor.argmax"),
    "cross-entropy": (
        replace(functional, "cross_entropy", flipped(functional.cross_entropy)),
        "torch.nn.functional.cross_entropy",
    ),
    "softmax": (replace(functional, "softmax", zeros), "torch.nn.functional.softmax"),
    "conv2d": (replace(functional, "conv2d", torch.conv1d), "torch.nn.functional.conv2d"),
    "relu": (replace(functional, "relu", torch.no_grad()(functional.relu)), "torch.nn.functional.relu"),
    "linear": (replace(torch.nn.Linear, "forward", lambda self, x: x), "Linear.forward"),
    "call": (replace(torch.nn.Module, "__call__", lambda self, x: x), "Module.__call__"),
    "rand": (replace(torch, "rand", torch.zeros), "torch.rand"),
    "grad": (replace(torch.autograd, "grad", flipped(torch.autograd.grad)), "torch.autograd.grad"),
    "clip": (replace(np, "clip", np.minimum), "numpy.clip"),
    "sum": (replace(builtins, "sum", lambda *_: 0), "builtins.sum"),
    "len": (replace(builtins, "len", lambda *_: 1), "builtins.len"),
    "round": (replace(builtins, "round", lambda *_: 0), "builtins.round"),
    "random": (replace(random, "random", lambda: 0.0), "random.random"),
    "sqrt": (replace(math, "sqrt", lambda _: 1.0), "math.sqrt"),
    "core": (lambda: setattr(scores(), "_bits", lambda *_: []), "advbench.evaluation.work.score._bits"),
    "api": (replace(advbench.api.SampleRandom, "normal", lambda *_: 0), "SampleRandom.normal"),
    "another": (lambda: setattr(toy("Dim"), "apply", lambda self, images, rng: images), "Dim.apply"),
    "recursion": (lambda: sys.setrecursionlimit(300), "the recursion limit (to 300)"),
    "files": (limit("RLIMIT_NOFILE", 8), "RLIMIT_NOFILE to 8"),
    "memory": (limit("RLIMIT_AS", 2**40), "RLIMIT_AS"),
    "stdin": (lambda: os.close(0), "the streams of the process (stdin closed)"),
    "stderr": (lambda: os.close(2), "stderr closed"),
    "fork": (os.fork, "the number of processes (by os.fork)"),
    "dtype": (lambda: torch.set_default_dtype(torch.float64), "torch's default dtype (to torch.float64)"),
    "threads": (lambda: torch.set_num_threads(7), "torch's number of threads (to 7)"),
    "denormals": (lambda: torch.set_flush_denormal(True), "the flushing of denormal numbers (to True)"),
    "hook": (
        lambda: torch.nn.modules.module.register_module_forward_hook(lambda module, given, answer: -answer),
        "global module hooks",
    ),
    "mode": (lambda: Mode().__enter__(), "torch's function modes"),
    "dispatch": (lambda: Dispatch().__enter__(), "torch's dispatch modes"),
    "no-grad": (lambda: torch.set_grad_enabled(False) and None, "torch's gradient mode"),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True), "anomaly detection"),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), "autocast"),
    "mkldnn": (lambda: setattr(torch.backends.mkldnn, "enabled", False), "backends.mkldnn.enabled to False"),
    "kernel": (kernel, "operators of torch (aten/relu6/CPU)"),
    "umask": (lambda: os.umask(0o777), "the mode of new files (umask to 777)"),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), "the locale"),
    "environment": (lambda: os.environ.update(OMP_NUM_THREADS="9"), "OMP_NUM_THREADS to 9"),
    "folder": (lambda: os.chdir("/"), "the working directory (to /)"),
    "garbage": (gc.disable, "garbage collection (to False)"),
    "warnings": (lambda: warnings.simplefilter("error"), "the warning filters"),
    "floats": (lambda: np.seterr(all="raise"), "numpy's handling of floating-point errors"),
    "path": (sys.path.clear, "sys.path (without "),
    "modules": (lambda: sys.modules.update({"numpy": math}), "sys.modules['numpy']"),
    "signal": (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), "the handler of SIGTERM"),
    "timer": (lambda: signal.setitimer(signal.ITIMER_REAL, 1000), "the timers that send signals"),
}
"""What each does, and what messages say of it."""

LAYERS: dict[str, Callable[[torch.nn.Module], object]] = {
    "layer-hook": lambda layer: layer.register_forward_hook(lambda module, given, answer: -answer),
    "layer-method": lambda layer: setattr(layer, "forward", lambda images: images.flatten(1)[:, :3]),
}
"""What an attack does to each layer of the network that it is given."""

FREE: dict[str, Callable[[], object]] = {
    "seeds": lambda: (torch.manual_seed(1), np.random.seed(2), random.seed(3)),
    "later": later,
    "loader": loader,
    "variable": lambda: os.environ.update(HOSTILE_SCALE="0"),
    "mock": mocked,
    "deep": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1000),
    "format": own_format,
    "added": lambda: (setattr(torch, "of_mine", zeros), setattr(torch.nn.functional, "of_mine", zeros)),
}
"""What changes no number of others, or only after the component has been asked."""


def change(how: str) -> None:
    if how in FREE:
        FREE[how]()
    elif how:
        HOW[how][0]()


@dataclass(frozen=True)
class Hostile(Defense):
    """Changes the process when it is applied."""

    name = "hostile"
    how: str = param("argmax", help="what it changes")

    def apply(self, images, rng):
        change(self.how)
        return images * 0.9


@dataclass(frozen=True)
class Drawing(Defense):
    """Draws from the global generators, and reads a variable that nobody sets but hostile:how=variable."""

    name = "drawing"
    self_contained = True  # for this test: what draws from global generators is asked, and never used again

    def apply(self, images, rng):
        images = images * float(os.environ.get("HOSTILE_SCALE", "1"))
        return images + 0.1 * torch.rand(images.shape) + 0.1 * float(np.random.rand()) + 0.1 * random.random()


@dataclass(frozen=True)
class HostileAttack(Attack):
    """Changes the process when it is run, or asked for its budget."""

    name = "hostile-attack"
    how: str = param("argmax", help="what it changes")
    asked: bool = param(False, help="whether it does so when it is asked for its budget")

    def budget(self):
        if self.asked:
            change(self.how)
        return Budget("linf", 0.1)

    def run(self, model, images, labels, rng):
        model(images)
        if self.how in LAYERS:
            for layer in model.modules():
                LAYERS[self.how](layer)
        elif not self.asked:
            change(self.how)
        return images.clone()


class Network(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, images):
        change(self.how)
        return images.flatten(1)[:, :3]


@dataclass(frozen=True)
class HostileModel(Model):
    """Changes the process when it is loaded, asked for its digest, or called."""

    name = "hostile-model"
    image_shape = SHAPE
    num_classes = 3
    load_how: str = param("", help="what load() changes")
    digest_how: str = param("", help="what weights_digest() changes")
    call_how: str = param("", help="what the network changes")

    def load(self):
        change(self.load_how)
        return Network(self.call_how)

    def weights_digest(self):
        change(self.digest_how)
        return "hostile"


@dataclass(frozen=True)
class HostileDataset(Dataset):
    """Changes the process when it is loaded."""

    name = "hostile-data"
    image_shape = SHAPE
    num_classes = 3
    how: str = param("argmax", help="what it changes")

    def ids(self):
        return range(6)

    def digest(self, sources):
        return "hostile"

    def load(self, sources):
        change(self.how)
        images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
        return LabelledImages(images, torch.zeros(6, dtype=torch.int64), torch.arange(6))


if os.environ.get("HOSTILE_IMPORT"):
    change(os.environ["HOSTILE_IMPORT"])


@hookimpl
def register_defenses(register):
    register(Hostile)
    register(Drawing)


@hookimpl
def register_attacks(register):
    register(HostileAttack)


@hookimpl
def register_models(register):
    register(HostileModel)


@hookimpl
def register_datasets(register):
    register(HostileDataset)
