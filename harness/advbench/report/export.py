"""Exports: files whose suffix picks a reporter; Markdown files are updated between their markers."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from advbench.api import Reporter
from advbench.api.files import write_atomically
from advbench.discovery.registry import Registered, Registry
from advbench.errors import UsageError, describe

__all__ = ["Export", "plan_exports", "plan_outputs", "write_export"]

_NAME = re.compile(r"[\w.-]+")
_ELSEWHERE = {"--export": "'advbench leaderboard latest --export FILE' writes the results elsewhere"}
_MARKER = re.compile(r"<!-- advbench:(begin|end) ([\w.-]+) -->(?=[ \t\r]*$)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Export:
    """One file to write.

    Attributes:
        path: Where.
        reporter: What renders it.
        block: For Markdown, the name between the markers; empty for files that are written whole.
        flag: The flag that asked for it, for messages.
    """

    path: Path
    reporter: Reporter
    block: str = ""
    flag: str = "--export"


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
    return [_plan(target, name, "--export", partial(_registered, registry)) for target in targets]


def plan_outputs(reporters: Sequence[Reporter], targets: Sequence[str], name: str, flag: str) -> list[Export]:
    """The same for a command with reporters of its own, one a suffix, and another flag."""

    def pick(label: str, suffix: str) -> Reporter:
        for reporter in reporters:
            if reporter.suffix == suffix:
                return reporter
        there = ", ".join(sorted(reporter.suffix for reporter in reporters))
        raise UsageError(f"{label}: no report has the suffix {suffix!r}; there are: {there}")

    return [_plan(target, name, flag, pick) for target in targets]


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
            f"{export.flag} {export.path}: the reporter {export.reporter.name!r} failed: {describe(error)}"
        ) from error
    try:
        write_atomically(export.path, _updated(export, content) if export.block else content)
    except OSError as error:
        raise UsageError(f"{export.flag} {export.path}: cannot be written: {error.strerror}") from error


def _plan(target: str, name: str, flag: str, pick: Callable[[str, str], Reporter]) -> Export:
    file, _, block = target.partition("#")
    path, label = Path(file), f"{flag} {target}"
    if not path.parent.is_dir():
        raise UsageError(f"{label}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise UsageError(f"{label}: is a folder; give a file")
    reporter = pick(label, path.suffix)
    if path.suffix != ".md" and block:
        raise UsageError(f"{label}: only Markdown files have named blocks")
    if block and not _NAME.fullmatch(block):
        raise UsageError(f"{label}: the name of a block has letters, digits, '-', '_' and '.' only")
    usual = re.sub(r"[^\w.-]+", "-", name).strip("-") or "results"
    export = Export(path, reporter, _pick_block(label, path, block, usual) if path.suffix == ".md" else "", flag)
    _check_writable(label, path)
    return export


def _registered(registry: Registry, label: str, suffix: str) -> Reporter:
    """The one reporter of a suffix that plugins register."""
    by_suffix: dict[str, list[Registered]] = {}
    for registered in registry.all("reporters"):
        assert issubclass(registered.component, Reporter)
        by_suffix.setdefault(registered.component.suffix, []).append(registered)
    found = by_suffix.get(suffix, [])
    if not found:
        there = ", ".join(sorted(by_suffix))
        raise UsageError(f"{label}: no report has the suffix {suffix!r}; there are: {there}")
    if len(found) > 1:
        places = " and ".join(f"{one.component.name!r} of {one.plugin.provenance}" for one in found)
        raise UsageError(f"{label}: the suffix {suffix!r} is claimed by {places}; disable one of the plugins")
    reporter = found[0].component()
    assert isinstance(reporter, Reporter)
    return reporter


def _check_writable(label: str, path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise UsageError(f"{label}: the folder cannot be written: {error.strerror}") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"{label}: the file is read-only")


def _pick_block(label: str, path: Path, wanted: str, name: str) -> str:
    """The block of a Markdown file that is to be updated."""
    block = wanted or name
    if not path.exists():
        return block
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{label}: the file is there but cannot be read: {describe(error)}") from error
    blocks = _blocks(label, text)
    if not blocks:
        if text.strip():
            raise UsageError(
                f"{label}: the file is there and has no block to update; add the lines "
                f"'<!-- advbench:begin {block} -->' and '<!-- advbench:end {block} -->' to it, or give another file"
            )
        return block
    if not wanted and len(blocks) == 1:
        return next(iter(blocks))
    if block not in blocks:
        there = ", ".join(blocks)
        raise UsageError(f"{label}: the file has no block {block!r}; pick one with {path}#NAME: {there}")
    return block


def _blocks(label: str, text: str) -> dict[str, tuple[int, int]]:
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
        raise UsageError(f"{label}: its advbench:begin and advbench:end markers do not pair up; mend them")
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
    label = f"{export.flag} {export.path}"
    place = _blocks(label, before).get(name)
    if place is None:
        raise UsageError(
            f"{label}: the file has lost its block {name!r} since the run began and was left as it is; "
            f"{_ELSEWHERE.get(export.flag, 'repeat the command with another file')}"
        )
    if "\r\n" in before:
        block = block.replace("\n", "\r\n")
    return (before[: place[0]] + block + before[place[1] :]).encode()
