"""Exports: files whose suffix picks a reporter; Markdown files are updated between their markers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.api import Reporter
from advbench.api.files import write_atomically
from advbench.discovery import Registry
from advbench.errors import UsageError

__all__ = ["Export", "plan_exports", "write_export"]

_BEGIN = re.compile(r"^[ \t]*<!-- advbench:begin ([\w.-]+) -->[ \t]*$", re.MULTILINE)
_END = re.compile(r"^[ \t]*<!-- advbench:end ([\w.-]+) -->[ \t]*$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Export:
    """One file to write.

    Attributes:
        path: Where.
        reporter: What renders it.
        block: For Markdown, the name between the markers; empty for files that are written whole.
    """

    path: Path
    reporter: Reporter
    block: str = ""


def plan_exports(registry: Registry, targets: Sequence[str], name: str) -> list[Export]:
    """Checks every ``--export FILE`` before any work.

    Args:
        registry: Where the reporters are.
        targets: The files; ``FILE.md#NAME`` picks a block of a Markdown file by its name.
        name: Name of the run, which new Markdown files and files of several blocks are updated under.

    Raises:
        UsageError: The folder is missing, no reporter has the suffix, or a Markdown file of somebody's own
            has no block to update.
    """
    reporters = {registered.component.suffix: registered for registered in registry.all("reporters")}  # type: ignore[attr-defined]
    exports = []
    for target in targets:
        file, _, block = target.partition("#")
        path = Path(file)
        if not path.parent.is_dir():
            raise UsageError(f"--export {target}: the folder {path.parent} does not exist; make it first")
        if path.is_dir():
            raise UsageError(f"--export {target}: is a folder; give a file")
        registered = reporters.get(path.suffix)
        if registered is None:
            there = ", ".join(sorted(reporters))
            raise UsageError(f"--export {target}: no report has the suffix {path.suffix!r}; there are: {there}")
        reporter = registered.component()
        assert isinstance(reporter, Reporter)
        if path.suffix == ".md":
            exports.append(Export(path, reporter, _pick_block(target, path, block, name)))
        elif block:
            raise UsageError(f"--export {target}: only Markdown files have named blocks")
        else:
            exports.append(Export(path, reporter))
    return exports


def write_export(export: Export, results: Mapping[str, Any]) -> None:
    """Renders and writes one file, whole or not at all.

    Raises:
        UsageError: It cannot be written.
    """
    text = export.reporter.render(results)
    try:
        if export.block:
            text = _updated(export, text)
        write_atomically(export.path, text.encode())
    except OSError as error:
        raise UsageError(f"--export {export.path}: cannot be written: {error.strerror}") from error


def _pick_block(target: str, path: Path, wanted: str, name: str) -> str:
    """The block of a Markdown file that is to be updated."""
    if not path.exists():
        return wanted or name
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--export {target}: the file is there but cannot be read: {error}") from error
    begins, ends = _BEGIN.findall(text), _END.findall(text)
    if begins != ends or len(set(begins)) != len(begins):
        raise UsageError(f"--export {target}: its advbench:begin and advbench:end markers do not pair up; mend them")
    if not begins and text.strip():
        block = wanted or name
        raise UsageError(
            f"--export {target}: the file is there and has no block to update; add the lines "
            f"'<!-- advbench:begin {block} -->' and '<!-- advbench:end {block} -->' to it, or give another file"
        )
    if not begins:
        return wanted or name
    if not wanted and len(begins) == 1:
        return str(begins[0])
    block = wanted or name
    if block not in begins:
        there = ", ".join(begins)
        raise UsageError(f"--export {target}: the file has no block {block!r}; pick one with {path}#NAME: {there}")
    return block


def _updated(export: Export, text: str) -> str:
    """The file's text with its block replaced, or a new file that is one block."""
    block = f"<!-- advbench:begin {export.block} -->\n\n{text}\n<!-- advbench:end {export.block} -->"
    before = export.path.read_text("utf-8") if export.path.exists() else ""
    begin, end = (
        next((found for found in pattern.finditer(before) if found.group(1) == export.block), None)
        for pattern in (_BEGIN, _END)
    )
    if begin is None or end is None:
        return f"{block}\n"
    return before[: begin.start()] + block + before[end.end() :]
