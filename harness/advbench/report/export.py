"""Exports: files whose suffix selects a reporter. Markdown files are updated between markers."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.api.files import write_atomically
from advbench.api.reporter import Reporter
from advbench.errors import UsageError, describe

if TYPE_CHECKING:
    from advbench.discovery.registry import Registered, Registry

__all__ = ["Export", "plan_exports", "plan_outputs", "write_export"]

_NAME = re.compile(r"[\w.-]+")
_ALTERNATIVES = {"--export": "'advbench leaderboard latest --export FILE' writes the results elsewhere"}
_MARKER = re.compile(r"<!-- advbench:(begin|end) ([\w.-]+) -->(?=[ \t\r]*$)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Export:
    """One file to write.

    Attributes:
        path: The file.
        reporter: The reporter that renders it.
        block: For Markdown, the name of the block between markers; empty if the whole file is written.
        flag: The flag that requested it, for messages.
    """

    path: Path
    reporter: Reporter
    block: str = ""
    flag: str = "--export"


def plan_exports(registry: Registry, targets: Sequence[str], name: str, flag: str = "--export") -> list[Export]:
    """Checks every ``--export FILE`` before any work.

    Args:
        registry: The registered reporters.
        targets: The files; ``FILE.md#NAME`` selects a block of a Markdown file.
        name: Name of the run, which is the default name of the block.
        flag: What messages call the request.

    Raises:
        UsageError: The folder is missing or not writable, the suffix does not belong to exactly one reporter, or an
            existing Markdown file has no block to update.
    """
    return [_plan(target, name, flag, partial(_registered, registry)) for target in targets]


def plan_outputs(reporters: Sequence[Reporter], targets: Sequence[str], name: str, flag: str) -> list[Export]:
    """Works as :func:`plan_exports`, for a command with its own reporters and another flag.

    Args:
        reporters: The reporters, one per suffix.
        targets: The files.
        name: Name of the run.
        flag: The flag of the command.

    Raises:
        UsageError: As for :func:`plan_exports`.
    """

    def pick(label: str, suffix: str) -> Reporter:
        for reporter in reporters:
            if reporter.suffix == suffix:
                return reporter
        available = ", ".join(sorted(reporter.suffix for reporter in reporters))
        raise UsageError(f"{label}: no report has the suffix {suffix!r}; there are: {available}")

    return [_plan(target, name, flag, pick) for target in targets]


def write_export(export: Export, results: Mapping[str, Any]) -> None:
    """Renders one file and writes it atomically.

    Raises:
        UsageError: The file cannot be rendered or written.
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
        raise UsageError(f"{label}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise UsageError(f"{label}: is a folder; give a file")
    reporter = pick(label, path.suffix)
    if path.suffix != ".md" and block:
        raise UsageError(f"{label}: only Markdown files have named blocks")
    if block and not _NAME.fullmatch(block):
        raise UsageError(f"{label}: the name of a block has letters, digits, '-', '_' and '.' only")
    default = re.sub(r"[^\w.-]+", "-", name).strip("-") or "results"
    export = Export(path, reporter, _pick_block(label, path, block, default) if path.suffix == ".md" else "", flag)
    _check_writable(label, path)
    return export


def _registered(registry: Registry, label: str, suffix: str) -> Reporter:
    """The registered reporter of a suffix."""
    by_suffix: dict[str, list[Registered]] = {}
    for registered in registry.all("reporters"):
        assert issubclass(registered.component, Reporter)
        by_suffix.setdefault(registered.component.suffix, []).append(registered)
    candidates = by_suffix.get(suffix, [])
    if not candidates:
        available = ", ".join(sorted(by_suffix))
        raise UsageError(f"{label}: no report has the suffix {suffix!r}; there are: {available}")
    if len(candidates) > 1:
        named = " and ".join(f"{item.component.name!r} of {item.plugin.provenance}" for item in candidates)
        raise UsageError(f"{label}: the suffix {suffix!r} is registered by {named}; disable one of the plugins")
    reporter = candidates[0].component()
    assert isinstance(reporter, Reporter)
    return reporter


def _check_writable(label: str, path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent):
            pass
    except OSError as error:
        raise UsageError(f"{label}: the folder cannot be written: {error.strerror}") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"{label}: the file is read-only")


def _pick_block(label: str, path: Path, wanted: str, name: str) -> str:
    """The block of a Markdown file to update."""
    block = wanted or name
    if not path.exists():
        return block
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{label}: the file exists but cannot be read: {describe(error)}") from error
    blocks = _blocks(label, text)
    if not blocks:
        if text.strip():
            raise UsageError(
                f"{label}: the file exists and has no block to update; add the lines "
                f"'<!-- advbench:begin {block} -->' and '<!-- advbench:end {block} -->' to it, or give another file"
            )
        return block
    if not wanted and len(blocks) == 1:
        return next(iter(blocks))
    if block not in blocks:
        available = ", ".join(blocks)
        raise UsageError(f"{label}: the file has no block {block!r}; select one with {path}#NAME: {available}")
    return block


def _blocks(label: str, text: str) -> dict[str, tuple[int, int]]:
    """The start and end of each block in the text, including its markers.

    Raises:
        UsageError: The markers do not form pairs of begin and end.
    """
    blocks: dict[str, tuple[int, int]] = {}
    unmatched: re.Match[str] | None = None
    for marker in _MARKER.finditer(text):
        kind, name = marker.group(1, 2)
        if kind == "begin" and unmatched is None and name not in blocks:
            unmatched = marker
        elif kind == "end" and unmatched is not None and unmatched.group(2) == name:
            blocks[name] = (unmatched.start(), marker.end())
            unmatched = None
        else:
            unmatched = marker
            break
    if unmatched is not None:
        raise UsageError(f"{label}: its advbench:begin and advbench:end markers do not match; correct them")
    return blocks


def _updated(export: Export, rendered: bytes) -> bytes:
    """The content of the file with its block replaced; for a new file, only the block.

    Raises:
        UsageError: The block has disappeared from the file since the run began.
    """
    name = export.block
    block = f"<!-- advbench:begin {name} -->\n\n{rendered.decode()}\n<!-- advbench:end {name} -->"
    before = export.path.read_bytes().decode() if export.path.exists() else ""
    if not before.strip():
        return f"{block}\n".encode()
    label = f"{export.flag} {export.path}"
    span = _blocks(label, before).get(name)
    if span is None:
        raise UsageError(
            f"{label}: the block {name!r} has disappeared since the run began, so the file was not changed; "
            f"{_ALTERNATIVES.get(export.flag, 'repeat the command with another file')}"
        )
    if "\r\n" in before:
        block = block.replace("\n", "\r\n")
    return (before[: span[0]] + block + before[span[1] :]).encode()
