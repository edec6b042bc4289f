"""Exports: files whose suffix picks a reporter; Markdown files are updated between their markers."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.api import Reporter
from advbench.api.files import write_atomically
from advbench.discovery import Registered, Registry
from advbench.errors import UsageError, describe

__all__ = ["Export", "plan_exports", "write_export"]

_NAME = re.compile(r"[\w.-]+")
_MARKER = re.compile(r"<!-- advbench:(begin|end) ([\w.-]+) -->(?=[ \t\r]*$)", re.MULTILINE)


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
        UsageError: The folder is missing or cannot be written, not exactly one reporter has the suffix, or a
            Markdown file of somebody's own has no block to update.
    """
    return [_plan(registry, target, re.sub(r"[^\w.-]+", "-", name).strip("-") or "results") for target in targets]


def write_export(export: Export, results: Mapping[str, Any]) -> None:
    """Renders and writes one file, whole or not at all.

    Raises:
        UsageError: It cannot be rendered or written.
    """
    try:
        text = export.reporter.render(results)
        content = text.encode("utf-8", errors="replace")
    except Exception as error:
        raise UsageError(
            f"--export {export.path}: the reporter {export.reporter.name!r} failed: {describe(error)}"
        ) from error
    try:
        write_atomically(export.path, _updated(export, content) if export.block else content)
    except OSError as error:
        raise UsageError(f"--export {export.path}: cannot be written: {error.strerror}") from error


def _plan(registry: Registry, target: str, name: str) -> Export:
    file, _, block = target.partition("#")
    path = Path(file)
    if not path.parent.is_dir():
        raise UsageError(f"--export {target}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise UsageError(f"--export {target}: is a folder; give a file")
    reporter = _reporter(registry, target, path.suffix)
    if path.suffix != ".md" and block:
        raise UsageError(f"--export {target}: only Markdown files have named blocks")
    if block and not _NAME.fullmatch(block):
        raise UsageError(f"--export {target}: the name of a block has letters, digits, '-', '_' and '.' only")
    export = Export(path, reporter, _pick_block(target, path, block, name) if path.suffix == ".md" else "")
    _check_writable(target, path)
    return export


def _reporter(registry: Registry, target: str, suffix: str) -> Reporter:
    """The one reporter of a suffix."""
    by_suffix: dict[str, list[Registered]] = {}
    for registered in registry.all("reporters"):
        assert issubclass(registered.component, Reporter)
        by_suffix.setdefault(registered.component.suffix, []).append(registered)
    found = by_suffix.get(suffix, [])
    if not found:
        there = ", ".join(sorted(by_suffix))
        raise UsageError(f"--export {target}: no report has the suffix {suffix!r}; there are: {there}")
    if len(found) > 1:
        places = " and ".join(f"{one.component.name!r} of {one.plugin.provenance}" for one in found)
        raise UsageError(f"--export {target}: the suffix {suffix!r} is claimed by {places}; disable one of the plugins")
    reporter = found[0].component()
    assert isinstance(reporter, Reporter)
    return reporter


def _check_writable(target: str, path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise UsageError(f"--export {target}: the folder cannot be written: {error.strerror}") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"--export {target}: the file is read-only")


def _pick_block(target: str, path: Path, wanted: str, name: str) -> str:
    """The block of a Markdown file that is to be updated."""
    block = wanted or name
    if not path.exists():
        return block
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--export {target}: the file is there but cannot be read: {describe(error)}") from error
    blocks = _blocks(target, text)
    if not blocks:
        if text.strip():
            raise UsageError(
                f"--export {target}: the file is there and has no block to update; add the lines "
                f"'<!-- advbench:begin {block} -->' and '<!-- advbench:end {block} -->' to it, or give another file"
            )
        return block
    if not wanted and len(blocks) == 1:
        return next(iter(blocks))
    if block not in blocks:
        there = ", ".join(blocks)
        raise UsageError(f"--export {target}: the file has no block {block!r}; pick one with {path}#NAME: {there}")
    return block


def _blocks(target: object, text: str) -> dict[str, tuple[int, int]]:
    """Where each block begins and ends, markers included.

    Raises:
        UsageError: The markers are not pairs of begin and end, one after the other.
    """
    blocks: dict[str, tuple[int, int]] = {}
    begun: re.Match[str] | None = None
    for marker in _MARKER.finditer(text):
        kind, name = marker.group(1, 2)
        if kind == "begin" and begun is None and name not in blocks:
            begun = marker
        elif kind == "end" and begun is not None and begun.group(2) == name:
            blocks[name] = (begun.start(), marker.end())
            begun = None
        else:
            begun = marker
            break
    if begun is not None:
        raise UsageError(f"--export {target}: its advbench:begin and advbench:end markers do not pair up; mend them")
    return blocks


def _updated(export: Export, rendered: bytes) -> bytes:
    """The file's content with its block replaced, or a new file that is one block.

    Raises:
        UsageError: The file has lost its block since the run began.
    """
    name = export.block
    block = f"<!-- advbench:begin {name} -->\n\n{rendered.decode()}\n<!-- advbench:end {name} -->"
    before = export.path.read_bytes().decode() if export.path.exists() else ""
    if not before.strip():
        return f"{block}\n".encode()
    place = _blocks(export.path, before).get(name)
    if place is None:
        raise UsageError(
            f"--export {export.path}: the file has lost its block {name!r} since the run began and was left as it is; "
            "'advbench leaderboard latest --export FILE' writes the results elsewhere"
        )
    if "\r\n" in before:
        block = block.replace("\n", "\r\n")
    return (before[: place[0]] + block + before[place[1] :]).encode()
