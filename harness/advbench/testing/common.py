"""Contract rules of all kinds of components."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from typing import Any, get_args

import torch

from advbench.api import Access, Component
from advbench.specs import full_spec, parse_chain
from advbench.testing.finding import Rule, RuleSkipped, contract_of, expect

__all__ = ["ACCESS", "common_rules", "cuda"]

ACCESS = f"one of {', '.join(map(repr, get_args(Access)))}"
"""What declarations of access are expected to be."""


def common_rules(component: Component) -> Iterator[Rule]:
    """Yields the rules on specs, immutability, pickling and descriptions."""
    where = contract_of(component, "")

    def round_trip() -> None:
        text = full_spec(component)
        term = parse_chain(text)[0]
        given: dict[str, Any] = {key: values[0] for key, values in term.items}
        again = type(component).from_text(given | component.nested())
        expect(again == component, f"the spec {text!r} to restore the component", f"{again!r}")

    def frozen() -> None:
        for field in fields(component):
            try:
                setattr(component, field.name, getattr(component, field.name))
            except FrozenInstanceError:
                continue
            expect(False, "@dataclass(frozen=True)", f"{field.name} can be set")

    def picklable() -> None:
        again = pickle.loads(pickle.dumps(component))
        expect(again == component, "pickling to give an equal component", f"{again!r}")

    def described() -> None:
        expect(bool(type(component).summary()), "a docstring, whose first line is shown in lists", "none")
        for parameter in type(component).parameters({}):
            expect(bool(parameter.help), f"help for the parameter {parameter.name}, by param(…, help=…)", "none")

    yield Rule("parameters round-trip", where, round_trip, "a spec that restores the component")
    yield Rule("frozen", where, frozen)
    yield Rule("picklable", where, picklable, "a component that can be pickled, for worker processes")
    yield Rule("described", where, described)


def cuda() -> torch.device:
    """Returns a CUDA device.

    Raises:
        RuleSkipped: There is none.
    """
    if not torch.cuda.is_available():
        raise RuleSkipped("torch finds no CUDA device")
    return torch.device("cuda")
