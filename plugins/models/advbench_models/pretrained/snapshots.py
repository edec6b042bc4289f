"""Finds the files of a model in a local folder, in the cache of the Hugging Face hub, or on the hub."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advbench.api import WeightsError, sha256_file
from advbench_models.pretrained.packages import missing_package, one_line

__all__ = ["Snapshot", "find_snapshot", "local_snapshot"]

_CONFIG = "config.json"
_PATTERNS = ("*.json", "*.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Snapshot:
    """A model's files, in the layout of the hub: ``config.json`` and ``*.safetensors``.

    Attributes:
        folder: The folder.
        commit: The commit on the hub, or "" for a local folder.
    """

    folder: Path
    commit: str = ""

    @property
    def weights(self) -> tuple[Path, ...]:
        """The files of the weights: ``model.safetensors``, or the parts that its index names."""
        single = self.folder / "model.safetensors"
        if single.is_file():
            return (single,)
        try:
            index = json.loads((self.folder / "model.safetensors.index.json").read_text("utf-8"))
            return tuple(self.folder / name for name in sorted(set(index["weight_map"].values())))
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return ()

    def config(self, label: str) -> dict[str, Any]:
        """The content of ``config.json``.

        Raises:
            WeightsError: It cannot be read.
        """
        path = self.folder / _CONFIG
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{label}: {path} cannot be read ({one_line(error)})") from error
        if not isinstance(content, dict):
            raise WeightsError(f"{label}: {path} is not the configuration of a model")
        return content

    def digest(self) -> str:
        """SHA-256 of the commit and of the content of all files that a loader reads."""
        files = sorted({*self.folder.glob("*.json"), *self.weights})
        lines = [self.commit, *(f"{path.name} {sha256_file(path)}" for path in files)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def local_snapshot(folder: Path, label: str) -> Snapshot:
    """A local folder in the layout of the hub.

    Raises:
        WeightsError: The folder, its configuration or its weights are missing, or the weights are pickled.
    """
    if not folder.is_dir():
        raise WeightsError(f"{label}: there is no folder {folder}")
    return _checked(Snapshot(folder), label)


def find_snapshot(repository: str, revision: str | None, *, label: str, extra: str) -> Snapshot:
    """A repository of the Hugging Face hub: from the hub's cache if it is there, else it is downloaded.

    A branch or a tag in the cache is used as it is there, without asking the hub for a newer commit, so that all
    processes of a run use the same files.

    Args:
        repository: ``organisation/name``.
        revision: A branch, a tag or a commit; None for ``main``.
        label: The model with its parameters, for messages.
        extra: The extra of advbench that installs ``huggingface_hub``.

    Raises:
        ParameterError: ``huggingface_hub`` is not installed.
        WeightsError: The repository cannot be found or downloaded, or has no safetensors.
    """
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise missing_package("huggingface_hub", extra, error) from error
    command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    where = f"{repository}@{revision}" if revision else repository

    def fetched(*, offline: bool) -> Snapshot:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(_PATTERNS), local_files_only=offline
        )
        return Snapshot(Path(folder), Path(folder).name)

    try:
        cached = fetched(offline=True)
        if (cached.folder / _CONFIG).is_file() and cached.weights and all(path.is_file() for path in cached.weights):
            return cached
    except errors.HFValidationError as error:
        raise WeightsError(f"{label}: {one_line(error)}; give organisation/name, or a folder") from error
    except Exception:  # not in the cache, or not in full; the exception depends on the hub's version
        cached = None
    if constants.HF_HUB_OFFLINE:
        if cached is not None:
            return _checked(cached, label)
        raise WeightsError(
            f"{label}: {where} is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set; run "
            f"'{command}' with a network, or give a local folder"
        )
    try:
        return _checked(fetched(offline=False), label)
    except WeightsError:
        raise
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"{label}: the hub has no {repository}, or it needs a login; check the name, or run 'hf auth login'"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{label}: {repository} has no revision {revision}") from error
    except Exception as error:
        raise WeightsError(
            f"{label}: {where} cannot be downloaded ({one_line(error)}); run '{command}' with a network, or give a "
            "local folder"
        ) from error


def _checked(snapshot: Snapshot, label: str) -> Snapshot:
    folder = snapshot.folder
    if not (folder / _CONFIG).is_file():
        raise WeightsError(f"{label}: {folder} has no {_CONFIG}; it must have the files of a repository of the hub")
    missing = [path.name for path in snapshot.weights if not path.is_file()]
    if snapshot.weights and not missing:
        return snapshot
    if missing:
        raise WeightsError(f"{label}: {folder} lacks {missing[0]}, which its index names; download it again")
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    has = f"has only pickled weights ({pickles[0]}), which could run code" if pickles else "has no .safetensors file"
    raise WeightsError(
        f"{label}: {folder if not snapshot.commit else 'the repository'} {has}; save model.safetensors, for example "
        "with save_pretrained(FOLDER) in a process that trusts them"
    )
