"""Checks of suites that plugins register: they can be read, and all that they name can be built."""

from __future__ import annotations

from advbench.discovery.registry import Registry
from advbench.errors import UsageError
from advbench.specs import AXES, load_suite, select, select_chains
from advbench.testing.finding import Finding

__all__ = ["check_suite"]

_CONTRACT = "docs/suites.md"


def check_suite(registry: Registry, name: str) -> list[Finding]:
    """Checks a suite that a plugin registers.

    Args:
        registry: The registered components and suites.
        name: The suite.

    Returns:
        A finding for each rule.
    """
    try:
        suite = load_suite(name, registry.studies)
    except UsageError as error:
        return [Finding("the suite can be read", False, "a valid TOML file", str(error), _CONTRACT)]
    findings = [Finding("the suite can be read", True)]
    described = bool(suite.description.strip())
    findings.append(Finding("it has a description", described, "a line for people", "none", _CONTRACT))
    for axis in AXES[:4]:
        rule = f"its {axis} can be built"
        try:
            for part in suite.products:
                specs = getattr(part, axis)
                (select_chains(registry, specs) if axis == "defenses" else select(registry, axis, specs))
        except UsageError as error:
            findings.append(Finding(rule, False, "specs of registered components", str(error), _CONTRACT))
        else:
            findings.append(Finding(rule, True))
    return findings
