"""Leaderboards on stdout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from advbench.report.markdown import Markdown
from advbench.report.plain import plain_text
from advbench.report.terminal import print_results

__all__ = ["print_leaderboards"]


def print_leaderboards(console: Console, results: Mapping[str, Any], form: str) -> None:
    """Prints all leaderboards.

    Args:
        console: The console.
        results: The results.
        form: ``table`` fits the tables to the console; the output of ``plain`` and ``markdown`` does not depend on it.
    """
    if form == "table":
        print_results(console, results)
    else:
        text = plain_text(results) if form == "plain" else Markdown().render(results)
        console.file.write(text)
