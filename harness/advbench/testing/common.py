"""What all components have to keep, whatever their kind."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields

import torch

from advbench.api import Component
from advbench.specs import full_spec, parse_chain
from advbench.testing.finding import NotAsked, Rule, expect, origin

__all__ = ["common_rules", "cuda"]


def common_rules(component: Component) -> Iterator[Rule]:
    """Parameters that round-trip, no change after construction, pickling, a description."""
    where = origin(component, "")

    def round_trip() -> None:
        text = full_spec(component)
        term = parse_chain(text)[0]
        again = type(component).from_text({key: values[0] for key, values in term.items})
        expect(again == component, f"the spec {text!r} to give the component back", f"{again!r}")

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
        expect(bool(type(component).summary()), "a docstring, whose first line lists show", "none")
        for parameter in type(component).parameters({}):
            expect(bool(parameter.help), f"help for the parameter {parameter.name}, by param(…, help=…)", "none")

    yield Rule("parameters round-trip", where, round_trip, "a spec that gives the component back")
    yield Rule("frozen", where, frozen)
    yield Rule("picklable", where, picklable, "a component that pickle takes, for worker processes")
    yield Rule("described", where, described)


def cuda() -> torch.device:
    """A CUDA device.

    Raises:
        NotAsked: There is none.
    """
    if not torch.cuda.is_available():
        raise NotAsked("torch sees no CUDA device here")
    return torch.device("cuda")
