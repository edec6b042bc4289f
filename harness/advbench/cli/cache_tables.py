"""The tables and texts that ``advbench cache`` prints: runs, kinds of entries, sizes and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from advbench.printable import printable
from advbench.store import Store
from advbench.store.inventory import HOUR, KINDS, File, Run, StoreContents, total_size

__all__ = ["by_kind", "counted", "described", "freed", "kinds_table", "runs_table", "shown_path", "size_text"]

_DAY = 24 * HOUR
_LONGEST_NAME = 24
_WIDE = 140
"""With fewer columns in the terminal, the commands of the runs have lines of their own."""
_NARROW = 100
"""With fewer columns, times of use and sizes are left out; ``--format json`` has them."""
_HEADINGS = ("run", "name", "created", "used", "cells", "size", "unshared")
_WORDS = {
    "adversarial": ("adversarial", "adversarial"),
    "artefacts": ("artefact", "artefacts"),
    "certificates": ("record of certificates", "records of certificates"),
    "clean": ("clean", "clean"),
    "cells": ("cell", "cells"),
    "examples": ("cell's samples", "cells' samples"),
    "networks": ("network's outputs", "networks' outputs"),
    "runs": ("manifest", "manifests"),
    "temporary": ("temporary file", "temporary files"),
}
"""The kinds of files, singular and plural."""
_ROWS = {
    "adversarial": "adversarial images",
    "clean": "clean predictions",
    "examples": "samples on pages",
    "networks": "outputs of networks",
    "unreferenced": "in no run",
    "left_behind": "left by killed processes",
}
"""The names of rows of :func:`kinds_table` that differ from the kind."""


def described(store: Store, contents: StoreContents) -> dict[str, Any]:
    """The contents of a store as ``ls --format json`` prints them."""
    inventory = contents.inventory
    return {
        "store": str(store.root),
        "runs": [
            {
                "run": run.name,
                "name": run.manifest.get("name"),
                "command": run.manifest.get("command"),
                "created": run.manifest.get("created"),
                "updated": run.manifest.get("updated"),
                "schema": run.manifest.get("schema"),
                "cells": {"stored": run.stored, "all": run.cells},
                "bytes": total_size(inventory.files(run.references)),
                "bytes_alone": total_size(contents.exclusive_files([run])),
            }
            for run in contents.runs
        ],
        "totals": {what: {"files": len(files), "bytes": total_size(files)} for what, files in _totals(contents)},
    }


def runs_table(contents: StoreContents, now: float, width: int) -> Group:
    """The runs with their ages, sizes and commands; ``unshared`` is the size of files that no other run refers to.

    In a narrow terminal, the commands are listed below the table, and the table shows only what tells runs apart if
    there is no room for more.

    Args:
        contents: The contents of a store.
        now: The current time, in seconds since the epoch.
        width: The number of columns of the terminal.
    """
    wide = width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=wide)
    headings = _HEADINGS if width >= _NARROW else ("run", "name", "created", "cells")
    for heading in headings:
        justify: JustifyMethod = "left" if heading in ("run", "name") else "right"
        table.add_column(heading, no_wrap=heading != "name", justify=justify, overflow="fold")
    if wide:
        table.add_column("command", overflow="fold", ratio=1)  # takes the remaining width
    commands = Table.grid(padding=(0, 2))
    commands.add_column(no_wrap=True)
    commands.add_column(overflow="fold")
    for run in contents.runs:
        texts = dict(zip(_HEADINGS, _row(contents, run, now), strict=True))
        command = str(run.manifest.get("command"))
        row = [*(texts[heading] for heading in headings), *([command] if wide else [])]
        table.add_row(*(Text(printable(text)) for text in row))
        commands.add_row(Text(printable(f" {run.name}")), Text(printable(command)))
    return Group(table) if wide else Group(table, commands)


def kinds_table(contents: StoreContents) -> Table:
    """The number and size of the files of each kind."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("what", "files", "size"):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "what" else "right")
    for what, files in _totals(contents):
        if files or what in (*KINDS, "unreferenced", "left_behind"):
            name = _ROWS.get(what, what.replace("_", " "))
            table.add_row(name, f"{len(files):,}", size_text(total_size(files)))
        if what == KINDS[-1]:
            everything = contents.inventory.files()
            table.add_row("all", f"{len(everything):,}", size_text(total_size(everything)), end_section=True)
    return table


def by_kind(files: Iterable[File]) -> str:
    """The number of files of each kind, such as ``2 adversarial, 1 clean``."""
    counts = Counter(file.kind for file in files)
    return ", ".join(counted(counts[kind], *_WORDS[kind]) for kind in _WORDS if counts[kind])


def freed(files: Collection[File], *, dry_run: bool) -> str:
    """How much space the deletion of files frees."""
    if not files:
        return "there is nothing to delete"
    verb = "would free" if dry_run else "freed"
    return f"{verb} {size_text(total_size(files))} in {counted(len(files), 'file', 'files')}"


def counted(count: float, one: str, several: str) -> str:
    """A number with its noun in the singular or plural."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {one if count == 1 else several}"


def size_text(size: float) -> str:
    """A number of bytes for people, such as ``1.5 MiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def shown_path(file: File) -> str:
    """The path of a file, with escapes in place of characters that do not print."""
    return printable(file.name)


def _totals(contents: StoreContents) -> Iterator[tuple[str, Sequence[File]]]:
    """The files by kind, then those that need attention, by their state."""
    files = contents.inventory.files()
    for kind in KINDS:
        yield kind, [file for file in files if file.kind == kind]
    yield "unreferenced", contents.unreferenced()
    yield "damaged_manifests", contents.damaged
    yield "left_behind", contents.inventory.left_behind
    yield "being_written", contents.inventory.being_written
    yield "foreign", contents.inventory.foreign


def _row(contents: StoreContents, run: Run, now: float) -> Iterator[str]:
    name = str(run.manifest.get("name"))
    yield run.name
    yield name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    yield _age(run.manifest, "created", now)
    yield _age(run.manifest, "updated", now)
    yield f"{run.stored}/{run.cells}"
    yield size_text(total_size(contents.inventory.files(run.references)))
    yield size_text(total_size(contents.exclusive_files([run])))


def _age(manifest: Mapping[str, Any], field: str, now: float) -> str:
    """The time since a date of a manifest, in a suitable unit."""
    try:
        seconds = now - datetime.fromisoformat(manifest[field]).timestamp()
    except (KeyError, TypeError, ValueError):
        return "—"
    for unit, length, least in (("d", _DAY, 2 * _DAY), ("h", HOUR, HOUR), ("min", 60.0, 60.0)):
        if seconds >= least:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
