"""Training images that a defense has transformed, for classifiers that are trained behind it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from advbench.api.files import replace_atomically
from advbench.contracts.defenses import check_defended, check_range
from advbench.errors import UsageError, blamed
from advbench.evaluation.plan.keys import defense_identity
from advbench.store import digest_of
from advbench.store.digests import ids_digest

if TYPE_CHECKING:
    import torch

    from advbench.api import LabelledImages
    from advbench.specs import Chain

__all__ = ["DefendedImages", "apply_defense"]

BATCH_SIZE = 250
FILE_SIZE = 2_500
"""How many images each kept file has: an interruption loses at most the work on so many."""


@dataclasses.dataclass
class DefendedImages:
    """Transformed images that are kept in a folder until the training is complete, so that a resumed one reads them.

    Each file is named after the digest of all that its images depend on, and contains this digest.

    Attributes:
        folder: The folder; it is made when the first images are kept.
        error: Why images could not be kept; empty if they could.
    """

    folder: Path
    error: str = ""

    def read(self, key: str, shape: tuple[int, ...]) -> torch.Tensor | None:
        """Some images, float32 of this shape; None if they are not kept, or not readable."""
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(key), framework="pt") as file:
                images: torch.Tensor = file.get_tensor("images")
                known = (file.metadata() or {}).get("key") == key
        except (SafetensorError, OSError):
            return None
        return images if known and images.dtype == torch.float32 and tuple(images.shape) == shape else None

    def keep(self, key: str, images: torch.Tensor) -> None:
        """Writes some images atomically; if that fails, notes why, and the training goes on without."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        if self.error:
            return
        try:
            with replace_atomically(self._file(key)) as temporary:
                save_file({"images": images.contiguous()}, temporary, metadata={"key": key})
        except (OSError, SafetensorError) as error:
            self.error = error.strerror if isinstance(error, OSError) and error.strerror else str(error)

    def remove(self) -> None:
        """Removes the files, and the folder unless it contains others."""
        for file in self.folder.glob("images-*.safetensors"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _file(self, key: str) -> Path:
        return self.folder / f"images-{key[:24]}.safetensors"


def apply_defense(
    chain: Chain,
    data: LabelledImages,
    *,
    name: str,
    seed: int,
    device: torch.device,
    kept: DefendedImages | None = None,
    report: Callable[[int], object] | None = None,
) -> LabelledImages:
    """Replaces every image by its defended version.

    A stochastic defense is drawn once for each image.

    Args:
        chain: The defense.
        data: Images of shape (n, channels, height, width).
        name: The defense's spec, for messages.
        seed: Seed of a stochastic defense.
        device: The device to compute on.
        kept: Where images that were transformed before are read, and those that are transformed now are kept.
        report: Called with the number of images that are ready, after each batch.

    Returns:
        The same samples with float32 images on the CPU, clipped to [0, 1].

    Raises:
        UsageError: The defense cannot transform images of this shape, changes their shape, or classifies them itself.
        ContractError: The defense broke its contract.
    """
    import torch

    from advbench.api import SampleRandom

    channels, height, width = data.images.shape[1:]
    if reason := chain.incompatibility((channels, height, width)):
        raise UsageError(f"--defense {name}: {reason}")
    if chain.classifying is not None:
        classifying = chain.parts[chain.classifying].name
        raise UsageError(
            f"--defense {name}: {classifying} classifies images and does not transform them; name one that does"
        )
    if chain.output_shape((channels, height, width)) != (channels, height, width):
        raise UsageError(f"--defense {name}: it changes the shape of images, which the trained model could not take")
    report = report or (lambda done: done)
    defended = torch.empty(data.images.shape, dtype=torch.float32)
    common = {} if kept is None else _inputs(chain, data, seed, device)
    for first in range(0, len(data), FILE_SIZE):
        part = defended[first : first + FILE_SIZE]
        all_ids = data.ids[first : first + FILE_SIZE].tolist()
        key = digest_of({**common, "ids": ids_digest(all_ids)})
        stored = None if kept is None else kept.read(key, tuple(part.shape))
        if stored is not None:
            part.copy_(stored)
            report(first + len(all_ids))
            continue
        for start in range(0, len(all_ids), BATCH_SIZE):
            ids = all_ids[start : start + BATCH_SIZE]
            images = data.take(ids)[0].to(device)
            with torch.no_grad(), blamed(f"defense {name!r}"):
                returned = chain.apply(images.clone(), SampleRandom(seed, "training behind a defense", ids, device))
            checked = check_defended(name, images, returned)
            check_range(name, checked, stochastic=chain.stochastic)
            part[start : start + BATCH_SIZE] = checked.clamp(0, 1).cpu()
            report(first + start + len(ids))
        if kept is not None:
            kept.keep(key, part)
    return dataclasses.replace(data, images=defended)


def _inputs(chain: Chain, data: LabelledImages, seed: int, device: torch.device) -> dict[str, object]:
    """What transformed images depend on besides their ids: the defense with its code and weights, and the data."""
    import torch

    return {
        "defense": [defense_identity(part) for part in chain.parts],
        "data": data.digest(),
        "seed": seed,
        "device": device.type,
        "torch": torch.__version__,
    }
