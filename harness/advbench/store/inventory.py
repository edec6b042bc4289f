"""An inventory of a store: its files, which runs refer to them, which are damaged, and which can be deleted.

Files whose names do not follow the store's scheme are foreign: they are reported but never deleted. The references of a
damaged manifest are unknown, so unreferenced entries must not be deleted while there is a damaged manifest.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from advbench.errors import StoreError
from advbench.option_names import option
from advbench.store.store import Part, Store

__all__ = [
    "HOUR",
    "KINDS",
    "File",
    "Inventory",
    "Run",
    "StoreContents",
    "check",
    "read_contents",
    "remove",
    "scan",
    "total_size",
]

KINDS = ("adversarial", "artefacts", "certificates", "clean", "cells", "examples", "networks", "runs")
"""The kinds of entries; each has a folder of the same name."""

HOUR = 3600.0
"""Seconds for which a temporary file is assumed to be in use."""

_DAY = 24 * HOUR
_RUNS = "runs"
_FOLDER = re.compile(r"[0-9a-f]{2}")
_RECORD = re.compile(r"([0-9a-f]{64})\.json")
_TENSORS = re.compile(r"([0-9a-f]{64})(?:\.(0|[1-9][0-9]*)-([1-9][0-9]*))?\.safetensors")
_ARTEFACT = re.compile(r"([0-9a-f]{64})\.safetensors")
_MANIFEST = re.compile(r"([0-9a-f]{12})\.json")
_TEMPORARY = re.compile(r"([0-9a-f]{15})\..*\.tmp")
_OLD_TEMPORARY = re.compile(r"\.([0-9a-f]{40}|[0-9a-f]{12}\.json)\.[a-z0-9_]{8}\.tmp")
"""Temporary files of earlier versions, which were written beside their final files."""
_LISTED = ("adversarial", "artefacts", "certificates", "clean", "networks")
"""The kinds of entries whose keys a manifest lists."""
_FORMS = {"adversarial": _TENSORS, "artefacts": _ARTEFACT}
"""The names of the files of entries that are not JSON, by kind."""
_PROBE = re.compile(r"\.probe-[0-9]+")

State = Literal["whole", "damaged", "unreadable", "gone"]
Reference = tuple[str, str]
"""A kind, and a key or a run's id."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a store at the time of the scan.

    Attributes:
        name: Its path.
        kind: One of :data:`KINDS`, ``temporary`` or ``foreign``.
        key: The key of an entry, the id of a run, or the writer of a temporary file; empty if unknown.
        part: The part of a chunk that it holds, or None.
        size: Its size in bytes.
        modified: Time of the last write, in nanoseconds since the epoch.
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
        """Seconds since the last write; 0 if it lies in the future because clocks differ."""
        return max(0.0, now - self.modified / 1e9)


@dataclass
class Inventory:
    """The files of a store.

    Attributes:
        entries: The files of entries, including parts of unfinished chunks, by kind and key.
        being_written: Temporary files whose writer may still be running.
        left_behind: Temporary files of killed writers, and parts of finished chunks.
        foreign: Files that the store has not written.
    """

    entries: dict[Reference, list[File]] = field(default_factory=dict)
    being_written: list[File] = field(default_factory=list)
    left_behind: list[File] = field(default_factory=list)
    foreign: list[File] = field(default_factory=list)

    def files(self, references: Iterable[Reference] | None = None) -> list[File]:
        """The files of all entries, or of the referenced entries that exist."""
        if references is None:
            return [file for files in self.entries.values() for file in files]
        return [file for reference in references for file in self.entries.get(reference, ())]


@dataclass(frozen=True)
class Run:
    """A run with a valid manifest.

    Attributes:
        name: Its id.
        manifest: Its manifest.
        references: The entries that it refers to, including its manifest.
        stored: Number of its cells in the store.
        cells: Number of its cells, without those that cannot be run.
    """

    name: str
    manifest: Mapping[str, Any]
    references: frozenset[Reference]
    stored: int
    cells: int


@dataclass(frozen=True)
class StoreContents:
    """The files of a store and the runs that refer to them.

    Attributes:
        inventory: The files.
        runs: The runs, the last written first.
        damaged: Manifests that are damaged or cannot be read.
        reference_counts: The number of runs that refer to each entry.
    """

    inventory: Inventory
    runs: list[Run]
    damaged: list[File]
    reference_counts: Counter[Reference]

    def exclusive_files(self, runs: Collection[Run]) -> list[File]:
        """The files that only these runs refer to."""
        counts = Counter(reference for run in runs for reference in run.references)
        return self.inventory.files(entry for entry, count in counts.items() if count == self.reference_counts[entry])

    def unreferenced(self) -> list[File]:
        """The files of entries that no run refers to."""
        entries = self.inventory.entries
        return self.inventory.files(
            entry for entry in entries if entry[0] != _RUNS and entry not in self.reference_counts
        )


def scan(store: Store, now: float | None = None) -> Inventory:
    """Lists every file of a store without reading any.

    Args:
        store: The store; if its folder does not exist, it has no files.
        now: The time, in seconds since the epoch; by default the current time.

    Raises:
        StoreError: A folder cannot be read.
    """
    now, inventory = time.time() if now is None else now, Inventory()
    for file in _files(store.root):
        if file.kind == "foreign":
            inventory.foreign.append(file)
        elif file.kind == "temporary":
            in_use = file.age(now) < HOUR or _writer_is_running(store, file.key)
            (inventory.being_written if in_use else inventory.left_behind).append(file)
        else:
            inventory.entries.setdefault((file.kind, file.key), []).append(file)
    for reference, files in inventory.entries.items():
        chunk = next((file for file in files if file.part is None), None)
        if chunk is not None and len(files) > 1:
            leftovers = [file for file in files if file.part and not _may_be_in_progress(file, chunk, now)]
            inventory.left_behind += leftovers
            inventory.entries[reference] = [file for file in files if file not in leftovers]
    return inventory


def read_contents(store: Store, now: float | None = None) -> StoreContents:
    """Lists every file of a store and reads the manifests of all runs.

    Args:
        store: The store.
        now: The time, as for :func:`scan`.

    Raises:
        StoreError: A folder cannot be read.
    """
    inventory = scan(store, now)
    manifests = [file for file in inventory.files() if file.kind == _RUNS]
    runs, damaged, read = [], [], dict[str, frozenset[Reference]]()
    for file in sorted(manifests, key=lambda file: file.modified, reverse=True):
        try:
            manifest = store.read_manifest(file.key)
            run = None if manifest is None else _run(store, inventory, manifest, read)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):  # not a manifest's JSON
            run = None
        if run is not None:
            runs.append(run)
        elif os.path.lexists(file.name):
            damaged.append(file)
    return StoreContents(inventory, runs, damaged, Counter(reference for run in runs for reference in run.references))


def check(store: Store, file: File) -> State:
    """Reads an entry and verifies its checksums.

    Returns:
        ``whole`` or ``damaged``; ``unreadable`` if the system does not permit reading it, so that its content is
        unknown; ``gone`` if it no longer exists.
    """
    try:
        if not stat.S_ISREG(file.path.stat().st_mode):  # a folder or a FIFO
            return "damaged"
        with file.path.open("rb"):
            pass
    except FileNotFoundError:
        return "damaged" if os.path.lexists(file.name) else "gone"  # a broken symbolic link
    except OSError as error:
        return "damaged" if error.errno == errno.ELOOP else "unreadable"
    try:
        if file.kind == _RUNS:
            valid = store.read_manifest(file.key) is not None
        elif file.kind == "adversarial":
            valid = store.read_tensors(file.key, file.part) is not None
        elif file.kind == "artefacts":
            valid = store.read_artefact(file.key) is not None
        else:
            valid = store.read_record(file.kind, file.key, arrays=True) is not None
    except MemoryError:
        raise
    except Exception:  # arbitrary content may raise anything
        valid = False
    return "whole" if valid else "damaged" if os.path.lexists(file.name) else "gone"


def remove(store: Store, files: Iterable[File]) -> list[File]:
    """Deletes files, in the given order. Folders with the name of an entry are left.

    Returns:
        The files that existed.

    Raises:
        StoreError: A file cannot be deleted; those before it have been.
    """
    removed = []
    for file in files:
        try:
            file.path.unlink()
        except FileNotFoundError:  # another process has deleted it meanwhile
            continue
        except OSError as error:
            if file.path.is_dir():
                if file.kind != _RUNS:
                    continue
                raise StoreError(f"{file.name} is a folder; move it out of the store and repeat the command") from error
            reason = error.strerror or error
            raise StoreError(
                f"{file.name} cannot be deleted: {reason}; make the store {store.root} writable and repeat the command"
            ) from error
        removed.append(file)
    return removed


def total_size(files: Iterable[File]) -> int:
    """Total size of files, in bytes."""
    return sum(file.size for file in files)


def _files(root: Path) -> Iterator[File]:
    for entry in _list_folder(root):
        if entry.name in KINDS and _is(entry, stat.S_ISDIR):
            yield from _entries_in(entry)
        elif entry.name == "tmp" and _is(entry, stat.S_ISDIR):
            yield from _matching(entry, "temporary", _TEMPORARY)
        elif entry.name != "lock" or not _is(entry, stat.S_ISREG):
            yield from _described(entry, "temporary", _PROBE.fullmatch(entry.name), keyed=False)


def _is(entry: os.DirEntry[str], kind: Callable[[int], bool]) -> bool:
    """Whether an entry, or what it links to, is of a kind; False for links that lead nowhere or in a circle."""
    try:
        return kind(entry.stat().st_mode)
    except OSError:
        return False


def _entries_in(folder: os.DirEntry[str]) -> Iterator[File]:
    kind = folder.name
    if kind == _RUNS:
        yield from _matching(folder, kind, _MANIFEST)
        return
    for entry in _list_folder(folder):
        if _FOLDER.fullmatch(entry.name) and _is(entry, stat.S_ISDIR):
            yield from _matching(entry, kind, _FORMS.get(kind, _RECORD), entry.name)
        else:
            yield from _described(entry, kind, None)


def _matching(folder: os.DirEntry[str], kind: str, form: re.Pattern[str], beginning: str = "") -> Iterator[File]:
    """The files of a folder; names that have the form and the beginning belong to the kind."""
    for entry in _list_folder(folder):
        match = form.fullmatch(entry.name)
        if match is not None and entry.name.startswith(beginning):
            yield from _described(entry, kind, match)
        else:
            yield from _described(entry, "temporary", _OLD_TEMPORARY.fullmatch(entry.name), keyed=False)


def _described(
    entry: os.DirEntry[str], kind: str, match: re.Match[str] | None, *, keyed: bool = True
) -> Iterator[File]:
    """Yields the file with its kind, or as foreign if it has no match; nothing if it was deleted.

    What has the name of an entry and is not a file, such as a folder, counts as an entry, which is damaged.
    """
    try:
        try:
            status = entry.stat()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            status = entry.stat(follow_symlinks=False)  # a symbolic link that leads nowhere or in a circle
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    if match is None or (kind not in KINDS and not stat.S_ISREG(status.st_mode)):
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        yield File(entry.path, "foreign", "", None, size, status.st_mtime_ns)
        return
    groups = match.groups()
    part = (int(groups[1]), int(groups[2])) if len(groups) == 3 and groups[1] else None
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    yield File(entry.path, kind, groups[0] if keyed else "", part, size, status.st_mtime_ns)


def _list_folder(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(os.fspath(folder), error) from error


def _unreadable(path: str, error: OSError) -> StoreError:
    another = f"choose another with {option('store', 'DIR')}"
    return StoreError(f"store: {path} cannot be read: {error.strerror or error}; {another}")


def _writer_is_running(store: Store, writer: str) -> bool:
    """Whether the writer of a temporary file is known to be running; never creates the lock file."""
    return bool(writer) and store.locks.path.exists() and store.locks.writer_is_gone(writer) is False


def _may_be_in_progress(part: File, chunk: File, now: float) -> bool:
    """Whether a part of a finished chunk may belong to a run with ``--rerun all`` that computes the chunk again."""
    return part.modified > chunk.modified and part.age(now) < _DAY


def _run(store: Store, inventory: Inventory, manifest: Mapping[str, Any], read: dict[str, frozenset[Reference]]) -> Run:
    """Makes a run of its manifest; ``read`` caches the references of cells that several runs share."""
    own = [cell["key"] for cell in manifest["cells"] if cell["key"]]
    cells = {*own, *manifest.get("doubled", {}).values()}
    references = {(_RUNS, manifest["run"]), *(("cells", key) for key in cells)}
    references |= {("examples", key) for key in cells if ("examples", key) in inventory.entries}
    if "entries" in manifest:
        references |= {(kind, key) for kind in _LISTED for key in manifest["entries"].get(kind, ())}
    else:
        for key in cells:
            if key not in read:
                read[key] = _key_references(store, key) if ("cells", key) in inventory.entries else frozenset()
            references |= read[key]
    stored = sum(("cells", key) in inventory.entries for key in own)
    return Run(manifest["run"], manifest, frozenset(references), stored, len(own))


def _key_references(store: Store, key: str) -> frozenset[Reference]:
    """The entries that a stored cell refers to, according to its key inputs."""
    key_inputs = store.read_key_inputs("cells", key)
    if key_inputs is None:
        return frozenset()
    return frozenset({("clean", key_inputs["clean"]), *(("adversarial", chunk) for chunk in key_inputs["adversarial"])})
