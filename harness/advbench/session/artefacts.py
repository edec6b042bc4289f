"""Writes what attacks and defenses have fitted in a stored run into files."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.errors import UsageError, listed
from advbench.session.cell_filter import is_part
from advbench.specs import parse_chain
from advbench.store import Store

if TYPE_CHECKING:
    import torch

__all__ = ["FittedArtefact", "fitted_artefact", "write_artefact"]

_COORDINATES = ("dataset", "model", "attack", "defense")
_SURROGATE = "surrogate="
_FACTS = ("attack", "spec", "model", "weights", "image_shape", "num_classes")
_DEFENSE_FACTS = ("defense", "chain", "short", "part")
_WORD = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*"?)+')
"""What stands between spaces; there may be spaces in quotes."""
_SUFFIXES = (".safetensors", ".png")


@dataclasses.dataclass(frozen=True)
class FittedArtefact:
    """What a component of a cell has fitted.

    Attributes:
        key: Its key in the store, or the digest of the file from which the component takes it.
        owner: ``attack``, or the name of the part of the defense.
        part: The number of that part in the chain, from 1; 0 for the attack.
    """

    key: str
    owner: str
    part: int = 0

    @property
    def label(self) -> str:
        """What messages call the component."""
        return f"defense {self.owner!r}" if self.part else "the attack"


def fitted_artefact(manifest: Mapping[str, Any], wanted: str, of: str = "") -> FittedArtefact:
    """The artefact of a cell of a run.

    Args:
        manifest: The run's manifest.
        wanted: Coordinates of the cell in any order, separated by spaces: the attack or the defense and, if cells
            differ in what they have fitted, other coordinates, such as ``patch adaptive jpeg``. Each is a full spec, a
            name with some of the parameters, or the name that boards show; a surrogate is given as ``surrogate=SPEC``.
        of: Whose artefact: ``attack``, ``defense``, or the name or number of a part of the defense. By default that of
            the attack if ``wanted`` names it, or else of the defense if it names that.

    Raises:
        UsageError: No cell has these coordinates, or none of these fits anything, or several fit different things, or
            several components of a cell fit something.
    """
    cells, words = _cells(manifest, wanted)
    where = f"cell {_label(cells[0])!r} of run {manifest['run']}"
    every: dict[FittedArtefact, Mapping[str, Any]] = {}
    for cell in cells:
        for found in _artefacts(cell):
            every.setdefault(found, cell)
    if not every:
        raise UsageError(f"{where}: neither its attack nor its defense is fitted to data")
    named = of or _named_kind(cells, words)
    fitted = {found: cell for found, cell in every.items() if _is_of(found, named)} or ({} if of else every)
    if not fitted:
        known = listed(dict.fromkeys(found.label for found in every), 5)
        raise UsageError(f"{where}: {of!r} is not fitted to data; what is fitted: {known}")
    stored = set(manifest.get("entries", {}).get("artefacts", ()))
    in_store = {found: cell for found, cell in fitted.items() if found.key in stored}
    if not in_store:
        raise UsageError(f"{where}: {next(iter(fitted)).label} takes its artefact from a file")
    if any(sum(found in in_store for found in _artefacts(cell)) > 1 for cell in cells):
        raise UsageError(f"{wanted!r}: {_choices(in_store)}")
    if len(in_store) > 1:
        labels = listed(dict.fromkeys(_label(cell) for cell in in_store.values()), 5)
        raise UsageError(f"{wanted!r} stands for cells with {len(in_store)} artefacts; give one of: {labels}")
    return next(iter(in_store))


def _cells(manifest: Mapping[str, Any], wanted: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The cells with these coordinates, at least one, and the coordinates one by one."""
    words = _WORD.findall(wanted)
    cells = [cell for cell in manifest["cells"] if words and all(_has(cell, word) for word in words)]
    cells = [cell for cell in cells if all(_names(cell, word) for word in words)] or cells
    if not cells:
        known = listed(dict.fromkeys(_label(cell) for cell in manifest["cells"]), 5)
        raise UsageError(f"no cell of run {manifest['run']} is {wanted!r}; there are: {known}")
    return cells, words


def _named_kind(cells: Sequence[Mapping[str, Any]], words: Sequence[str]) -> str:
    """Whether words name the attack of cells, or else the defense; empty if they name neither."""
    kinds = ("attack", "defense")
    return next((kind for kind in kinds if any(_has(cells[0], word, (kind,)) for word in words)), "")


def _choices(fitted: Iterable[FittedArtefact]) -> str:
    """How to choose between components that have fitted something."""
    parts = {(found.part, found.owner): found.label for found in fitted}
    owners = [owner for _, owner in parts]
    options = [str(part) if owners.count(owner) > 1 else owner for part, owner in sorted(parts)]
    labels = listed(dict.fromkeys(parts.values()), 5)
    return f"several components are fitted ({labels}); choose one with {' or '.join(f'--of {one}' for one in options)}"


def _artefacts(cell: Mapping[str, Any]) -> Iterator[FittedArtefact]:
    """What the attack and the parts of the defense of a cell have fitted."""
    if cell.get("artefact"):
        yield FittedArtefact(cell["artefact"], "attack")
    if any(cell.get("defense_artefacts", ())):
        terms = parse_chain(cell["defense"])
        for number, (key, term) in enumerate(zip(cell["defense_artefacts"], terms, strict=False), 1):
            if key:
                yield FittedArtefact(key, term.name, number)


def _is_of(found: FittedArtefact, of: str) -> bool:
    return of in ("", found.owner) or (found.part > 0 and of in ("defense", str(found.part)))


def write_artefact(store: Store, key: str, path: Path) -> str:
    """Writes an artefact.

    Args:
        store: The store of the run.
        key: The key of the artefact.
        path: The file; its suffix sets the format: ``.safetensors``, or ``.png`` for an artefact with one image.

    Returns:
        A message for the user.

    Raises:
        UsageError: The store no longer has the artefact, or it cannot be written in this format.
    """
    from advbench.store.artefact_files import write_artefact_file

    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{path}: give a file that ends in {' or '.join(_SUFFIXES)}")
    stored = store.read_artefact(key)
    if stored is None:
        raise UsageError("the artefact is damaged or no longer in the store; repeat the run's command with --rerun all")
    tensors, record = stored
    names = _FACTS if "attack" in record else (*_FACTS, *_DEFENSE_FACTS)
    facts = {name: record[name] for name in names if name in record}
    try:
        if path.suffix.lower() == ".png":
            _write_png(path, tensors)
        else:
            write_artefact_file(path, tensors, record["values"], facts)
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


def _has(cell: Mapping[str, Any], word: str, names: Sequence[str] = _COORDINATES) -> bool:
    """Whether a word is one of a cell's coordinates of these names, or its threat."""
    if word == cell["threat"]:
        return names is _COORDINATES
    if word.startswith(_SURROGATE):
        spec = word.removeprefix(_SURROGATE)
        surrogate = cell.get("surrogate")
        is_surrogate = _names(cell, word) or (surrogate is not None and is_part(spec, surrogate))
        return names is _COORDINATES and is_surrogate
    return any(word in (cell[name], cell["short"][name]) or is_part(word, cell[name]) for name in names)


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
