"""Content-addressed results on disk.

::

    STORE/adversarial/3f/3f9a….safetensors   adversarial images of one chunk of samples, with what was measured;
                                             as 8 bits where these hold every pixel exactly
    STORE/clean/…/….json                     a defended model's predictions on clean images
    STORE/cells/…/….json                     cells: per-sample predictions and distances, or a failure
    STORE/networks/…/….json                  what networks answered on a few fixed images when their results were made
    STORE/runs/RUN.json                      manifests: what a run consists of
    STORE/tmp/WRITER.….tmp                   what is being written, or a killed writer has left; and a note for each
                                             task under way that has a limit of time, which tells when its time was up
    STORE/lock                               who works on what; empty

While adversarial images of a chunk are being made, parts of it lie beside it, as ``KEY.START-STOP.safetensors``.

Every entry is written under a temporary name and renamed, holds the material that its key is the digest of,
and a checksum of its content. What does not check out is a miss with a warning, never a wrong number.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from advbench.api.files import replace_atomically, write_atomically
from advbench.errors import StoreError
from advbench.store.columns import from_columns, to_columns
from advbench.store.keys import canonical_json, digest_of
from advbench.store.locks import locks_of
from advbench.store.packing import as_bytes, as_floats, pack, unpack

__all__ = ["SCHEMA", "Store"]

SCHEMA = 2
"""Version of the entries' form and of the meaning of keys. Raised whenever a stored result would no longer be
what the same command computes, for a reason that no other part of the key shows."""

_RUN = re.compile(r"[0-9a-f]{12}")
_TEMPORARY = re.compile(r"([0-9a-f]{15})\..*\.tmp")
_IMAGES = "images"
_STALE = 3600.0
"""Seconds after which a temporary file is taken for left behind, where nothing tells whether its writer lives."""

_HEAD, _MIDDLE, _TAIL = b'{"material":', b',"record":', b',"sha256":"'
"""What stands around the parts of a JSON entry: its keys in their order, as in all canonical JSON."""

_DECODER = json.JSONDecoder()

_PIECE = 1 << 20
"""Bytes of a file that are read at once."""

_ENDS_IN = 2.0
"""Seconds for which a process that is known to have ended may still seem to live."""

Part = tuple[int, int]
"""Some samples of a chunk: the place of the first, and of the first after them."""

_log = logging.getLogger("advbench.store")


class Store:
    """Results under one folder.

    Args:
        root: The folder; created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locks = locks_of(root / "lock")

    def check_writable(self) -> None:
        """Makes the folder and tries a write.

        Raises:
            StoreError: It cannot be written.
        """
        probe = self.root / f".probe-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from error

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """Claims the making of an entry while the block runs; gives whether no other process makes it now."""
        return self.locks.claim(key)

    def sweep(self) -> None:
        """Removes what killed writers have left behind: what they were writing, and parts of chunks that are whole."""
        for path in (self.root / "tmp").glob("*.tmp"):
            found = _TEMPORARY.fullmatch(path.name)
            with suppress(OSError):
                gone = None if found is None else self.locks.writer_is_gone(found[1])
                if gone or (gone is None and time.time() - path.stat().st_mtime > _STALE):
                    path.unlink()
        for path in (self.root / "adversarial").glob("*/*.*-*.safetensors"):
            whole = path.with_name(f"{path.name.partition('.')[0]}{path.suffix}")
            with suppress(OSError):
                if path.stat().st_mtime_ns <= whole.stat().st_mtime_ns:  # else it is of a run that makes it again
                    path.unlink()

    @contextmanager
    def sign(self) -> Iterator[str]:
        """Leaves a sign in the folder while the block runs, by which other machines see whether they share it."""
        with self.locks.writing():
            path = self.root / "tmp" / f"{self.locks.writer}.sign-{secrets.token_hex(8)}.tmp"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield path.name
            finally:
                path.unlink(missing_ok=True)

    def sees_sign(self, token: str) -> bool:
        """Whether such a sign is in the folder."""
        return (self.root / "tmp" / token).exists()

    @contextmanager
    def timeout_marker(self, task: str) -> Iterator[IO[str]]:
        """A file that goes with the block, and outlives a process that ends in it; the null device where there is none.

        Args:
            task: What is done meanwhile, a trial or a task, as letters and digits.
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

    def ended_at(self, task: str, *, surely: bool = False) -> list[bool]:
        """For each process that ended at a task, and so left its note of time, whether it had noted anything.

        Args:
            task: The task, as in :meth:`timeout_marker`.
            surely: Whether one is known to have ended: it is waited for where it still ends, and where nothing tells
                who lives, all who left a note are taken to have ended.
        """
        until = time.monotonic() + (_ENDS_IN if surely else 0.0)
        while True:
            notes = list((self.root / "tmp").glob(f"*.time-{task}.tmp"))
            alive = [path for path in notes if not self._is_gone(path, unknown=surely)]
            if not alive or len(alive) < len(notes) or time.monotonic() >= until:
                break
            time.sleep(0.05)
        found = []
        for path in notes:
            with suppress(OSError):
                if path not in alive:
                    found.append(path.stat().st_size > 0)
        return found

    def forget_ended(self, task: str) -> None:
        """Removes the notes of processes that ended at a task."""
        for path in (self.root / "tmp").glob(f"*.time-{task}.tmp"):
            with suppress(OSError):
                if self._is_gone(path, unknown=False):
                    path.unlink()

    def _is_gone(self, temporary: Path, *, unknown: bool) -> bool:
        """Whether the writer of a temporary file has ended; what is not known is taken to be ``unknown``."""
        gone = self.locks.writer_is_gone(temporary.name.partition(".")[0])
        return unknown if gone is None else gone

    def read_record(self, kind: str, key: str, *, arrays: bool = False) -> dict[str, Any] | None:
        """A JSON entry's record, or None where there is none that checks out.

        Args:
            kind: ``cells``, ``clean`` or ``networks``.
            key: The digest of its material.
            arrays: Whether its long lists of numbers come as arrays, which takes a fraction of the time.
        """
        try:
            content = _content(f"{self.root}/{kind}/{key[:2]}/{key}.json")
        except FileNotFoundError:
            return None
        except OSError:
            return self._corrupt(self._path(kind, key, ".json"))
        try:
            record = _checked(content, key)
            if record is not None:
                return unpack(record, arrays=arrays)
        except (ValueError, TypeError, KeyError, AttributeError):  # it is no such JSON
            pass
        return self._corrupt(self._path(kind, key, ".json"))

    def read_key_inputs(self, kind: str, key: str) -> dict[str, Any] | None:
        """What a JSON entry's key is the digest of, or None where there is no such entry."""
        envelope = self._read_json(self._path(kind, key, ".json"))
        key_inputs = None if envelope is None else envelope.get("material")
        return key_inputs if isinstance(key_inputs, dict) and digest_of(key_inputs) == key else None

    def write_record(self, kind: str, key_inputs: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Writes a JSON entry under the digest of its material; long lists of numbers are packed."""
        packed = pack(record)
        envelope = {"sha256": digest_of(packed), "material": key_inputs, "record": packed}
        self._write(self._path(kind, digest_of(key_inputs), ".json"), canonical_json(envelope))

    def read_tensors(self, key: str, part: Part | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Adversarial images of a chunk, or of a part of it, with their record, or None where none check out."""
        path = self._tensors(key, part)
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["advbench"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, KeyError, ValueError):
            self._corrupt(path)
            return None
        record, told = header.get("record"), header.get("part")
        whole = digest_of(header.get("material")) == key and (told or None) == (part and list(part))
        if not whole or header.get("sha256") != _tensors_digest(tensors, record):
            self._corrupt(path)
            return None
        if _IMAGES in tensors and tensors[_IMAGES].dtype == torch.uint8:
            tensors[_IMAGES] = as_floats(tensors[_IMAGES])
        return tensors, record

    def write_tensors(
        self,
        key_inputs: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        record: Mapping[str, Any],
        part: Part | None = None,
    ) -> None:
        """Writes adversarial images, float32, under the digest of their material; as 8 bits where these hold them."""
        levels = as_bytes(tensors[_IMAGES])
        kept = dict(tensors) if levels is None else {**tensors, _IMAGES: levels}
        header: dict[str, Any] = {"sha256": _tensors_digest(kept, record), "material": key_inputs, "record": record}
        if part is not None:
            header["part"] = list(part)
        path = self._tensors(digest_of(key_inputs), part)
        try:
            with self.locks.writing(), replace_atomically(path, temporary=self._temporary()) as temporary:
                save_file(kept, temporary, metadata={"advbench": canonical_json(header).decode()})
        except (OSError, SafetensorError) as error:
            raise self._unwritable(error) from error

    def remove_parts(self, key: str) -> None:
        """Removes the parts of a chunk, which is whole now."""
        for path in (self.root / "adversarial" / key[:2]).glob(f"{key}.*-*.safetensors"):
            with suppress(OSError):
                path.unlink()

    def read_manifest(self, run: str) -> dict[str, Any] | None:
        """A run's manifest, or None where there is none that checks out."""
        path = self._manifest(run)
        envelope = self._read_json(path)
        if envelope is None:
            return None
        manifest = envelope.get("manifest")
        if not isinstance(manifest, dict) or digest_of(manifest) != envelope.get("sha256"):
            return self._corrupt(path)
        try:
            manifest["cells"] = from_columns(manifest["cells"])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return self._corrupt(path)
        return manifest if manifest["run"] == run else self._corrupt(path)

    def write_manifest(self, run: str, manifest: Mapping[str, Any]) -> None:
        """Writes a run's manifest."""
        packed = {**manifest, "cells": to_columns(manifest["cells"])}
        envelope = {"sha256": digest_of(packed), "manifest": packed}
        # In the order in which boards show things, and without indentation, which takes json's slow path.
        self._write(self._manifest(run), json.dumps(envelope, separators=(",", ":")).encode())

    def runs(self) -> Iterator[str]:
        """Ids of the runs in the store, the one last written first."""
        manifests = sorted((self.root / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return (manifest.stem for manifest in manifests if _RUN.fullmatch(manifest.stem))

    def _path(self, kind: str, key: str, suffix: str) -> Path:
        return self.root / kind / key[:2] / f"{key}{suffix}"

    def _tensors(self, key: str, part: Part | None) -> Path:
        return self._path("adversarial", key, f".{part[0]}-{part[1]}.safetensors" if part else ".safetensors")

    def _temporary(self) -> Path:
        """With what names of temporary files begin, so that others see whether their writer lives."""
        return self.root / "tmp" / f"{self.locks.writer}."

    def _manifest(self, run: str) -> Path:
        return self.root / "runs" / f"{run}.json"

    def _read_json(self, path: Path) -> dict[str, Any] | None:
        try:
            envelope = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return self._corrupt(path)
        return envelope if isinstance(envelope, dict) else self._corrupt(path)

    def _corrupt(self, path: Path) -> dict[str, Any] | None:
        """Warns of a damaged entry, which counts as a miss."""
        _log.warning("%s is damaged and is not used", path)
        return None

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with self.locks.writing():
                write_atomically(path, content, temporary=self._temporary())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> StoreError:
        reason = getattr(error, "strerror", None) or str(error)
        return StoreError(f"store {self.root} cannot be written: {reason}; choose another with --store DIR")


def _checked(content: bytes, key: str) -> dict[str, Any] | None:
    """The record of an entry, or None where the entry is not what was written under the key.

    What was written is the one JSON text of the entry, so that the digests are those of its bytes as they stand, and
    nothing is parsed before it has been found to be what was written.
    """
    told = content[-len(_TAIL) - 66 :]
    if not content.startswith(_HEAD) or not told.startswith(_TAIL) or not told.endswith(b'"}'):
        return None
    start = len(_HEAD)
    while (end := content.find(_MIDDLE, start)) >= 0:  # what looks like the end of the material may be a part of it
        if hashlib.sha256(content[len(_HEAD) : end]).hexdigest() == key:
            text = content[end + len(_MIDDLE) : -len(told)]
            return _parsed(text) if hashlib.sha256(text).hexdigest().encode() == told[len(_TAIL) : -2] else None
        start = end + 1
    return None


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A record of this JSON text, or None where it is that of something else."""
    written = text.decode()
    record, end = _DECODER.raw_decode(written)
    return record if isinstance(record, dict) and end == len(written) else None


def _content(path: str) -> bytes:
    """A whole file; of a hundred thousand small ones, objects of paths and files would take seconds.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        content = os.read(descriptor, _PIECE)
        while piece := os.read(descriptor, _PIECE):
            content += piece
    finally:
        os.close(descriptor)
    return content


def _tensors_digest(tensors: Mapping[str, torch.Tensor], record: Any) -> str:
    sha = hashlib.sha256(canonical_json(record))
    for name in sorted(tensors):
        array = tensors[name].contiguous().numpy()
        sha.update(f"{name}{array.dtype}{array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()
