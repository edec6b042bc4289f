"""Content-addressed results on disk.

::

    STORE/adversarial/3f/3f9a….safetensors   adversarial images of one chunk of samples, with what was measured;
                                             as 8 bits if these represent every pixel exactly
    STORE/artefacts/…/….safetensors          what an attack or a defense has fitted to data
    STORE/clean/…/….json                     a defended model's predictions on clean images
    STORE/cells/…/….json                     cells: per-sample predictions and distances, or a failure
    STORE/examples/…/….json                  the samples of a cell that the page of a run shows, as small pictures
    STORE/networks/…/….json                  outputs of networks on a few fixed images, from which keys are made
    STORE/runs/RUN.json                      manifests: the cells of a run
    STORE/tmp/WRITER.….tmp                   files being written or left by a killed writer; and a marker for each
                                             running task with a time limit, which records whether time ran out
    STORE/lock                               an empty file with the locks of running processes

While the adversarial images of a chunk are being computed, its finished parts are stored beside it, as
``KEY.START-STOP.safetensors``.

Every entry is written under a temporary name and renamed. It holds the inputs of its key, whose digest the key is, and
a checksum of its content. A damaged entry counts as missing and causes a warning; it is never used.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from advbench.api.files import replace_atomically, write_atomically
from advbench.errors import StoreError
from advbench.option_names import option
from advbench.store.columns import from_columns, to_columns
from advbench.store.digests import canonical_json, digest_of
from advbench.store.entries import read_file, verified_record
from advbench.store.locks import locks_of
from advbench.store.obstacles import obstacle_to
from advbench.store.packing import as_bytes, as_floats, pack, unpack
from advbench.store.tensor_files import read_tensor_file, write_tensor_file

if TYPE_CHECKING:
    import torch

__all__ = ["SCHEMA", "Store"]

SCHEMA = 2
"""Version of the file format and of the keys. Raise it whenever a stored result would differ from what the same command
computes now, and no other part of the key shows why."""

_MANIFEST = re.compile(r"([0-9a-f]{12})\.json")
_TEMPORARY = re.compile(r"([0-9a-f]{15})\..*\.tmp")
_IMAGES = "images"
_STALE_SECONDS = 3600.0
"""Seconds after which a temporary file counts as abandoned if it is unknown whether its writer is running."""

_EXIT_SECONDS = 2.0
"""Seconds for which a process that is known to have ended may still appear to be running."""

Part = tuple[int, int]
"""A range of samples of a chunk: start (inclusive) and stop (exclusive)."""

_log = logging.getLogger("advbench.store")


class Store:
    """Results under one folder.

    Args:
        root: The folder; created at the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locks = locks_of(root / "lock")

    def check_writable(self) -> None:
        """Creates the folder and tries to write a file.

        Raises:
            StoreError: The folder is not writable.
        """
        probe = self.root / f".probe-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from error

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """Claims the computation of an entry while the block runs; yields False if another process is computing it."""
        return self.locks.claim(key)

    def remove_leftovers(self) -> None:
        """Removes the leftovers of killed writers: temporary files, and parts of finished chunks."""
        for path in (self.root / "tmp").glob("*.tmp"):
            match = _TEMPORARY.fullmatch(path.name)
            with suppress(OSError):
                gone = None if match is None else self.locks.writer_is_gone(match[1])
                if gone or (gone is None and time.time() - path.stat().st_mtime > _STALE_SECONDS):
                    path.unlink()
        for path in (self.root / "adversarial").glob("*/*.*-*.safetensors"):
            chunk = path.with_name(f"{path.name.partition('.')[0]}{path.suffix}")
            with suppress(OSError):
                # A newer part belongs to a run that computes the chunk again.
                if path.stat().st_mtime_ns <= chunk.stat().st_mtime_ns:
                    path.unlink()

    @contextmanager
    def shared_marker(self) -> Iterator[str]:
        """Creates a file in the folder while the block runs and yields its name.

        Workers on other machines look for it with :meth:`has_marker`, to check that they share the folder.
        """
        with self.locks.writing():
            path = self.root / "tmp" / f"{self.locks.writer}.marker-{secrets.token_hex(8)}.tmp"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield path.name
            finally:
                path.unlink(missing_ok=True)

    def has_marker(self, token: str) -> bool:
        """Whether the file of :meth:`shared_marker` exists in the folder."""
        return (self.root / "tmp" / token).exists()

    @contextmanager
    def timeout_marker(self, task: str) -> Iterator[IO[str]]:
        """Yields an open file that is removed after the block but remains if the process dies in it.

        It is the null device if the folder is not writable.

        Args:
            task: The name of the task, as letters and digits.
        """
        path = self.root / "tmp" / f"{self.locks.writer}.time-{task}.tmp"
        with self.locks.writing():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("w")
            except OSError:
                file = Path(os.devnull).open("w")  # noqa: SIM115  closed below
            with file:
                try:
                    yield file
                finally:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)

    def ended_attempts(self, task: str, *, certain: bool = False) -> list[bool]:
        """Finds the processes that died during a task, by their timeout markers.

        Args:
            task: The task, as in :meth:`timeout_marker`.
            certain: Whether a process is known to have died. The method then waits up to 2 seconds for it to disappear,
                and if the file system has no locks, it assumes that all processes with a marker have died.

        Returns:
            For each process that died, whether it had written to its marker because its time was up.
        """
        until = time.monotonic() + (_EXIT_SECONDS if certain else 0.0)
        while True:
            markers = list((self.root / "tmp").glob(f"*.time-{task}.tmp"))
            alive = [path for path in markers if not self._is_gone(path, unknown=certain)]
            if not alive or len(alive) < len(markers) or time.monotonic() >= until:
                break
            time.sleep(0.05)
        timed_out = []
        for path in markers:
            with suppress(OSError):
                if path not in alive:
                    timed_out.append(path.stat().st_size > 0)
        return timed_out

    def forget_attempts(self, task: str) -> None:
        """Removes the timeout markers of processes that died during a task."""
        for path in (self.root / "tmp").glob(f"*.time-{task}.tmp"):
            with suppress(OSError):
                if self._is_gone(path, unknown=False):
                    path.unlink()

    def _is_gone(self, temporary: Path, *, unknown: bool) -> bool:
        """Whether the writer of a temporary file has ended; ``unknown`` is returned if the file system has no locks."""
        gone = self.locks.writer_is_gone(temporary.name.partition(".")[0])
        return unknown if gone is None else gone

    def read_record(self, kind: str, key: str, *, arrays: bool = False) -> dict[str, Any] | None:
        """Reads the record of a JSON entry.

        Args:
            kind: ``cells``, ``clean``, ``examples`` or ``networks``.
            key: The digest of the key inputs.
            arrays: Whether to return long lists of numbers as NumPy arrays, which is much faster.

        Returns:
            The record, or None if there is no entry or it is damaged.
        """
        try:
            content = read_file(f"{self.root}/{kind}/{key[:2]}/{key}.json")
        except FileNotFoundError:
            return None
        except OSError:
            return self._corrupt(self._path(kind, key, ".json"))
        try:
            record = verified_record(content, key)
            if record is not None:
                return unpack(record, arrays=arrays)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # not the JSON of an entry
            pass
        return self._corrupt(self._path(kind, key, ".json"))

    def read_key_inputs(self, kind: str, key: str) -> dict[str, Any] | None:
        """Reads the inputs of which a JSON entry's key is the digest; None if there is no such entry."""
        envelope = self._read_json(self._path(kind, key, ".json"))
        key_inputs = None if envelope is None else envelope.get("material")
        return key_inputs if isinstance(key_inputs, dict) and digest_of(key_inputs) == key else None

    def write_record(self, kind: str, key_inputs: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Writes a JSON entry under the digest of its key inputs; long lists of numbers are packed."""
        packed = pack(record)
        envelope = {"sha256": digest_of(packed), "material": key_inputs, "record": packed}
        self._write(self._path(kind, digest_of(key_inputs), ".json"), canonical_json(envelope))

    def read_tensors(self, key: str, part: Part | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Reads the adversarial images of a chunk, or of a part of it, and their record.

        Returns:
            Tensors by name, images as float32; and the record. None if there is no entry or it is damaged.
        """
        from torch import uint8

        entry = self._read_tensor_file(self._tensors_path(key, part), key, part)
        if entry is not None and _IMAGES in entry[0] and entry[0][_IMAGES].dtype == uint8:
            entry[0][_IMAGES] = as_floats(entry[0][_IMAGES])
        return entry

    def write_tensors(
        self,
        key_inputs: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        record: Mapping[str, Any],
        part: Part | None = None,
    ) -> None:
        """Writes adversarial images, float32, under the digest of their key inputs; as 8 bits if that is exact."""
        levels = as_bytes(tensors[_IMAGES])
        kept = tensors if levels is None else {**tensors, _IMAGES: levels}
        self._write_tensor_file(self._tensors_path(digest_of(key_inputs), part), key_inputs, kept, record, part)

    def read_artefact(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Reads the tensors of an artefact by name, and its record; None if there is no entry or it is damaged."""
        return self._read_tensor_file(self._path("artefacts", key, ".safetensors"), key)

    def write_artefact(
        self, key_inputs: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]
    ) -> None:
        """Writes the tensors of an artefact and its record under the digest of their key inputs."""
        path = self._path("artefacts", digest_of(key_inputs), ".safetensors")
        self._write_tensor_file(path, key_inputs, tensors, record)

    def _read_tensor_file(
        self, path: Path, key: str, part: Part | None = None
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        try:
            entry = read_tensor_file(path, key, part)
        except FileNotFoundError:
            return None
        if entry is None:
            self._corrupt(path)
        return entry

    def _write_tensor_file(
        self,
        path: Path,
        key_inputs: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        record: Mapping[str, Any],
        part: Part | None = None,
    ) -> None:
        try:
            with self.locks.writing(), replace_atomically(path, temporary=self._temporary()) as temporary:
                write_tensor_file(temporary, key_inputs, tensors, record, part)
        except OSError as error:
            raise self._unwritable(error, path) from error

    def remove_parts(self, key: str) -> None:
        """Removes the parts of a finished chunk."""
        for path in (self.root / "adversarial" / key[:2]).glob(f"{key}.*-*.safetensors"):
            with suppress(OSError):
                path.unlink()

    def read_manifest(self, run: str) -> dict[str, Any] | None:
        """Reads the manifest of a run; None if there is none or it is damaged."""
        path = self._manifest_path(run)
        envelope = self._read_json(path)
        if envelope is None:
            return None
        manifest = envelope.get("manifest")
        try:
            if not isinstance(manifest, dict) or digest_of(manifest) != envelope.get("sha256"):
                return self._corrupt(path)
            manifest["cells"] = from_columns(manifest["cells"])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return self._corrupt(path)
        return manifest if manifest.get("run") == run else self._corrupt(path)

    def write_manifest(self, run: str, manifest: Mapping[str, Any]) -> None:
        """Writes the manifest of a run."""
        packed = {**manifest, "cells": to_columns(manifest["cells"])}
        envelope = {"sha256": digest_of(packed), "manifest": packed}
        # Keys keep the order in which boards show them. Indentation would use the slow encoder of json.
        self._write(self._manifest_path(run), json.dumps(envelope, separators=(",", ":")).encode())

    def runs(self) -> Iterator[str]:
        """Ids of the runs in the store, the last written first."""
        written: list[tuple[int, str]] = []
        try:
            with os.scandir(self.root / "runs") as entries:
                for entry in entries:
                    match = _MANIFEST.fullmatch(entry.name)
                    with suppress(OSError):  # another process has just deleted it
                        if match is not None:
                            # The link itself where it is one, since links may lead nowhere or in a circle.
                            written.append((entry.stat(follow_symlinks=False).st_mtime_ns, match[1]))
        except OSError as error:
            if obstacle := obstacle_to(self._manifest_path("latest"), self.root):
                raise StoreError(obstacle) from error
            if not isinstance(error, FileNotFoundError):
                message = f"store {self.root}: its folder 'runs' cannot be read: {error.strerror or error}"
                raise StoreError(f"{message}; choose another with {option('store', 'DIR')}") from error
        return (run for _, run in sorted(written, reverse=True))

    def _path(self, kind: str, key: str, suffix: str) -> Path:
        return self.root / kind / key[:2] / f"{key}{suffix}"

    def _tensors_path(self, key: str, part: Part | None) -> Path:
        return self._path("adversarial", key, f".{part[0]}-{part[1]}.safetensors" if part else ".safetensors")

    def _temporary(self) -> Path:
        """Prefix of temporary files, which contains the writer's id so that others see whether it is running."""
        return self.root / "tmp" / f"{self.locks.writer}."

    def _manifest_path(self, run: str) -> Path:
        return self.root / "runs" / f"{run}.json"

    def _read_json(self, path: Path) -> dict[str, Any] | None:
        try:
            envelope = json.loads(read_file(os.fspath(path)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            return self._corrupt(path)
        return envelope if isinstance(envelope, dict) else self._corrupt(path)

    def _corrupt(self, path: Path) -> dict[str, Any] | None:
        """Warns about a damaged entry, which counts as missing."""
        _log.warning("%s is damaged and is not used", path)
        return None

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with self.locks.writing():
                write_atomically(path, content, temporary=self._temporary())
        except OSError as error:
            raise self._unwritable(error, path) from error

    def _unwritable(self, error: Exception, path: Path | None = None) -> StoreError:
        if obstacle := obstacle_to(path or self.root / "tmp" / "file", self.root):
            return StoreError(obstacle)
        reason = getattr(error, "strerror", None) or str(error)
        another = f"choose another with {option('store', 'DIR')}"
        return StoreError(f"store {self.root} cannot be written: {reason}; {another}")
