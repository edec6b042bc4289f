"""Rules of contracts, and the findings of checking them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from advbench.api import Component
from advbench.errors import ContractError, describe, location
from advbench.process.state import isolated_process
from advbench.process.stdout import stdout_to_stderr

__all__ = ["Finding", "Rule", "RuleSkipped", "RuleViolated", "add_hint", "contract_of", "examine", "expect"]

_HINT = "_advbench_hint"


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of checking one rule on a component.

    Attributes:
        rule: The rule, in a few words.
        passed: Whether the component keeps the rule; None if it could not be checked, for the reason in ``seen``.
        expected: What the contract requires; empty if the rule is kept.
        seen: What was observed instead; empty if the rule is kept.
        contract: The API method that documents the rule.
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


class RuleViolated(Exception):  # noqa: N818  it reports on a component, not an error of the kit
    """A component violates a rule."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


class RuleSkipped(Exception):  # noqa: N818
    """A rule cannot be checked here; the message gives the reason."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule of a contract.

    Attributes:
        name: The rule, in a few words.
        contract: The API method that documents the rule.
        check: Raises :class:`RuleViolated`, or any exception of the harness's own checks.
        expected: What the contract requires, if ``check`` relies on exceptions of the harness or the component.
    """

    name: str
    contract: str
    check: Callable[[], object]
    expected: str = "no exception"


def expect(holds: bool, expected: str, seen: str) -> None:
    """Raises :class:`RuleViolated` unless ``holds``."""
    if not holds:
        raise RuleViolated(expected, seen)


def add_hint(error: BaseException, hint: str) -> None:
    """Adds to an exception what :func:`examine` reports behind its message."""
    vars(error)[_HINT] = hint


def examine(rules: Iterator[Rule]) -> Iterator[Finding]:
    """Checks each rule; any exception of the component violates the rule.

    A cause that breaks several rules, such as an exception in a method that they all call, is reported for the first.
    """
    first: dict[tuple[str, str], str] = {}

    def broken(rule: Rule, expected: str, seen: str, cause: tuple[str, str]) -> Finding:
        if cause in first:
            return Finding(rule.name, None, seen=f"not checked, for the cause reported under {first[cause]!r}")
        first[cause] = rule.name
        return Finding(rule.name, False, expected, seen, rule.contract)

    for rule in rules:
        try:
            with stdout_to_stderr(), isolated_process() as process:
                rule.check()
                changed = process.restore()
            expect(not changed, "unchanged settings of the process", f"it changed {' and '.join(changed)}")
        except RuleSkipped as reason:  # noqa: PERF203  some dozen rules
            yield Finding(rule.name, None, seen=str(reason))
        except RuleViolated as error:
            yield broken(rule, error.expected, error.seen, (error.expected, error.seen))
        except ContractError as error:
            yield broken(rule, rule.expected, _with_hint(error, str(error)), ("", str(error)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            seen = describe(error)
            yield broken(rule, rule.expected, _with_hint(error, seen), (type(error).__name__, location(error) or seen))
        else:
            yield Finding(rule.name, True)


def _with_hint(error: BaseException, seen: str) -> str:
    hint = vars(error).get(_HINT)
    return f"{seen}, {hint}" if hint else seen


def contract_of(component: Component, method: str) -> str:
    """Returns the API method that documents the contract of a component's method."""
    bases = [base for base in type(component).__mro__ if base.__module__.startswith("advbench.api.")]
    kinds = [base for base in bases if not base.__name__.startswith("_")]
    base = next((kind for kind in kinds if method in vars(kind)), kinds[0])
    return f"advbench.api.{base.__name__}.{method}" if method else f"advbench.api.{base.__name__}"
