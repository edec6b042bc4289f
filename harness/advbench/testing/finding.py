"""What the conformance kit finds of a component."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from advbench.api import Component
from advbench.errors import ContractError, describe
from advbench.process.state import isolated_process
from advbench.process.stdout import stdout_to_stderr

__all__ = ["Broken", "Finding", "Rule", "examine", "expect"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One rule held against a component.

    Attributes:
        rule: The rule, in a few words.
        passed: Whether the component keeps it; None where it could not be asked, for the reason in ``seen``.
        expected: What the contract asks for; empty where the rule is kept.
        seen: What was seen instead; empty where the rule is kept.
        contract: Where the contract is written.
    """

    rule: str
    passed: bool | None
    expected: str = ""
    seen: str = ""
    contract: str = ""

    def __str__(self) -> str:
        if self.passed:
            return f"ok    {self.rule}"
        if self.passed is None:
            return f"skip  {self.rule}: {self.seen}"
        return f"FAIL  {self.rule}: expected {self.expected}; seen: {self.seen} (contract: {self.contract})"


class Broken(Exception):  # noqa: N818  it says what a component did, not that the kit failed
    """A rule is broken: what was expected, and what was seen."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


class NotAsked(Exception):  # noqa: N818
    """A rule cannot be asked here, for this reason."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One part of a contract.

    Attributes:
        name: The rule, in a few words.
        contract: Where it is written.
        check: Raises :class:`Broken` or what the harness's own checks raise.
        expected: What the contract asks for, where ``check`` lets the harness's own checks, or the component, raise.
    """

    name: str
    contract: str
    check: Callable[[], object]
    expected: str = "no exception"


def expect(holds: bool, expected: str, seen: str) -> None:
    """Raises :class:`Broken` unless it holds."""
    if not holds:
        raise Broken(expected, seen)


def examine(rules: Iterator[Rule]) -> Iterator[Finding]:
    """Holds each rule against its component; whatever the component raises breaks the rule."""
    for rule in rules:
        try:
            with stdout_to_stderr(), isolated_process() as process:
                rule.check()
                changed = process.restore()
            expect(not changed, "the settings of the process to stay", f"it changed {' and '.join(changed)}")
        except NotAsked as reason:  # noqa: PERF203  some dozen rules
            yield Finding(rule.name, None, seen=str(reason))
        except Broken as broken:
            yield Finding(rule.name, False, broken.expected, broken.seen, rule.contract)
        except ContractError as error:
            yield Finding(rule.name, False, rule.expected, str(error), rule.contract)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            yield Finding(rule.name, False, rule.expected, describe(error), rule.contract)
        else:
            yield Finding(rule.name, True)


def origin(component: Component, method: str) -> str:
    """Where the contract of a component's method is written."""
    kinds = [base for base in type(component).__mro__ if base.__module__.startswith("advbench.api.")]
    base = next((kind for kind in kinds if method in vars(kind)), kinds[0])
    return f"advbench.api.{base.__name__}.{method}" if method else f"advbench.api.{base.__name__}"
