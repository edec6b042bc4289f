"""Weights that some claims need and that do not come with advbench: which files, and the commands that make them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from advbench.api import UsageError

if TYPE_CHECKING:
    from advbench.results import Suite

__all__ = ["FURTHER_WEIGHTS", "FurtherWeights", "axes_in_folder", "check_folder", "named"]

_SEPARATORS = ',{}+"\\'
"""Characters that a spec cannot hold without quotes."""

_KEY = "weights="


@dataclasses.dataclass(frozen=True)
class FurtherWeights:
    """A weights file.

    Attributes:
        file: Its name.
        dataset: The dataset that it is for.
        claims: The claims that need it.
        training: What ``advbench train`` is given to make it.
    """

    file: str
    dataset: str
    claims: tuple[int, ...]
    training: tuple[str, ...]

    def command(self, folder: str) -> str:
        """The command that makes the file in a folder."""
        return shlex.join(["advbench", "train", *self.training, "--output", str(Path(folder) / self.file)])


def _vqvae(name: str, spec: str, claim: int) -> FurtherWeights:
    training = (f"vqvae:{spec}", "--dataset", "mnist", "--recipe", "onecycle")
    return FurtherWeights(f"vqvae-mnist-{name}.safetensors", "mnist", (claim,), training)


FURTHER_WEIGHTS = (
    _vqvae("0-hidden128-words512", "noise=0,hidden=128", 19),
    _vqvae("0-hidden128-words256", "noise=0,hidden=128,words=256", 19),
    _vqvae("0-hidden256-words256", "noise=0,words=256", 19),
    _vqvae("uniform-0.433", "noise=0.433,noise_kind=uniform", 22),
    _vqvae("salt-and-pepper-0.03", "noise=0.03,noise_kind=salt-and-pepper", 22),
    FurtherWeights("mnist-cnn-behind-vqvae.safetensors", "mnist", (20,), ("mnist-cnn", "--defense", "vqvae:noise=0")),
    FurtherWeights(
        "cifar10-densenet-behind-vqvae.safetensors",
        "cifar10",
        (20,),
        ("cifar10-densenet", "--defense", "vqvae:noise=0", "--recipe", "onecycle"),
    ),
)
"""All of them, with the recipes by which the weights that come with advbench were trained."""


def check_folder(folder: Path | None) -> None:
    """Checks the folder of ``--weights``.

    Raises:
        UsageError: It does not exist, or its path has a character that separates the parts of a spec.
    """
    if folder is None:
        return
    if not folder.is_dir():
        what = (
            "is a file, not a folder"
            if folder.exists()
            else "there is no such folder; make it, and train weights into it"
        )
        raise UsageError(f"--weights {folder}: {what}")
    if unusable := sorted(set(str(folder)) & set(_SEPARATORS)):
        raise UsageError(f"--weights {folder}: the path has the character {unusable[0]}; use a folder without it")
    for weights in FURTHER_WEIGHTS:
        if "--defense" in weights.training and (folder / weights.file).is_file():
            _check_defense(folder, weights)


def _check_defense(folder: Path, weights: FurtherWeights) -> None:
    """Checks that a classifier was trained behind the VQ-VAE: other weights have the same form.

    Raises:
        UsageError: Its sidecar names no VQ-VAE, or cannot be read.
    """
    try:
        defense = json.loads((folder / weights.file).with_suffix(".json").read_text("utf-8")).get("defense", "none")
    except (OSError, ValueError, AttributeError):
        defense = "unknown, since the file's sidecar cannot be read"
    if str(defense).partition(":")[0] != "vqvae":
        raise UsageError(
            f"--weights {folder}: {weights.file} was not trained behind vqvae (its defense: {defense}); "
            f"remove it, and train it with: {weights.command(str(folder))}"
        )


def axes_in_folder(suite: Suite, folder: Path | None) -> tuple[dict[str, list[str]] | None, list[str]]:
    """Finds the weights files that the models and defenses of a suite name.

    Args:
        suite: A suite, in which some specs may end with the name of a weights file.
        folder: Where the files are, or None.

    Returns:
        The axes of the suite that name files, without the specs whose files do not exist, and with the paths of the
        others; None if none of the files exists. And the names of the files that do not exist.
    """
    axes: dict[str, list[str]] = {}
    found, missing = 0, []
    for axis in ("models", "defenses"):
        specs = [spec for part in suite.products for spec in getattr(part, axis)]
        if not any(_KEY in spec for spec in specs):
            continue
        axes[axis] = []
        for spec in specs:
            before, key, file = spec.partition(_KEY)
            if not key:
                axes[axis].append(spec)
            elif folder is not None and (folder / file).is_file():
                axes[axis].append(f"{before}{key}{folder / file}")
                found += 1
            else:
                missing.append(file)
    return (axes if found or not axes else None), missing


def named(files: Iterable[str]) -> list[FurtherWeights]:
    """The weights with these file names, in the order of :data:`FURTHER_WEIGHTS`."""
    wanted = set(files)
    return [weights for weights in FURTHER_WEIGHTS if weights.file in wanted]
