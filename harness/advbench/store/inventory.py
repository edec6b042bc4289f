"""What lies in a store, which run refers to what, what is whole, and what can go.

Whatever is not named as the store names its files is foreign: it is told of and never touched. What a damaged manifest
refers to is not known, so that nothing counts as waste for want of a reference while there is one.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from advbench.errors import StoreError
from advbench.store.store import Part, Store

__all__ = ["HOUR", "KINDS", "File", "Inventory", "Run", "Stock", "check", "remove", "scan", "size_of", "take_stock"]

KINDS = ("adversarial", "clean", "cells", "networks", "runs")
"""The kinds of entries, each in the folder of its name."""

HOUR = 3600.0
"""Seconds for which a file may be a part of something that is just being made."""

_DAY = 24 * HOUR
_OF_RUNS = "runs"
_FOLDER = re.compile(r"[0-9a-f]{2}")
_RECORD = re.compile(r"([0-9a-f]{64})\.json")
_TENSORS = re.compile(r"([0-9a-f]{64})(?:\.(0|[1-9][0-9]*)-([1-9][0-9]*))?\.safetensors")
_MANIFEST = re.compile(r"([0-9a-f]{12})\.json")
_TEMPORARY = re.compile(r"([0-9a-f]{15})\..*\.tmp")
_BESIDE = re.compile(r"\.([0-9a-f]{40}|[0-9a-f]{12}\.json)\.[a-z0-9_]{8}\.tmp")
"""How earlier versions named temporary files, which were beside what they became."""
_PROBE = re.compile(r"\.probe-[0-9]+")

State = Literal["whole", "damaged", "unreadable", "gone"]
Reference = tuple[str, str]
"""A kind, and a key or a run's id."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a store, as it was when it was looked at.

    Attributes:
        name: Its path.
        kind: One of :data:`KINDS`, ``temporary`` or ``foreign``.
        key: The key of an entry, the id of a run, the writer of a temporary file where its name tells it.
        part: Which part of a chunk it holds, where it holds one.
        size: Its bytes.
        modified: When it was written, in nanoseconds since the epoch.
    """

    name: str
    kind: str
    key: str
    part: Part | None
    size: int
    modified: int

    @property
    def path(self) -> Path:
        """Its path."""
        return Path(self.name)

    def age(self, now: float) -> float:
        """Seconds since it was written; none where clocks differ so that it has not been yet."""
        return max(0.0, now - self.modified / 1e9)


@dataclass
class Inventory:
    """The files of a store.

    Attributes:
        entries: Entries, the parts of unfinished chunks among them, by what refers to them.
        being_written: Temporary files whose writer may be at work.
        left_behind: Temporary files of killed writers, and parts of chunks that are finished.
        foreign: What the store has not written.
    """

    entries: dict[Reference, list[File]] = field(default_factory=dict)
    being_written: list[File] = field(default_factory=list)
    left_behind: list[File] = field(default_factory=list)
    foreign: list[File] = field(default_factory=list)

    def files(self, references: Iterable[Reference] | None = None) -> list[File]:
        """The files of all entries, or of those that are referred to and there."""
        found = self.entries.values() if references is None else (self.entries.get(one, ()) for one in references)
        return [file for files in found for file in files]


@dataclass(frozen=True)
class Run:
    """A run with a manifest that checks out.

    Attributes:
        name: Its id.
        manifest: Its manifest.
        references: What it refers to, its manifest included.
        stored: How many of its cells are in the store.
        cells: How many it has, those aside that cannot be run.
    """

    name: str
    manifest: Mapping[str, Any]
    references: frozenset[Reference]
    stored: int
    cells: int


@dataclass(frozen=True)
class Stock:
    """The files of a store, and what refers to them.

    Attributes:
        inventory: The files.
        runs: The runs, the one last written first.
        damaged: Manifests that do not check out or cannot be read.
        holders: How many runs refer to what.
    """

    inventory: Inventory
    runs: list[Run]
    damaged: list[File]
    holders: Counter[Reference]

    def alone(self, runs: Collection[Run]) -> list[File]:
        """The files to which these runs refer and no other."""
        held = Counter(reference for run in runs for reference in run.references)
        return self.inventory.files(one for one, count in held.items() if count == self.holders[one])

    def unreferenced(self) -> list[File]:
        """The files of entries that no run refers to."""
        known = self.holders
        return self.inventory.files(one for one in self.inventory.entries if one[0] != _OF_RUNS and one not in known)


def scan(store: Store, now: float | None = None) -> Inventory:
    """Looks at every file of a store, and into none.

    Args:
        store: The store; one without a folder has no files.
        now: The time, in seconds since the epoch; by default that of the clock.

    Raises:
        StoreError: A folder cannot be read.
    """
    now, found = time.time() if now is None else now, Inventory()
    for file in _files(store.root):
        if file.kind == "foreign":
            found.foreign.append(file)
        elif file.kind == "temporary":
            live = file.age(now) < HOUR or _writer_lives(store, file.key)
            (found.being_written if live else found.left_behind).append(file)
        else:
            found.entries.setdefault((file.kind, file.key), []).append(file)
    for reference, files in found.entries.items():
        whole = next((file for file in files if file.part is None), None)
        if whole is not None and len(files) > 1:
            left = [file for file in files if file.part and not _remade(file, whole, now)]
            found.left_behind += left
            found.entries[reference] = [file for file in files if file not in left]
    return found


def take_stock(store: Store, now: float | None = None) -> Stock:
    """Looks at every file of a store, and reads what each run refers to.

    Args:
        store: The store.
        now: The time, as for :func:`scan`.

    Raises:
        StoreError: A folder cannot be read.
    """
    inventory = scan(store, now)
    manifests = [file for file in inventory.files() if file.kind == _OF_RUNS]
    runs, damaged, read = [], [], dict[str, frozenset[Reference]]()
    for file in sorted(manifests, key=lambda file: file.modified, reverse=True):
        try:
            manifest = store.read_manifest(file.key)
            run = None if manifest is None else _run(store, inventory, manifest, read)
        except (AttributeError, KeyError, TypeError, ValueError):  # it is no such JSON
            run = None
        if run is not None:
            runs.append(run)
        elif os.path.lexists(file.name):
            damaged.append(file)
    return Stock(inventory, runs, damaged, Counter(reference for run in runs for reference in run.references))


def check(store: Store, file: File) -> State:
    """Reads an entry as the store does.

    Returns:
        Whether it is whole or damaged; ``unreadable`` where the system does not let it be read, which says nothing of
        its content; ``gone`` where it is no longer there.
    """
    try:
        with file.path.open("rb"):
            pass
    except FileNotFoundError:
        return "gone"
    except OSError:
        return "unreadable"
    try:
        if file.kind == _OF_RUNS:
            whole = store.read_manifest(file.key) is not None
        elif file.kind == "adversarial":
            whole = store.read_tensors(file.key, file.part) is not None
        else:
            whole = store.read_record(file.kind, file.key, arrays=True) is not None
    except MemoryError:
        raise
    except Exception:  # what is no entry at all may raise anything
        whole = False
    return "whole" if whole else "damaged" if os.path.lexists(file.name) else "gone"


def remove(store: Store, files: Iterable[File]) -> list[File]:
    """Deletes files, in their order.

    Returns:
        Those that were there.

    Raises:
        StoreError: One cannot be deleted; those before it are.
    """
    removed = []
    for file in files:
        try:
            file.path.unlink()
        except FileNotFoundError:  # somebody else has, at this moment
            continue
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(
                f"{file.name} cannot be deleted: {reason}; make the store {store.root} writable and repeat the command"
            ) from error
        removed.append(file)
    return removed


def size_of(files: Iterable[File]) -> int:
    """The bytes of files."""
    return sum(file.size for file in files)


def _files(root: Path) -> Iterator[File]:
    for entry in _listed(root):
        if entry.name in KINDS and entry.is_dir():
            yield from _files_of(entry)
        elif entry.name == "tmp" and entry.is_dir():
            yield from _matched(entry, "temporary", _TEMPORARY)
        elif entry.name != "lock" or not entry.is_file():
            yield from _file(entry, "temporary", _PROBE.fullmatch(entry.name), keyed=False)


def _files_of(folder: os.DirEntry[str]) -> Iterator[File]:
    kind = folder.name
    if kind == _OF_RUNS:
        yield from _matched(folder, kind, _MANIFEST)
        return
    for entry in _listed(folder):
        if _FOLDER.fullmatch(entry.name) and entry.is_dir():
            yield from _matched(entry, kind, _TENSORS if kind == "adversarial" else _RECORD, entry.name)
        else:
            yield from _file(entry, kind, None)


def _matched(folder: os.DirEntry[str], kind: str, form: re.Pattern[str], beginning: str = "") -> Iterator[File]:
    """The files of a folder; those whose names have the form and the beginning are of the kind."""
    for entry in _listed(folder):
        match = form.fullmatch(entry.name)
        if match is not None and entry.name.startswith(beginning):
            yield from _file(entry, kind, match)
        else:
            yield from _file(entry, "temporary", _BESIDE.fullmatch(entry.name), keyed=False)


def _file(entry: os.DirEntry[str], kind: str, match: re.Match[str] | None, *, keyed: bool = True) -> Iterator[File]:
    """A file of a kind, or foreign without a match or where it is no file; nothing where it has just gone."""
    try:
        try:
            status = entry.stat()
        except FileNotFoundError:
            status = entry.stat(follow_symlinks=False)  # a link to nowhere
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    if match is None or not stat.S_ISREG(status.st_mode):
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        yield File(entry.path, "foreign", "", None, size, status.st_mtime_ns)
        return
    groups = match.groups()
    part = (int(groups[1]), int(groups[2])) if len(groups) == 3 and groups[1] else None
    yield File(entry.path, kind, groups[0] if keyed else "", part, status.st_size, status.st_mtime_ns)


def _listed(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(os.fspath(folder), error) from error


def _unreadable(path: str, error: OSError) -> StoreError:
    return StoreError(f"store: {path} cannot be read: {error.strerror or error}; choose another with --store DIR")


def _writer_lives(store: Store, writer: str) -> bool:
    """Whether the writer of a temporary file is known to be at work; asking makes no file of locks."""
    return bool(writer) and store.locks.path.exists() and store.locks.writer_is_gone(writer) is False


def _remade(part: File, whole: File, now: float) -> bool:
    """Whether a part of a finished chunk may be one that a run with ``--rerun all`` is making anew."""
    return part.modified > whole.modified and part.age(now) < _DAY


def _run(store: Store, inventory: Inventory, manifest: Mapping[str, Any], read: dict[str, frozenset[Reference]]) -> Run:
    """A run of its manifest; ``read`` keeps what cells refer to, for runs that share them."""
    own = [cell["key"] for cell in manifest["cells"] if cell["key"]]
    cells = {*own, *manifest.get("doubled", {}).values()}
    references = {(_OF_RUNS, manifest["run"]), *(("cells", key) for key in cells)}
    if "entries" in manifest:
        references |= {
            (kind, key) for kind in ("adversarial", "clean", "networks") for key in manifest["entries"].get(kind, ())
        }
    else:
        for key in cells:
            if key not in read:
                read[key] = _of_material(store, key) if ("cells", key) in inventory.entries else frozenset()
            references |= read[key]
    stored = sum(("cells", key) in inventory.entries for key in own)
    return Run(manifest["run"], manifest, frozenset(references), stored, len(own))


def _of_material(store: Store, key: str) -> frozenset[Reference]:
    """What a stored cell refers to."""
    key_inputs = store.read_key_inputs("cells", key)
    if key_inputs is None:
        return frozenset()
    return frozenset({("clean", key_inputs["clean"]), *(("adversarial", one) for one in key_inputs["adversarial"])})
