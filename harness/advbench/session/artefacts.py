"""Writes what attacks have fitted in a stored run into files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.errors import UsageError, listed
from advbench.session.cell_filter import is_part
from advbench.store import Store

if TYPE_CHECKING:
    import torch

__all__ = ["fitted_cell", "write_artefact"]

_COORDINATES = ("dataset", "model", "attack", "defense")
_SURROGATE = "surrogate="
_FACTS = ("attack", "spec", "model", "weights", "image_shape", "num_classes")
_SUFFIXES = (".safetensors", ".png")


def fitted_cell(manifest: Mapping[str, Any], wanted: str) -> Mapping[str, Any]:
    """The cell of a run whose artefact is meant.

    Args:
        manifest: The run's manifest.
        wanted: Coordinates of the cell in any order, separated by spaces: the attack and, if cells differ in what they
            have fitted, other coordinates, such as ``patch adaptive jpeg``. Each is a full spec, a name with some of
            the parameters, or the name that boards show; a surrogate is given as ``surrogate=SPEC``.

    Raises:
        UsageError: No cell has these coordinates, or none of these fits anything, or several fit different things.
    """
    words = wanted.split()
    cells = [cell for cell in manifest["cells"] if words and all(_has(cell, word) for word in words)]
    cells = [cell for cell in cells if all(_names(cell, word) for word in words)] or cells
    run = manifest["run"]
    if not cells:
        known = listed(dict.fromkeys(_label(cell) for cell in manifest["cells"]), 5)
        raise UsageError(f"no cell of run {run} is {wanted!r}; there are: {known}")
    stored = set(manifest.get("entries", {}).get("artefacts", ()))
    fitted = {cell["artefact"]: cell for cell in cells if cell.get("artefact")}
    if not fitted:
        raise UsageError(f"cell {_label(cells[0])!r} of run {run}: its attack is not fitted to data")
    if not stored & fitted.keys():
        raise UsageError(f"cell {_label(cells[0])!r} of run {run}: its attack takes its artefact from a file")
    if len(fitted) > 1:
        labels = listed((_label(cell) for cell in fitted.values()), 5)
        raise UsageError(f"{wanted!r} stands for cells with {len(fitted)} artefacts; give one of: {labels}")
    return next(iter(fitted.values()))


def write_artefact(store: Store, cell: Mapping[str, Any], path: Path) -> str:
    """Writes the artefact of a cell.

    Args:
        store: The store of the run.
        cell: The cell.
        path: The file; its suffix sets the format: ``.safetensors``, or ``.png`` for an artefact with one image.

    Returns:
        A message for the user.

    Raises:
        UsageError: The store no longer has the artefact, or it cannot be written in this format.
    """
    from advbench.store.artefact_files import write_artefact_file

    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{path}: give a file that ends in {' or '.join(_SUFFIXES)}")
    stored = store.read_artefact(cell["artefact"])
    if stored is None:
        raise UsageError("the artefact is damaged or no longer in the store; repeat the run's command with --rerun all")
    tensors, record = stored
    try:
        if path.suffix.lower() == ".png":
            _write_png(path, tensors)
        else:
            write_artefact_file(path, tensors, record["values"], {name: record[name] for name in _FACTS})
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
    return f"wrote {path}: {', '.join(_described(tensors, record['values']))}"


def _described(tensors: Mapping[str, torch.Tensor], values: Mapping[str, float | str]) -> list[str]:
    shapes = [f"{name} {'×'.join(map(str, tensor.shape))}" for name, tensor in tensors.items()]
    return shapes + [
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    ]


def _write_png(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes the only tensor as an image.

    Raises:
        UsageError: There are several tensors, or it is no image.
    """
    from PIL import Image

    from advbench.api.files import replace_atomically

    if len(tensors) != 1:
        raise UsageError(f"{path}: the artefact has {len(tensors)} tensors; give a file that ends in .safetensors")
    ((name, tensor),) = tensors.items()
    image = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    is_image = image.ndim == 3 and image.shape[0] in (1, 3) and image.is_floating_point()
    if not is_image or float(image.min()) < 0 or float(image.max()) > 1:
        raise UsageError(
            f"{path}: {name!r}, of shape {'×'.join(map(str, tensor.shape))}, is no image in [0, 1] with one or three "
            "channels; give a file that ends in .safetensors"
        )
    levels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    with replace_atomically(path) as temporary:
        Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).save(temporary, format="PNG")


def _has(cell: Mapping[str, Any], word: str) -> bool:
    """Whether a word is one of a cell's coordinates."""
    if word == cell["threat"]:
        return True
    if word.startswith(_SURROGATE):
        spec = word.removeprefix(_SURROGATE)
        return _names(cell, word) or (bool(cell.get("surrogate")) and is_part(spec, cell["surrogate"]))
    return any(word in (cell[name], cell["short"][name]) or is_part(word, cell[name]) for name in _COORDINATES)


def _names(cell: Mapping[str, Any], word: str) -> bool:
    """Whether a word is the full or the short spec of one of a cell's coordinates."""
    if word.startswith(_SURROGATE):
        return word.removeprefix(_SURROGATE) in (cell.get("surrogate"), cell["short"].get("surrogate"))
    return word == cell["threat"] or any(word in (cell[name], cell["short"][name]) for name in _COORDINATES)


def _label(cell: Mapping[str, Any]) -> str:
    short: Mapping[str, str] = cell["short"]
    surrogate = [f"{_SURROGATE}{short['surrogate']}"] if "surrogate" in short else []
    coordinates = (short["dataset"], short["model"], short["attack"], cell["threat"], *surrogate, short["defense"])
    return " ".join(coordinates)
