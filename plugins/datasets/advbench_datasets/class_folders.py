"""A folder for each class: which files are samples, and which numbers their classes have."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from advbench.api import DataError
from advbench_datasets.image_files import SUFFIXES

__all__ = ["ClassFolders", "find_classes"]

_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db", ".directory", ".gitkeep", ".gitignore"})
"""Files that systems leave in folders; nobody needs to hear of them."""

_SYSTEM = frozenset({"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""Folders that systems leave; none is a class."""

_NAMED = 3


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """What lies in a folder with a folder for each class.

    Attributes:
        files: The image files with their class ids, by id and then by name.
        num_classes: How many classes there are.
        names: Their names; None where the folders are named by the ids.
        notes: What was left out, a sentence each.
    """

    files: tuple[tuple[int, Path], ...]
    num_classes: int
    names: tuple[str, ...] | None
    notes: tuple[str, ...]


def find_classes(name: str, root: Path, classes: str | None) -> ClassFolders:
    """Lists the classes of a folder.

    Args:
        name: What messages begin with.
        root: The folder.
        classes: A number of classes, whose folders are named by their ids; a text file with a class folder a line,
            whose number from 0 is the id; or None: the folders by name.

    Raises:
        DataError: There is no such folder or file, no class, no image in any, or a folder that is no class.
    """
    if not root.is_dir():
        raise DataError(f"{name}: path={root}: no such folder")
    skipped: list[str] = []
    folders: list[str] = []
    for entry in sorted(root.iterdir()):
        if not entry.is_dir():
            if entry.name.lower() not in _LITTER:
                skipped.append(entry.name)
        elif _is_systems(entry.name):
            skipped.append(f"{entry.name}/")
        else:
            folders.append(entry.name)
    if classes is None and len(folders) < 2:
        raise DataError(f"{name}: {root} has {len(folders)} folders; expected one a class, at least two")
    found = {folder: _images(root, folder, skipped) for folder in folders}
    empty = [f"{folder}/" for folder in folders if not found[folder]]
    if classes is not None:  # which says itself what the classes are
        folders = [folder for folder in folders if found[folder]]
    ids, count, names = _ids(name, root, folders, classes)
    files = [(ids[folder], file) for folder in sorted(folders, key=ids.__getitem__) for file in found[folder]]
    if not files:
        raise DataError(f"{name}: the {len(found)} folders in {root} hold no image files")
    notes = []
    if empty and classes is None:
        notes.append(
            f"{name}: {root}: no images in {_listed(empty)}, which keeps a class id all the same; if it is no class, "
            "remove it"
        )
    if skipped:
        notes.append(f"{name}: {root}: left out, since hidden or no image file: {_listed(skipped)}")
    return ClassFolders(tuple(files), count, names, tuple(notes))


def _images(root: Path, folder: str, skipped: list[str]) -> list[Path]:
    """The image files in a class's folder and in folders within it, by name; what else is there is noted."""
    found: list[tuple[str, ...]] = []
    for place, folders, files in os.walk(root / folder):
        parts = Path(place).relative_to(root).parts
        skipped += ["/".join((*parts, one, "")) for one in sorted(folders) if _is_systems(one)]
        folders[:] = [one for one in folders if not _is_systems(one)]
        for file in sorted(files):
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES:  # noqa: PTH122  many files
                found.append((*parts, file))
            elif file.lower() not in _LITTER and not file.startswith("._"):
                skipped.append("/".join((*parts, file)))
    return [root.joinpath(*parts) for parts in sorted(found)]


def _is_systems(folder: str) -> bool:
    """Whether a folder is hidden, or one that systems leave."""
    return folder.startswith(".") or folder.lower() in _SYSTEM


def _ids(
    name: str, root: Path, folders: Sequence[str], classes: str | None
) -> tuple[Mapping[str, int], int, tuple[str, ...] | None]:
    """The class ids of the folders, how many classes there are, and their names."""
    if classes is None:
        return {folder: place for place, folder in enumerate(folders)}, len(folders), tuple(folders)
    if classes.isascii() and classes.isdigit():
        return _numbered(name, root, folders, int(classes)), int(classes), None
    listed, names = _listed_classes(name, classes, folders)
    ids = {folder: place for place, folder in enumerate(listed)}
    unknown = [folder for folder in folders if folder not in ids]
    if unknown:
        raise DataError(f"{name}: {root} has {_listed(unknown)}, not in classes={classes}; add or remove it")
    return ids, len(listed), names


def _numbered(name: str, root: Path, folders: Sequence[str], count: int) -> dict[str, int]:
    """The ids by which the folders are named."""
    ids: dict[str, int] = {}
    for folder in folders:
        number = int(folder) if folder.isascii() and folder.isdigit() else -1
        if not 0 <= number < count:
            raise DataError(
                f"{name}: {root} has the folder {folder!r}; with classes={count} folders are named by class ids from 0 "
                f"to {count - 1}"
            )
        if number in ids.values():
            raise DataError(f"{name}: {root} has two folders for the class {number}, {folder!r} and another; join them")
        ids[folder] = number
    return ids


def _listed_classes(name: str, file: str, folders: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The folders' names in a text file, a line each, and the classes' names: what follows them, or the same."""
    path = Path(file).expanduser()
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise DataError(f"{name}: classes={file} cannot be read: {reason}; give a number or a text file") from error
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if "" in lines:
        raise DataError(f"{name}: classes={file}: line {lines.index('') + 1} is empty; a line's number is the class id")
    heads = [line.split(maxsplit=1)[0] for line in lines]
    whole = not all(folder in set(heads) for folder in folders) or all(folder in set(lines) for folder in folders)
    listed = lines if whole else heads
    twice = next((line for place, line in enumerate(listed) if line in listed[:place]), None)
    if twice is not None:
        raise DataError(f"{name}: classes={file} has {twice!r} twice")
    if len(listed) < 2:
        raise DataError(f"{name}: classes={file} has {len(listed)} line; expected one a class, at least two")
    if whole:
        return listed, tuple(listed)
    return listed, tuple(line[len(head) :].strip() or head for line, head in zip(lines, heads, strict=True))


def _listed(names: Sequence[str]) -> str:
    """The first few names, and how many there are."""
    shown = ", ".join(name if name.isprintable() else ascii(name)[1:-1] for name in names[:_NAMED])
    return f"{shown} … ({len(names):,} in all)" if len(names) > _NAMED else shown
