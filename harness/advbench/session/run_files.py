"""The files that a stored run used: its plugins, and the folder from which its specs name files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.api.files import sha256_file
from advbench.errors import SpecError
from advbench.specs import parse_chain

__all__ = ["missing_file", "plugin_files_of", "spec_folder_of"]

_AXES_WITH_FILES = ("dataset", "model", "defense")
"""The axes whose specs may name files that example images need."""


def plugin_files_of(manifest: Mapping[str, Any], given: Sequence[Path]) -> tuple[tuple[Path, ...], list[str]]:
    """The plugin files to load for a stored run, and what is wrong with those that are not loaded.

    A file is loaded if its content is that of the run. A given file takes the place of the run's file with the same
    path, content or name.

    Args:
        manifest: The manifest of the run.
        given: Resolved paths of the files that the user names. They are loaded in any case.

    Returns:
        The files, and one message for each file that has changed or is gone; it names the flag to use.
    """
    files, problems = [], []
    given_digests = {_digest(file) for file in given}
    for plugin in manifest.get("plugins", ()):
        if not isinstance(plugin, Mapping) or not str(plugin.get("distribution")).startswith("file "):
            continue
        file, wanted = (
            Path(str(plugin.get("name"))),
            plugin.get("sha256"),
        )  # manifests of earlier versions have no digest
        if (wanted and wanted in given_digests) or any(file == one or file.name == one.name for one in given):
            continue
        now = _digest(file)
        if now is None:
            problems.append(f"the run's plugin file {file} is gone; give its new path with --plugin FILE")
        elif now != wanted:
            what = "has changed since the run" if wanted else "may have changed since the run"
            problems.append(f"the run's plugin file {file} {what}; to use it as it is now, add --plugin {file}")
        else:
            files.append(file)
    return (*files, *given), problems


def spec_folder_of(manifest: Mapping[str, Any]) -> Path | None:
    """The folder in which the relative paths of a run's specs are files; None for the current one.

    This is the folder of the run, unless it no longer exists or the files are only in the current folder.
    """
    folder = Path(str(manifest.get("folder") or ""))  # manifests of earlier versions have none
    if not folder.is_absolute() or not folder.is_dir():
        return None
    moved = any(not (folder / path).exists() and path.exists() for path in _relative_paths(manifest))
    return None if moved else folder


def missing_file(manifest: Mapping[str, Any], described: Mapping[str, Any], error: str) -> str:
    """Which file of a cell's specs is gone, and what to do; empty if the error is about something else.

    Args:
        manifest: The manifest of the run.
        described: The cell, as the manifest describes it.
        error: The message of the error that loading its components has raised.
    """
    folder = Path(str(manifest.get("folder") or ""))
    for path in _paths(described[axis] for axis in _AXES_WITH_FILES):
        named = re.search(rf"(?<!\w){re.escape(path.name)}(?!\w)", error)
        if named is None or path.exists() or not (_looks_like_path(path) or "no such" in error):
            continue
        if path.is_absolute():
            return f"{path} no longer exists; put it back to see these samples"
        if not folder.is_absolute():
            return f"{path} is not here; run this command in the folder that has it"
        if not (folder / path).exists():
            return (
                f"{path} is neither in the run's folder {folder} nor here; run this command in the folder that has it"
            )
        if spec_folder_of(manifest) is None:
            return (
                f"{path} is in the run's folder {folder}, and other files of the run are here; copy them into one "
                "folder and run this command there"
            )
    return ""


def _looks_like_path(path: Path) -> bool:
    """Whether a value is a path rather than a number or a word."""
    return (bool(path.suffix) or len(path.parts) > 1) and any(character.isalpha() for character in path.name)


def _relative_paths(manifest: Mapping[str, Any]) -> Iterator[Path]:
    """Whatever in the specs may be a relative path, such as ``net.py`` in ``torch-module:build=net.py:Net``."""
    specs = dict.fromkeys(cell[axis] for cell in manifest["cells"] for axis in _AXES_WITH_FILES)
    return (path for path in _paths(specs) if not path.is_absolute())


def _paths(specs: Iterable[str]) -> Iterator[Path]:
    """Whatever in specs may be a path; of ``net.py:Net`` first ``net.py``."""
    for spec in specs:
        try:
            terms = parse_chain(spec)
        except SpecError:
            continue
        for text in (text for term in terms for _, values in term.items for text in values):
            file = text.rpartition(":")[0]
            if file:
                yield Path(file).expanduser()
            if not Path(file).suffix:
                yield Path(text).expanduser()


def _digest(file: Path) -> str | None:
    """The digest of a file's content; None if it cannot be read."""
    try:
        return sha256_file(file)
    except (OSError, ValueError):
        return None
