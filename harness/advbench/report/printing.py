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
    """Prints every leaderboard.

    Args:
        console: Where to.
        results: All results.
        form: ``table`` fits them to the console; ``plain`` and ``markdown`` are the same anywhere.
    """
    if form == "table":
        print_results(console, results)
    else:
        text = plain_text(results) if form == "plain" else Markdown().render(results)
        console.file.write(text)
