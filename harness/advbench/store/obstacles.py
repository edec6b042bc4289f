"""What is in the way where a store keeps a folder or a file, for the message when it cannot be read or written."""

from __future__ import annotations

import os
from pathlib import Path

from advbench.option_names import option

__all__ = ["obstacle_to"]


def obstacle_to(path: Path, root: Path) -> str:
    """What is in the way of a file of a store, and what to do about it.

    Args:
        path: The file.
        root: The folder of the store.

    Returns:
        A line for users; empty if the folders of the store, and the file if it exists, are what they should be.
    """
    if _is_no_folder(root):
        return f"store {root} {_description(root)}; choose another with {option('store', 'DIR')}"
    advice = "move it away and repeat the command"
    inner = [root / "tmp", *(folder for folder in reversed(path.parents) if folder.is_relative_to(root))]
    for folder in filter(_is_no_folder, inner):
        return f"{folder} {_description(folder)}, but the store keeps files in a folder there; {advice}"
    if path.is_dir():
        return f"{path} is a folder, but the store keeps a file there; {advice}"
    if path.is_symlink() and not path.exists():
        return f"{path} is a symbolic link that leads to no file; {advice}"
    return ""


def _is_no_folder(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_dir()


def _description(path: Path) -> str:
    return "is a symbolic link that leads to no folder" if path.is_symlink() else "is not a folder"
