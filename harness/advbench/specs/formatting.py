"""Formatting components as specs: full ones for records and keys, short ones for tables."""

from __future__ import annotations

from advbench.api.component import Component
from advbench.api.parameters import Value, format_value
from advbench.api.spec_text import SEPARATOR, quote, term_text
from advbench.specs.chain import Chain

__all__ = ["full_spec", "short_spec"]


def full_spec(component: Component | Chain) -> str:
    """The spec with every parameter, including defaults. Parsing it gives the same component."""
    if isinstance(component, Chain):
        return "+".join(full_spec(part) for part in component.parts)
    return term_text(component.name, component.values())


def short_spec(component: Component | Chain) -> str:
    """The spec with only the parameters that differ from their defaults."""
    if isinstance(component, Chain):
        return "+".join(short_spec(part) for part in component.parts)
    values = component.values()
    declared = type(component).parameters({key: _write(value) for key, value in values.items()})
    defaults = {parameter.name: parameter.default for parameter in declared if not parameter.required}
    shown = {key: value for key, value in values.items() if key not in defaults or defaults[key] != value}
    for key, parts in component.nested().items():
        if key in shown:
            shown[key] = SEPARATOR.join(map(short_spec, parts))
    return term_text(component.name, shown)


def _write(value: Value) -> str:
    return quote(value) if isinstance(value, str) else format_value(value)
