"""The conformance kit: checks that a component keeps the contract that the harness relies on.

A plugin's test in one line::

    from advbench.testing import assert_conforms

    def test_it_keeps_the_contract():
        assert_conforms(MyDefense())

``advbench check NAME`` runs the same checks on the command line.
"""

from __future__ import annotations

from advbench.testing.finding import Finding
from advbench.testing.kit import assert_conforms, check, resolve_all
from advbench.testing.suites import check_suite

__all__ = ["Finding", "assert_conforms", "check", "check_suite", "resolve_all"]
