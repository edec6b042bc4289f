"""timm's classifiers."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import Model, ParameterError, WeightsError, closest, param, read_state_dict, sha256_file
from advbench_models.execution import MEMORY_FORMAT_HELP, MEMORY_FORMATS, in_memory_format
from advbench_models.pretrained.fitting import has_shapes
from advbench_models.pretrained.geometry import Geometry
from advbench_models.pretrained.packages import missing_package, one_line
from advbench_models.pretrained.preprocessing import RESIZE, RESIZE_HELP, Preprocessed, Preprocessing, measured
from advbench_models.pretrained.snapshots import Snapshot, find_snapshot, local_snapshot

__all__ = ["TimmModel", "timm_geometry"]


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where the weights come from.

    Attributes:
        files: The files of the weights.
        digest: SHA-256 of these and of their configuration.
        config: timm's ``pretrained_cfg`` of the weights: preprocessing, number of classes, name of the classifier.
        arguments: Arguments for the architecture.
    """

    files: tuple[Path, ...]
    digest: str
    config: dict[str, Any]
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class TimmModel(Model):
    """A classifier of timm with its pretrained weights: ``timm:arch=resnet50.a1_in1k``.

    Without ``checkpoint``, the weights are those of the Hugging Face hub that timm names. They are taken from the hub's
    cache, or downloaded once. ``checkpoint`` is a folder with the files of a repository of the hub, such as timm's
    ``save_for_hf`` writes (config.json and model.safetensors), or the path of a state dict of this architecture, whose
    last layer sets the number of classes.

    Inputs are images in [0, 1] of any size. The evaluation transform that timm recommends for the weights is part of
    the model: resizing with its interpolation, the central crop, and the normalisation. Autograd follows it. Images
    that have the network's input size already are only normalised, unless ``resize=always``.
    """

    name: ClassVar[str] = "timm"
    source: ClassVar[str] = "Wightman 2019, PyTorch Image Models; timm's documentation names each architecture's paper"
    depends_on: ClassVar[tuple[str, ...]] = ("timm",)

    arch: str = param(help="architecture, with or without the tag of its weights, such as vit_tiny_patch16_224")
    checkpoint: str | None = param(
        None, help="folder in the layout of the Hugging Face hub, or path of a state dict; none: timm's weights"
    )
    resize: str = param("auto", choices=RESIZE, help=RESIZE_HELP)
    memory_format: str = param("channels-last", choices=MEMORY_FORMATS, help=MEMORY_FORMAT_HELP)

    def __post_init__(self) -> None:
        """Validates that timm has this architecture and these weights.

        Raises:
            ParameterError: It has not, or is not installed.
        """
        super().__post_init__()
        timm = _library()
        base, _, tag = self.arch.partition(".")
        if not timm.is_model(base):
            hint = closest(base, timm.list_models()) or "timm.list_models() lists them"
            raise ParameterError(f"arch={self.arch}: timm has no such architecture; {hint}")
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{base}.*")]
        if tag and tag not in tags:
            has = f"it has {', '.join(tags)}" if tags else "it has none"
            raise ParameterError(f"arch={self.arch}: timm has no weights {tag!r} of {base}; {has}")
        if self.checkpoint is None and not tags:
            raise ParameterError(f"arch={self.arch}: timm has no weights of it; give checkpoint=FILE or a folder")

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """None, for images of any size; with ``resize=never``, what an architecture of fixed size takes."""
        if self.resize != "never" or not self._source.config.get("fixed_input_size"):
            return None
        channels, height, width = _data_config(self._source.config)["input_size"]
        return int(channels), int(height), int(width)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The number of classes of the weights."""
        return self._classes

    def load(self) -> nn.Module:
        """Builds the network, loads its weights and adds the preprocessing.

        Raises:
            WeightsError: The weights are missing, damaged or of another architecture.
        """
        timm, source = _library(), self._source
        config = {**source.config, "state_dict": dict(self._state), "num_classes": self._classes, "custom_load": False}
        arguments = {**source.arguments, "num_classes": self._classes}
        try:
            network: Any = timm.create_model(self._base, pretrained=True, pretrained_cfg=config, **arguments)
        except Exception as error:
            raise WeightsError(
                f"{self._label}: {source.files[0]} does not hold weights of {self._base} ({one_line(error)})"
            ) from error
        self.__dict__.pop("_state", None)  # the network has a copy
        network.pretrained_cfg.pop("state_dict", None)
        network = in_memory_format(network, self.memory_format)
        return Preprocessed(network, self._preprocessing(), self.resize)

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the files, and of the commit if they are from the hub.

        Raises:
            WeightsError: They are missing, or cannot be downloaded.
        """
        self._checked  # noqa: B018  what cannot be used is rejected before any work
        return self._source.digest

    @functools.cached_property
    def _checked(self) -> bool:
        """True; raises WeightsError if the weights are not those of the architecture."""
        timm, arguments = _library(), {**self._source.arguments, "num_classes": self._classes}
        shapes = {name: tuple(value.shape) for name, value in self._state.items()}
        if not has_shapes(lambda: timm.create_model(self._base, pretrained=False, **arguments), shapes):
            self.load()  # timm knows other names of some weights
        return True

    @property
    def _base(self) -> str:
        return self.arch.partition(".")[0]

    @property
    def _label(self) -> str:
        return f"model {self.name!r}: arch={self.arch}"

    @functools.cached_property
    def _source(self) -> _Source:
        if self.checkpoint is None:
            return self._of_snapshot(self._hub_snapshot())
        path = Path(self.checkpoint).expanduser()
        if path.is_dir():
            return self._of_snapshot(local_snapshot(path, f"model {self.name!r}: checkpoint={self.checkpoint}"))
        if not path.is_file():
            raise WeightsError(f"model {self.name!r}: checkpoint={self.checkpoint}: no such file or folder")
        config = self._registered().to_dict()
        config.pop("num_classes", None)  # the file says it
        return _Source((path,), sha256_file(path), config, {})

    def _registered(self) -> Any:
        """The ``pretrained_cfg`` of the architecture and the tag; the default one if it has none."""
        timm = _library()
        return timm.get_pretrained_cfg(self.arch) or timm.models.PretrainedCfg()

    def _hub_snapshot(self) -> Snapshot:
        config = self._registered()
        if not config.hf_hub_id or config.hf_hub_filename:
            where = config.url or f"{config.hf_hub_id}, file {config.hf_hub_filename}"
            raise WeightsError(
                f"{self._label}: its weights are not in a repository of timm on the hub; download {where} and give "
                "checkpoint=FILE"
            )
        repository, _, revision = config.hf_hub_id.partition("@")
        return find_snapshot(repository, revision or None, label=self._label, extra="timm")

    def _of_snapshot(self, snapshot: Snapshot) -> _Source:
        content = snapshot.config(self._label)
        # Old files have the entries of pretrained_cfg at the top.
        config = dict(content.get("pretrained_cfg") or content)
        architecture = content.get("architecture")
        if architecture is None:
            raise WeightsError(
                f"{self._label}: {snapshot.folder}/config.json names no architecture of timm; for a model of "
                f"transformers, use hf:repo={snapshot.folder}"
            )
        if str(architecture).partition(".")[0] != self._base:
            raise WeightsError(
                f"{self._label}: {snapshot.folder} holds weights of {architecture}; give arch={architecture}"
            )
        if "num_classes" in content:
            config["num_classes"] = content["num_classes"]
        for key in ("source", "file", "url", "hf_hub_id", "hf_hub_filename"):
            config.pop(key, None)
        known = {field.name for field in dataclasses.fields(type(self._registered()))}
        config = {key: value for key, value in config.items() if key in known}
        return _Source(snapshot.weights, snapshot.digest(), config, dict(content.get("model_args") or {}))

    @functools.cached_property
    def _state(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = {}
        for file in self._source.files:
            state |= read_state_dict(file)
        return state

    @functools.cached_property
    def _classes(self) -> int:
        """The number of classes: the first dimension of the classifier's weight."""
        config, state = self._source.config, self._state
        names = config.get("classifier") or ()
        name = next(iter([names] if isinstance(names, str) else names), "")
        weight = state.get(f"{name}.weight")
        declared = config.get("num_classes")
        if weight is None or weight.ndim < 2:
            raise WeightsError(
                f"{self._label}: {self._source.files[0]} has no {name}.weight, so it does not hold weights of "
                f"{self._base}"
            )
        classes = int(weight.shape[0]) - int(config.get("label_offset") or 0)
        if declared not in (None, classes):
            raise WeightsError(
                f"{self._label}: config.json says num_classes {declared}, but the weights are for {classes}; correct "
                "the file"
            )
        return classes

    def _preprocessing(self) -> Preprocessing:
        config = _data_config(self._source.config)
        transform = _library().data.create_transform(**config, is_training=False)
        channels = int(config["input_size"][0])
        return measured(transform, timm_geometry(config), self._label, channels)


def timm_geometry(config: dict[str, Any]) -> Geometry:
    """What timm's evaluation transform does with the shape of images.

    Args:
        config: What ``timm.data.resolve_data_config`` returns.
    """
    height, width = (int(length) for length in config["input_size"][1:])
    scaled = math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"])
    keeps_ratio = config["crop_mode"] == "center" and height == width
    return Geometry(scaled[0] if keeps_ratio else scaled, (height, width), config["interpolation"])


def _data_config(pretrained_cfg: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = _library().data.resolve_data_config({}, pretrained_cfg=pretrained_cfg)
    return config


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # old versions use functions that torch has deprecated
            import timm
            import timm.data
    except ImportError as error:
        raise missing_package("timm", "timm", error) from error
    return timm
