"""The models of RobustBench."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn

from advbench.api import (
    Float32Network,
    Model,
    Parameter,
    ParameterError,
    Value,
    WeightsError,
    closest,
    param,
    sha256_file,
    state_digest,
)
from advbench_models.pretrained.packages import missing_package, one_line

__all__ = ["RobustBenchModel"]

_SHAPES = {"cifar10": ((3, 32, 32), 10), "cifar100": ((3, 32, 32), 100), "imagenet": ((3, 224, 224), 1000)}
_THREATS = ("Linf", "L2", "corruptions")
_FIELD = "zoo_name"


@dataclasses.dataclass(frozen=True)
class RobustBenchModel(Model):
    """A model of RobustBench's zoo: ``robustbench:name=Carmon2019Unlabeled,dataset=cifar10,threat=Linf``.

    Names, datasets and threat models are those of RobustBench. Its loader builds the network, and downloads the
    weights once. Inputs are images in [0, 1]; the normalisation is in RobustBench's networks. Those for ImageNet take
    images of 224 x 224 pixels (``Wong2020Fast``: 288 x 288). How RobustBench resizes and crops photographs to this size
    depends on the model: see ``get_preprocessing`` in ``robustbench.data``.
    """

    name: ClassVar[str] = "robustbench"
    source: ClassVar[str] = (
        "Croce et al. 2021, RobustBench: a standardized adversarial robustness benchmark; its model zoo names the "
        "paper of each model"
    )
    depends_on: ClassVar[tuple[str, ...]] = ("robustbench", "timm")

    # In specs it is called name, which is the component's name in the class.
    zoo_name: str = param(help="name in RobustBench's model zoo, such as Carmon2019Unlabeled")
    dataset: str = param("cifar10", choices=tuple(_SHAPES), help="dataset on which the model was trained")
    threat: str = param("Linf", choices=_THREATS, help="threat model for which the model was trained")
    folder: str | None = param(None, help="folder of RobustBench's weights; none: robustbench in torch's cache folder")

    def __post_init__(self) -> None:
        """Validates that RobustBench has this model.

        Raises:
            ParameterError: It has not, or is not installed.
        """
        super().__post_init__()
        zoo, _ = _library()
        names = list(_entries(zoo, self.dataset, self.threat))
        if self.zoo_name not in names:
            others = [
                f"dataset={dataset},threat={threat}"
                for dataset in _SHAPES
                for threat in _THREATS
                if self.zoo_name in _entries(zoo, dataset, threat)
            ]
            hint = f"it has it for {' and '.join(others)}" if others else closest(self.zoo_name, names)
            raise ParameterError(
                f"name={self.zoo_name}: RobustBench has no such model for dataset={self.dataset},threat={self.threat}; "
                f"{hint or 'https://robustbench.github.io lists them'}"
            )

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """The parameters, with the names that they have in specs."""
        return tuple(
            dataclasses.replace(parameter, name="name") if parameter.name == _FIELD else parameter
            for parameter in super().parameters(given)
        )

    @classmethod
    def from_values(cls, values: Mapping[str, Value]) -> RobustBenchModel:
        """Builds the model from checked values."""
        return cls(**{_FIELD if name == "name" else name: cast(Any, value) for name, value in values.items()})

    def values(self) -> dict[str, Value]:
        """All parameters with their values, with the names that they have in specs."""
        return {"name" if name == _FIELD else name: value for name, value in super().values().items()}

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """The shape of the dataset's images; for ImageNet, of what RobustBench's preprocessing of the model crops."""
        shape = _SHAPES[self.dataset][0]
        if self.dataset != "imagenet":
            return shape
        length = _cropped_length(_entries(_library()[0], self.dataset, self.threat).get(self.zoo_name, {}))
        return (shape[0], length, length) if length else shape

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The number of the dataset's classes."""
        return _SHAPES[self.dataset][1]

    def load(self) -> nn.Module:
        """Loads the network with RobustBench's loader, downloading the weights if needed.

        Raises:
            WeightsError: They cannot be downloaded or read.
        """
        return Float32Network(self._network(), self._label)

    def weights_digest(self) -> str:
        """The SHA-256 of the files of the weights; for models that have none in RobustBench's folder, of the weights.

        Raises:
            WeightsError: They cannot be downloaded.
        """
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        if self._files:
            return hashlib.sha256(" ".join(map(sha256_file, self._files)).encode()).hexdigest()
        network = self._network()  # which downloads the files
        return self._digest if self._files else state_digest(network)

    @property
    def _files(self) -> tuple[Path, ...]:
        """The weights' files, as RobustBench names them: one, or one for each network of an ensemble."""
        folder = self._models / self.dataset / self.threat
        single = folder / f"{self.zoo_name}.pt"
        return (single,) if single.is_file() else tuple(sorted(folder.glob(f"{self.zoo_name}.pt_m*.pt")))

    @property
    def _models(self) -> Path:
        return Path(torch.hub.get_dir()) / "robustbench" if self.folder is None else Path(self.folder).expanduser()

    @property
    def _label(self) -> str:
        return f"model {self.name!r}: name={self.zoo_name}"

    def _network(self) -> nn.Module:
        _, load_model = _library()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it prints while it downloads
                network: nn.Module = load_model(
                    self.zoo_name, model_dir=self._models, dataset=self.dataset, threat_model=self.threat
                )
        except Exception as error:
            folder = self._models / self.dataset / self.threat
            raise WeightsError(
                f"{self._label}: RobustBench cannot load it ({one_line(error)}); with a network it downloads the "
                f"weights to {folder}, where you can also put them"
            ) from error
        return network


def _entries(zoo: Mapping[Any, Mapping[Any, Mapping[str, Any]]], dataset: str, threat: str) -> Mapping[str, Any]:
    """RobustBench's entries of the models for a dataset and a threat model, by the models' names."""
    models = {key.value: value for key, value in zoo.items()}.get(dataset, {})
    return {key.value: value for key, value in models.items()}.get(threat, {})


def _cropped_length(entry: Mapping[str, Any]) -> int | None:
    """Height and width of images after the preprocessing that an entry names, such as BicubicRes256Crop224.

    None for entries without one: RobustBench then takes the preprocessing from timm.
    """
    found = re.search(r"(?:Crop|Res)(\d+)$", str(entry.get("preprocessing")))
    return None if found is None else int(found[1])


def _library() -> tuple[Any, Any]:
    """RobustBench's dictionary of models, and its loader."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports deprecated names of timm
            from robustbench.model_zoo import model_dicts
            from robustbench.utils import load_model
    except ImportError as error:
        raise missing_package("robustbench", "robustbench", error) from error
    return model_dicts, load_model
