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
from advbench_models.normalised import Normalised

__all__ = ["TorchvisionModel"]

_DEFAULT = "default"


@dataclasses.dataclass(frozen=True)
class TorchvisionModel(Model):
    """A classifier of torchvision with weights trained on ImageNet: ``torchvision:arch=resnet50``.

    It takes images in [0, 1] of the size to which its own preprocessing crops them; the normalisation of that
    preprocessing is inside the model. Weights come through torchvision, are downloaded once, and held to the digest in
    their name. A file of one's own may have a head for other classes than ImageNet's, as many as it says; for
    googlenet and inception_v3 it is taken to be fine-tuned from torchvision's, whose inputs these transform.
    """

    name: ClassVar[str] = "torchvision"
    source: ClassVar[str] = "torchvision.models, whose documentation names each architecture's paper"
    depends_on: ClassVar[tuple[str, ...]] = ("torchvision",)

    arch: str = param(help="architecture, such as resnet50")
    weights: str = param(_DEFAULT, help="'default', a name such as IMAGENET1K_V1, or the path of a state dict")
    classes: int | None = param(None, min=2, help="how many classes the weights are for; none: as many as they say")

    def __post_init__(self) -> None:
        """Checks that torchvision has such a classifier and such weights."""
        super().__post_init__()
        known = _architectures()
        if self.arch not in known:
            hint = closest(self.arch, known) or "torchvision.models.list_models(torchvision.models) lists them"
            raise ParameterError(f"arch={self.arch}: torchvision has no such classifier; {hint}")
        if self._file is None and self._named is None:
            names = [_DEFAULT, *(str(one.name) for one in self._choices)]
            raise ParameterError(
                f"weights={self.weights}: {self.arch} has {', '.join(names)}; or give the path of a state dict"
            )
        if self._file is None and self.classes not in (None, len(self._meta.meta["categories"])):
            told = len(self._meta.meta["categories"])
            raise ParameterError(f"classes={self.classes}: weights={self.weights} are for {told}; give a file of yours")

    @property
    def self_contained(self) -> bool:  # type: ignore[override]
        """Whether the weights are torchvision's own."""
        return self._file is None

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """Three channels of the size that the preprocessing crops to."""
        size = self._preprocessing.crop_size[0]
        return 3, size, size

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The classes of the weights."""
        if self._file is None:
            return len(self._meta.meta["categories"])
        return self.classes or self._head

    @functools.cached_property
    def _head(self) -> int:
        """The classes of a file's classifier: the first size of the last weight of the architecture's."""
        assert self._file is not None
        with torch.device("meta"):
            names = [name for name, _ in self._network(None).named_parameters() if name.endswith(".weight")]
        state = read_state_dict(self._file)
        # Auxiliary classifiers, which come before the last layer or are no part of every file, do not count.
        last = next(name for name in reversed(names) if not name.startswith(("aux", "AuxLogits")))
        found = next((value for name, value in state.items() if name == last or name.endswith(f".{last}")), None)
        if found is None:
            raise WeightsError(
                f"model {self.name!r}: weights {self._file} have no {last}, so that they are not those of {self.arch}"
            )
        return int(found.shape[0])

    def _network(self, classes: int | None, **more: Any) -> nn.Module:
        """The architecture, untrained, with what torchvision sets only for weights of its own."""
        options = dict(more)
        if classes is not None:
            options["num_classes"] = classes
        if self.arch in ("googlenet", "inception_v3"):
            # Their weights expect other statistics than the preprocessing's, which the network itself sees to.
            options |= {"transform_input": True, "init_weights": False}
        if self.arch.startswith("vit_"):
            options["image_size"] = self.image_shape[1]
        network: nn.Module = _library().get_model(self.arch, weights=None, **options)
        return network

    def load(self) -> nn.Module:
        """Builds the network and fills it, downloading the weights where they are not there yet."""
        file = self._downloaded() if self._file is None else self._file
        more = {}
        if self.arch in ("googlenet", "inception_v3"):
            more["aux_logits"] = any("aux" in name.lower() for name in read_state_dict(file))
        network = load_state(self._network(self.num_classes, **more), file)
        preprocessing = self._preprocessing
        return Normalised(network, preprocessing.mean, preprocessing.std)

    def weights_digest(self) -> str:
        """SHA-256 of the file; of weights that torchvision names, of their address, which holds their digest."""
        if self._file is not None:
            read_state_dict(self._file)  # what cannot be used is refused before any work
            return sha256_file(self._file)
        return hashlib.sha256(self._meta.url.encode()).hexdigest()

    def _downloaded(self) -> Path:
        """The file of the weights in torch's own cache."""
        url = str(self._meta.url)
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        begins = path.stem.rpartition("-")[2]  # torchvision's names end in the first digits of their SHA-256
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, str(path), hash_prefix=begins, progress=False)
            except Exception as error:
                raise WeightsError(
                    f"model {self.name!r}: weights {url} cannot be downloaded ({error}); put the file at {path}"
                ) from error
        elif not sha256_file(path).startswith(begins):
            raise WeightsError(f"model {self.name!r}: {path} does not have the SHA-256 in its name; remove it")
        return path

    @property
    def _file(self) -> Path | None:
        """The user's own file, where weights are one."""
        return Path(self.weights).expanduser() if Path(self.weights).suffix else None

    @property
    def _choices(self) -> list[Any]:
        return list(_library().get_model_weights(self.arch))

    @property
    def _named(self) -> Any:
        """What torchvision has under the name, or nothing."""
        if self.weights == _DEFAULT:
            return self._choices[0].DEFAULT if self._choices else None
        return next((one for one in self._choices if one.name == self.weights), None)

    @property
    def _meta(self) -> Any:
        """The weights that tell preprocessing and classes; of a file of the user's, torchvision's default ones."""
        return self._named or self._choices[0].DEFAULT

    @property
    def _preprocessing(self) -> Any:
        return self._meta.transforms()


def _architectures() -> list[str]:
    return [str(name) for name in _library().list_models(module=_library())]


def _library() -> Any:
    """The module of torchvision's models, which type checkers do not see as exported."""
    from torchvision import models

    return models
