"""Live objects that may behave differently have different digests, and equal objects have equal digests."""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import toy_plugin

from advbench.api import Defense
from advbench.errors import UsageError
from advbench.live.fingerprint import fingerprint

FACTOR = 2.0


@dataclasses.dataclass(frozen=True)
class Setting:
    factor: float = 1.0


class Kind(enum.Enum):
    ONE = 1
    TWO = 2


class Scaler:
    unit = 1

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def scale(self, images: Any) -> Any:
        return images * self.factor * self.unit


def scaled(images: Any, factor: float = 1.0) -> Any:
    return images * factor


def by_a_global(images: Any) -> Any:
    return by_another(images)


def by_another(images: Any) -> Any:
    return images * FACTOR


def closing_over(value: Any) -> Callable[[Any], Any]:
    def outer(images: Any) -> Any:
        def inner(images: Any) -> Any:
            return images * value

        return inner(images)

    return outer


def defense_of(value: float) -> type[Defense]:
    class Mine(Defense):
        name = "mine"

        def apply(self, images: Any, rng: Any) -> Any:
            return images * value

    return Mine


def compiled(source: str) -> Any:
    """The function ``f`` that a source defines."""
    space: dict[str, Any] = {"np": np, "torch": torch, "__name__": __name__}
    exec(source, space)
    return space["f"]


SOURCES = {
    "constants": ("f = lambda x: x * 1.0", "f = lambda x: x * 0.0"),
    "names": ("f = lambda x: np.sqrt(x)", "f = lambda x: np.square(x)"),
    "methods": ("f = lambda x: x.floor()", "f = lambda x: x.round()"),
    "texts": ("f = lambda x: getattr(x, 'sin')()", "f = lambda x: getattr(x, 'cos')()"),
    "defaults": ("f = lambda x, k=1: x * k", "f = lambda x, k=2: x * k"),
    "keyword defaults": ("f = lambda x, *, k=1: x * k", "f = lambda x, *, k=2: x * k"),
    "operators": ("f = lambda x: x + 1", "f = lambda x: x - 1"),
    "slices": ("f = lambda x: x[:, 1:]", "f = lambda x: x[:, 2:]"),
    "sets": ("f = lambda x: x in {1, 2}", "f = lambda x: x in {1, 3}"),
    "comprehensions": ("f = lambda x: [i * 1 for i in x]", "f = lambda x: [i * 2 for i in x]"),
    "generators": ("f = lambda x: sum(i * 1 for i in x)", "f = lambda x: sum(i * 2 for i in x)"),
    "nested lambdas": ("f = lambda x: (lambda y: y * 1)(x)", "f = lambda x: (lambda y: y * 2)(x)"),
    "nested functions": (
        "def f(x):\n    def g(y):\n        return y * 1\n    return g(x)",
        "def f(x):\n    def g(y):\n        return y * 2\n    return g(x)",
    ),
    "class bodies": (
        "def f(x):\n    class C:\n        k = 1\n    return x * C.k",
        "def f(x):\n    class C:\n        k = 2\n    return x * C.k",
    ),
    "handlers": (
        "def f(x):\n    try:\n        return 1 / x\n    except ZeroDivisionError:\n        return x",
        "def f(x):\n    try:\n        return 1 / x\n    except ArithmeticError:\n        return x",
    ),
}
THINGS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "closures": lambda: (closing_over(1.0), closing_over(2.0)),
    "lists": lambda: (closing_over([1]), closing_over([2])),
    "shared lists": lambda: (closing_over([[1], [1]]), closing_over([[1], [2]])),
    "tensors": lambda: (closing_over(torch.ones(2)), closing_over(torch.zeros(2))),
    "arrays": lambda: (closing_over(np.ones(2)), closing_over(np.ones(2, dtype=np.float32))),
    "dataclasses": lambda: (closing_over(Setting(1.0)), closing_over(Setting(2.0))),
    "enums": lambda: (closing_over(Kind.ONE), closing_over(Kind.TWO)),
    "paths": lambda: (closing_over(Path("a")), closing_over(Path("b"))),
    "functions": lambda: (closing_over(lambda x: x), closing_over(lambda x: -x)),
    "partials": lambda: (functools.partial(scaled, factor=1.0), functools.partial(scaled, factor=2.0)),
    "positional partials": lambda: (functools.partial(closing_over(1), 1), functools.partial(closing_over(1), 2)),
    "bound methods": lambda: (Scaler(1.0).scale, Scaler(2.0).scale),
    "methods in C": lambda: (torch.ones(2).mul, torch.zeros(2).mul),
    "functions in C": lambda: (torch.sqrt, torch.square),
    "ufuncs": lambda: (np.sqrt, np.square),
    "classes": lambda: (defense_of(1.0), defense_of(2.0)),
}


def digest_of(thing: Any) -> str:
    result = fingerprint("thing", thing)
    assert not result.unknown
    return result.digest


@pytest.mark.parametrize("kind", THINGS)
def test_the_digest_covers_the_values_of_an_object(kind: str) -> None:
    one, other = THINGS[kind]()
    again, _ = THINGS[kind]()
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(one) == digest_of(again)


@pytest.mark.parametrize("kind", SOURCES)
def test_the_digest_covers_code(kind: str) -> None:
    one, other = (compiled(source) for source in SOURCES[kind])
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(compiled(SOURCES[kind][0]))


def test_the_digest_covers_globals_and_attributes_that_code_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("tests.made_up")
    module.__file__ = __file__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(toy_plugin.__dict__, "made_up", module)
    monkeypatch.setitem(module.__dict__, "VALUE", 1)

    def through_modules(images: Any) -> Any:
        return images * toy_plugin.made_up.VALUE * toy_plugin.SHAPE[0]  # type: ignore[attr-defined]

    scaler = Scaler(1.0)
    for function, holder, name in (
        (by_a_global, globals(), "FACTOR"),
        (through_modules, toy_plugin.__dict__, "SHAPE"),
        (through_modules, module.__dict__, "VALUE"),
    ):
        before = digest_of(function)
        monkeypatch.setitem(holder, name, (3.0,))
        assert digest_of(function) != before, name
    before = digest_of(scaler.scale)
    monkeypatch.setattr(Scaler, "unit", 2)
    assert digest_of(scaler.scale) != before


def test_objects_that_contain_themselves_have_a_digest() -> None:
    endless: list[Any] = [1]
    endless.append(endless)

    def calls_itself(x: Any) -> Any:
        return calls_itself(x)

    assert len({digest_of(closing_over(endless)), digest_of(calls_itself)}) == 2


def test_different_lambdas_have_different_digests() -> None:
    sources = [f"f = lambda x: x {sign} {value}" for sign, value in itertools.product("+-*/", (1, 2, 1.0, "x"))]
    assert len({digest_of(compiled(source)) for source in sources}) == len(sources)


class Items(list):  # type: ignore[type-arg]
    """A list with attributes."""


class Entries(dict):  # type: ignore[type-arg]
    """A dictionary with attributes."""


class Holder:
    """Holds a network."""

    def __init__(self, part: torch.nn.Module) -> None:
        self.part = part


def overlooked(kind: str, number: float) -> object:
    """An object that differs by a number in a part that a digest can easily miss."""
    if kind == "lru_cache":
        return functools.lru_cache(lambda: number)
    if kind in ("list", "dict"):
        container = Items([1]) if kind == "list" else Entries(a=1)
        container.number = number  # type: ignore[union-attr]
        return container
    if kind == "training":
        return Holder(torch.nn.Dropout(0.5).train(bool(number)))
    values = torch.tensor([[1.0, number], [0.0, 2.0]])
    if kind == "sparse":
        return values.to_sparse()
    if kind == "csr":
        return values.to_sparse_csr()
    if kind == "nested":
        return torch.nested.nested_tensor([values, values[:1]])
    return torch.complex(values, values + 1).conj()


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors).*:UserWarning")
@pytest.mark.parametrize("kind", ["lru_cache", "list", "dict", "training", "sparse", "csr", "nested", "conjugate"])
def test_the_digest_covers_parts_that_are_easily_missed(kind: str) -> None:
    one, same, other = (fingerprint("thing", overlooked(kind, number)) for number in (0.0, 0.0, 1.0))
    assert one.digest == same.digest
    assert one.digest != other.digest


def test_a_lazy_layer_without_a_shape_is_an_error() -> None:
    with pytest.raises(UsageError, match="belongs to a lazy layer that has no shape yet"):
        fingerprint("net", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3)))


def test_the_mode_of_the_live_network_itself_does_not_count() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.5))
    before = fingerprint("net", network).digest
    assert fingerprint("net", network.eval()).digest == before
