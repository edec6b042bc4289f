"""Lists a dataset with one folder per class: the image files and their class ids."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from advbench.api import DataError
from advbench_datasets.image_files import SUFFIXES

__all__ = ["ClassFolders", "find_classes"]

_SYSTEM_FILES = frozenset(
    {".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db", ".directory", ".gitkeep", ".gitignore"}
)
"""Files that operating systems leave in folders; they are skipped silently."""

_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)
"""Folders that operating systems create; none is a class."""

_MAX_NAMES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The content of a folder with one folder per class.

    Attributes:
        files: Class ids and image files, sorted by id, then by name.
        num_classes: Number of classes.
        names: Class names; None if the folders are named by class ids.
        notes: Messages about what was skipped, one sentence each.
    """

    files: tuple[tuple[int, Path], ...]
    num_classes: int
    names: tuple[str, ...] | None
    notes: tuple[str, ...]


def find_classes(name: str, root: Path, classes: str | None) -> ClassFolders:
    """Lists the classes of a folder.

    Args:
        name: Name of the dataset, for messages.
        root: The folder.
        classes: A number of classes, if the folders are named by class ids; a text file with one class folder per line,
            in the order of ids from 0; or None to sort the folders by name.

    Raises:
        DataError: The folder or file is missing, there are no classes or images, or a folder is not a class.
    """
    if not root.is_dir():
        raise DataError(f"{name}: path={root}: no such folder")
    skipped: list[str] = []
    folders: list[str] = []
    for entry in sorted(root.iterdir()):
        if not entry.is_dir():
            if entry.name.lower() not in _SYSTEM_FILES:
                skipped.append(entry.name)
        elif _is_system_folder(entry.name):
            skipped.append(f"{entry.name}/")
        else:
            folders.append(entry.name)
    if classes is None and len(folders) < 2:
        found = "1 folder" if len(folders) == 1 else f"{len(folders)} folders"
        raise DataError(f"{name}: {root} has {found}; expected one per class, at least two")
    files_by_folder = {folder: _images(root, folder, skipped) for folder in folders}
    empty = [f"{folder}/" for folder in folders if not files_by_folder[folder]]
    if classes is not None:  # classes defines the classes, so empty folders do not count
        folders = [folder for folder in folders if files_by_folder[folder]]
    ids, count, names = _ids(name, root, folders, classes)
    files = [(ids[folder], file) for folder in sorted(folders, key=ids.__getitem__) for file in files_by_folder[folder]]
    if not files:
        raise DataError(f"{name}: the {len(files_by_folder)} folders in {root} hold no image files")
    notes = []
    if empty and classes is None:
        notes.append(
            f"{name}: {root}: no images in {_format_names(empty)}, which still counts as a class; remove "
            "it if it is none"
        )
    if skipped:
        notes.append(f"{name}: {root}: skipped hidden files and files that are not images: {_format_names(skipped)}")
    return ClassFolders(tuple(files), count, names, tuple(notes))


def _images(root: Path, folder: str, skipped: list[str]) -> list[Path]:
    """Returns the image files in a class's folder and its subfolders, sorted; adds other files to ``skipped``."""
    relative_paths: list[tuple[str, ...]] = []
    for directory, folders, files in os.walk(root / folder):
        parts = Path(directory).relative_to(root).parts
        skipped += [
            "/".join((*parts, folder_name, "")) for folder_name in sorted(folders) if _is_system_folder(folder_name)
        ]
        folders[:] = [folder_name for folder_name in folders if not _is_system_folder(folder_name)]
        for file in sorted(files):
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES:  # noqa: PTH122  many files
                relative_paths.append((*parts, file))
            elif file.lower() not in _SYSTEM_FILES and not file.startswith("._"):
                skipped.append("/".join((*parts, file)))
    return [root.joinpath(*parts) for parts in sorted(relative_paths)]


def _is_system_folder(folder: str) -> bool:
    """Returns whether a folder is hidden, or created by an operating system."""
    return folder.startswith(".") or folder.lower() in _SYSTEM_FOLDERS


def _ids(
    name: str, root: Path, folders: Sequence[str], classes: str | None
) -> tuple[Mapping[str, int], int, tuple[str, ...] | None]:
    """Returns the folders' class ids, the number of classes, and their names."""
    if classes is None:
        return {folder: index for index, folder in enumerate(folders)}, len(folders), tuple(folders)
    if classes.isascii() and classes.isdigit():
        return _numeric_ids(name, root, folders, int(classes)), int(classes), None
    class_folders, names = _read_class_list(name, classes, folders)
    ids = {folder: index for index, folder in enumerate(class_folders)}
    unknown = [folder for folder in folders if folder not in ids]
    if unknown:
        raise DataError(f"{name}: {root} has {_format_names(unknown)}, not in classes={classes}; add or remove it")
    return ids, len(class_folders), names


def _numeric_ids(name: str, root: Path, folders: Sequence[str], count: int) -> dict[str, int]:
    """Returns the class ids that the folders are named by."""
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


def _read_class_list(name: str, file: str, folders: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Reads the class folders from a text file, one per line, and class names: what follows, or the folder's name."""
    path = Path(file).expanduser()
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise DataError(f"{name}: classes={file} cannot be read: {reason}; give a number or a text file") from error
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if "" in lines:
        raise DataError(f"{name}: classes={file}: line {lines.index('') + 1} is empty; a line's number is the class id")
    first_words = [line.split(maxsplit=1)[0] for line in lines]
    whole_lines = not all(folder in set(first_words) for folder in folders) or all(
        folder in set(lines) for folder in folders
    )
    class_folders = lines if whole_lines else first_words
    duplicate = next((line for index, line in enumerate(class_folders) if line in class_folders[:index]), None)
    if duplicate is not None:
        raise DataError(f"{name}: classes={file} has {duplicate!r} twice")
    if len(class_folders) < 2:
        raise DataError(f"{name}: classes={file} has {len(class_folders)} line; expected one per class, at least two")
    if whole_lines:
        return class_folders, tuple(class_folders)
    return class_folders, tuple(
        line[len(head) :].strip() or head for line, head in zip(lines, first_words, strict=True)
    )


def _format_names(names: Sequence[str]) -> str:
    """Formats the first few names, and the total number."""
    shown = ", ".join(name if name.isprintable() else ascii(name)[1:-1] for name in names[:_MAX_NAMES_SHOWN])
    return f"{shown} … ({len(names):,} in all)" if len(names) > _MAX_NAMES_SHOWN else shown
