"""Follows a page literally: files are written and commands run, in the order in which the page has them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks", "follow"]

_FENCE = re.compile(
    r'^```(?P<language>\w+)?(?: title="(?P<title>[^"]+)")?\n(?P<content>.*?)^```$', re.DOTALL | re.MULTILINE
)
_NAMED = re.compile(r"# (?P<title>\S+\.py)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: a file where it has a title, else commands where its language is bash."""

    language: str
    title: str
    content: str


def blocks(page: Path) -> Iterator[Block]:
    for found in _FENCE.finditer(page.read_text("utf-8")):
        named = _NAMED.match(found["content"])
        title = found["title"] or (named["title"] if named else "")
        yield Block(found["language"] or "", title, found["content"])


def follow(page: Path, folder: Path, environment: Mapping[str, str], *, skip: tuple[str, ...] = ()) -> list[str]:
    """Follows a page in a folder and returns what its commands printed.

    Args:
        page: The page.
        folder: An empty folder; commands that change it, change it for those that follow.
        environment: Variables beside those of this process.
        skip: Blocks of commands that are left out, to the letter.
    """
    printed = []
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.content)
        elif block.language == "bash" and block.content.strip() not in skip:
            made = subprocess.run(
                ["bash", "-eo", "pipefail", "-c", block.content],
                cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert made.returncode == 0, f"{block.content}\n{made.stdout}\n{made.stderr}"
            printed.append(made.stdout)
    return printed
