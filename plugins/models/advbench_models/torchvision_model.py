"""torchvision's classifiers, trained on ImageNet."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import Model, ParameterError, WeightsError, closest, load_state, param, read_state_dict, sha256_file
from advbench_models.execution import MEMORY_FORMAT_HELP, MEMORY_FORMATS, in_memory_format
from advbench_models.normalised import Normalised
from advbench_models.pretrained.geometry import Geometry
from advbench_models.pretrained.preprocessing import RESIZE, RESIZE_HELP, Preprocessed, Preprocessing

__all__ = ["TorchvisionModel"]

_DEFAULT = "default"


@dataclasses.dataclass(frozen=True)
class TorchvisionModel(Model):
    """A classifier of torchvision with weights trained on ImageNet: ``torchvision:arch=resnet50``.

    Inputs are images in [0, 1] of the size to which torchvision's preprocessing crops; its normalisation is part of the
    model. With ``resize=auto``, the model resizes and crops images of other sizes as torchvision does, and autograd
    follows. Weights are downloaded once, through torchvision, and checked against the digest in their name. A file of
    your own may have a head for any number of classes. For googlenet and inception_v3, such a file counts as fine-tuned
    from torchvision's weights, and inputs are transformed accordingly.
    """

    name: ClassVar[str] = "torchvision"
    source: ClassVar[str] = "torchvision.models, whose documentation names each architecture's paper"
    depends_on: ClassVar[tuple[str, ...]] = ("torchvision",)

    arch: str = param(help="architecture, such as resnet50")
    weights: str = param(_DEFAULT, help="'default', a name such as IMAGENET1K_V1, or the path of a state dict")
    classes: int | None = param(None, min=2, help="number of classes of the weights; none: taken from the weights")
    resize: str = param("never", choices=RESIZE, help=RESIZE_HELP)
    memory_format: str = param("channels-last", choices=MEMORY_FORMATS, help=MEMORY_FORMAT_HELP)

    def __post_init__(self) -> None:
        """Validates that torchvision has this classifier and these weights.

        Raises:
            ParameterError: It has not, or the number of classes contradicts the weights.
        """
        super().__post_init__()
        architectures = _architectures()
        if self.arch not in architectures:
            hint = closest(self.arch, architectures) or "torchvision.models.list_models(torchvision.models) lists them"
            raise ParameterError(f"arch={self.arch}: torchvision has no such classifier; {hint}")
        if self._file is None and self._torchvision_weights is None:
            names = [_DEFAULT, *(str(entry.name) for entry in self._weights_choices)]
            raise ParameterError(
                f"weights={self.weights}: {self.arch} has {', '.join(names)}; or give the path of a state dict"
            )
        if self._file is None and self.classes not in (None, len(self._meta.meta["categories"])):
            count = len(self._meta.meta["categories"])
            raise ParameterError(
                f"classes={self.classes}: weights={self.weights} are for {count}; give a file of your own"
            )

    @property
    def self_contained(self) -> bool:  # type: ignore[override]
        """Whether the weights are torchvision's own."""
        return self._file is None

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """Three channels of the size that the preprocessing crops to; None, for any, unless ``resize=never``."""
        return (3, self._size, self._size) if self.resize == "never" else None

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The number of classes of the weights."""
        if self._file is None:
            return len(self._meta.meta["categories"])
        return self.classes or self._head

    @functools.cached_property
    def _head(self) -> int:
        """The number of classes in a file: the first dimension of the weight that is the architecture's last."""
        assert self._file is not None
        with torch.device("meta"):
            names = [name for name, _ in self._network(None).named_parameters() if name.endswith(".weight")]
        state = read_state_dict(self._file)
        # Auxiliary classifiers do not count: they precede the last layer or are missing from some files.
        last = next(name for name in reversed(names) if not name.startswith(("aux", "AuxLogits")))
        weight = next((value for name, value in state.items() if name == last or name.endswith(f".{last}")), None)
        if weight is None:
            raise WeightsError(
                f"model {self.name!r}: weights {self._file} have no {last}, so that they are not those of {self.arch}"
            )
        return int(weight.shape[0])

    def _network(self, classes: int | None, **extra: Any) -> nn.Module:
        """Builds the architecture without weights, with the options that torchvision sets only for its own weights."""
        options = dict(extra)
        if classes is not None:
            options["num_classes"] = classes
        if self.arch in ("googlenet", "inception_v3"):
            # Their weights expect other statistics than the preprocessing's; the network converts them itself.
            options |= {"transform_input": True, "init_weights": False}
        if self.arch.startswith("vit_"):
            options["image_size"] = self._size
        network: nn.Module = _library().get_model(self.arch, weights=None, **options)
        return network

    def load(self) -> nn.Module:
        """Builds the network and loads its weights, downloading them if needed."""
        file = self._download() if self._file is None else self._file
        extra = {}
        if self.arch in ("googlenet", "inception_v3"):
            extra["aux_logits"] = any("aux" in name.lower() for name in read_state_dict(file))
        network = load_state(self._network(self.num_classes, **extra), file)
        network = in_memory_format(network, self.memory_format)
        preset = self._preprocessing
        if self.resize == "never":
            return Normalised(network, preset.mean, preset.std)
        geometry = Geometry(preset.resize_size[0], (self._size, self._size), preset.interpolation.value)
        return Preprocessed(network, Preprocessing(geometry, tuple(preset.mean), tuple(preset.std)), self.resize)

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the file; for torchvision's weights, of their URL, which contains their digest."""
        if self._file is not None:
            read_state_dict(self._file)  # what cannot be used is refused before any work
            return sha256_file(self._file)
        return hashlib.sha256(self._meta.url.encode()).hexdigest()

    def _download(self) -> Path:
        """Returns the weights' file in torch's cache, downloading it if needed."""
        url = str(self._meta.url)
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        hash_prefix = path.stem.rpartition("-")[2]  # file names end in the first digits of the SHA-256
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, str(path), hash_prefix=hash_prefix, progress=False)
            except Exception as error:
                raise WeightsError(
                    f"model {self.name!r}: weights {url} cannot be downloaded ({error}); put the file at {path}"
                ) from error
        elif not sha256_file(path).startswith(hash_prefix):
            raise WeightsError(f"model {self.name!r}: {path} does not have the SHA-256 in its name; remove it")
        return path

    @property
    def _file(self) -> Path | None:
        """The user's own weights file, if given."""
        return Path(self.weights).expanduser() if Path(self.weights).suffix else None

    @property
    def _weights_choices(self) -> list[Any]:
        return list(_library().get_model_weights(self.arch))

    @property
    def _torchvision_weights(self) -> Any:
        """Torchvision's weights of this name, or None."""
        if self.weights == _DEFAULT:
            return self._weights_choices[0].DEFAULT if self._weights_choices else None
        return next((entry for entry in self._weights_choices if entry.name == self.weights), None)

    @property
    def _meta(self) -> Any:
        """The weights that define preprocessing and classes; for a file, torchvision's default ones."""
        return self._torchvision_weights or self._weights_choices[0].DEFAULT

    @property
    def _size(self) -> int:
        """Height and width of the images that the preprocessing makes."""
        return int(self._preprocessing.crop_size[0])

    @property
    def _preprocessing(self) -> Any:
        return self._meta.transforms()


def _architectures() -> list[str]:
    return [str(name) for name in _library().list_models(module=_library())]


def _library() -> Any:
    """Returns torchvision's models module, which type checkers do not see as exported."""
    from torchvision import models

    return models
