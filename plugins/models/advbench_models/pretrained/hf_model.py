"""Image classifiers of Hugging Face's transformers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import Model, ParameterError, WeightsError, param
from advbench_models.execution import MEMORY_FORMAT_HELP, MEMORY_FORMATS, in_memory_format
from advbench_models.pretrained.fitting import has_shapes, needs_size, stored_shapes
from advbench_models.pretrained.packages import missing_package, one_line
from advbench_models.pretrained.preprocessing import RESIZE, RESIZE_HELP, Preprocessed, Preprocessing, measured
from advbench_models.pretrained.processor_geometry import processor_geometry
from advbench_models.pretrained.snapshots import Snapshot, find_snapshot, local_snapshot

__all__ = ["HfModel"]

_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclasses.dataclass(frozen=True)
class HfModel(Model):
    """An image classifier of transformers: ``hf:repo=microsoft/resnet-18@main``.

    ``repo`` is a repository of the Hugging Face hub, with a branch, a tag or a commit after ``@``, or a local folder in
    its layout (config.json, preprocessor_config.json, model.safetensors). A repository is taken from the hub's cache,
    or downloaded once. Only safetensors are read, and no code of the repository runs.

    Inputs are images in [0, 1] of any size. What the repository's image processor does is part of the model: resizing
    with its filter, the central crop, and the normalisation. Autograd follows it. Images that have the network's input
    size already are only normalised, unless ``resize=always``. Networks of one channel are rejected. A first class
    called background, which networks of 1,001 classes for ImageNet have, is left out, so that the classes have the
    numbers of the dataset.
    """

    name: ClassVar[str] = "hf"
    source: ClassVar[str] = "Wolf et al. 2020, Transformers; the repository's model card names the network's paper"
    depends_on: ClassVar[tuple[str, ...]] = ("transformers", "timm")

    repo: str = param(help="organisation/name or organisation/name@revision on the Hugging Face hub, or a local folder")
    resize: str = param("auto", choices=RESIZE, help=RESIZE_HELP)
    memory_format: str = param("channels-last", choices=MEMORY_FORMATS, help=MEMORY_FORMAT_HELP)

    def __post_init__(self) -> None:
        """Validates the form of the parameters.

        Raises:
            ParameterError: ``repo`` is malformed, or transformers is not installed.
        """
        super().__post_init__()
        _library()
        if self._folder is None:
            repository, at, revision = self.repo.partition("@")
            if repository.count("/") > 1 or not repository or (at and not revision):
                raise ParameterError(
                    f"repo={self.repo}: no such folder; give organisation/name, organisation/name@revision or a folder"
                )

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """None, for images of any size; with ``resize=never``, what a network of fixed size takes."""
        return self._fixed_shape if self.resize == "never" else None

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The number of classes in the configuration, without a first one called background."""
        return int(self._config.num_labels) - self._has_background

    def load(self) -> nn.Module:
        """Loads the network and adds the preprocessing.

        Raises:
            WeightsError: The weights are damaged, or not all of them are in the files.
            UsageError: The preprocessing cannot be made a part of the network.
        """
        network = in_memory_format(self._network(), self.memory_format)
        if self._has_background:
            network = _WithoutFirstClass(network)
        return Preprocessed(network, self._preprocessing, self.resize)

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the files, and of the commit if they are from the hub.

        Raises:
            WeightsError: They are missing or another network's, or cannot be downloaded.
        """
        self._checked  # noqa: B018  what cannot be used is rejected before any work
        return self._snapshot.digest()

    @property
    def _has_background(self) -> bool:
        names = getattr(self._config, "id2label", None) or {}
        return int(self._config.num_labels) > 2 and str(names.get(0, "")).strip().lower() == "background"

    @functools.cached_property
    def _checked(self) -> bool:
        """True; raises an error if the weights or the preprocessing cannot be used."""
        if not has_shapes(self._build, stored_shapes(self._snapshot.weights)):
            self._network()  # transformers knows other names of some weights
        return bool(self._preprocessing)

    @functools.cached_property
    def _fixed_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width that the network takes if it takes no others, or None."""
        size = getattr(_vision(self._config), "image_size", None)
        if size is None and hasattr(self._config, "pretrained_cfg"):  # of timm
            size = (self._config.pretrained_cfg or {}).get("input_size", (None,))[-2:]
        height, width = size if isinstance(size, (list, tuple)) and len(size) == 2 else (size, size)
        if not isinstance(height, int) or not isinstance(width, int):
            return None
        return (3, height, width) if needs_size(self._build, (3, height, width)) else None

    def _build(self) -> nn.Module:
        """The network without weights."""
        transformers = _library()
        with _quiet(transformers):
            network: nn.Module = transformers.AutoModelForImageClassification.from_config(self._config)
        return network

    def _network(self) -> nn.Module:
        transformers, folder = _library(), self._snapshot.folder
        try:
            with _quiet(transformers):
                network, report = transformers.AutoModelForImageClassification.from_pretrained(
                    folder, config=self._config, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                    dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
                )  # fmt: skip
        except Exception as error:
            reason = "" if self._hint else f" ({one_line(error)})"
            raise WeightsError(f"{self._label}: {folder} cannot be loaded{reason}{self._hint}") from error
        for what in ("missing_keys", "mismatched_keys"):
            names = sorted(name if isinstance(name, str) else str(name[0]) for name in report.get(what) or ())
            if names:
                found = "missing" if what == "missing_keys" else "of another shape"
                raise WeightsError(
                    f"{self._label}: {folder} does not hold the weights of {type(network).__name__} that config.json "
                    f"describes: {len(names)} {found}, such as {names[0]}; save the whole classifier"
                )
        classifier: nn.Module = network
        return classifier

    @functools.cached_property
    def _preprocessing(self) -> Preprocessing:
        transformers, folder = _library(), self._snapshot.folder
        try:
            with _quiet(transformers):
                processor = transformers.AutoImageProcessor.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False
                )
            geometry = processor_geometry(processor)
        except Exception as error:
            if not any((folder / name).is_file() for name in _PROCESSOR_FILES):
                raise WeightsError(
                    f"{self._label}: {folder} has no {_PROCESSOR_FILES[0]}; save the image processor there, too, with "
                    "its save_pretrained(FOLDER)"
                ) from error
            raise WeightsError(
                f"{self._label}: the image processor of {folder} cannot be used ({one_line(error)}){self._hint}"
            ) from error

        def pipeline(picture: Any) -> torch.Tensor:
            with _quiet(transformers):
                values: torch.Tensor = processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"]
            return values[0]

        return measured(pipeline, geometry, self._label)

    @property
    def _label(self) -> str:
        return f"model {self.name!r}: repo={self.repo}"

    @property
    def _hint(self) -> str:
        """What to use instead for the files of timm."""
        architecture = self._snapshot.config(self._label).get("architecture")
        return f"; it is one of timm: use timm:arch={architecture},checkpoint=FOLDER" if architecture else ""

    @property
    def _folder(self) -> Path | None:
        """The local folder, if ``repo`` names one."""
        path = Path(self.repo).expanduser()
        return path if path.is_dir() or self.repo.startswith(("/", "./", "../", "~")) else None

    @functools.cached_property
    def _snapshot(self) -> Snapshot:
        if self._folder is not None:
            return local_snapshot(self._folder, self._label)
        repository, _, revision = self.repo.partition("@")
        return find_snapshot(repository, revision or None, label=self._label, extra="hf")

    @functools.cached_property
    def _config(self) -> Any:
        transformers, folder = _library(), self._snapshot.folder
        content = self._snapshot.config(self._label)
        try:
            with _quiet(transformers):
                config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise WeightsError(f"{self._label}: config.json cannot be used ({one_line(error)}){self._hint}") from error
        if type(config) not in transformers.AutoModelForImageClassification._model_mapping:
            kind = content.get("model_type")
            raise WeightsError(f"{self._label}: {kind!r} is no image classifier of transformers")
        channels = getattr(_vision(config), "num_channels", 3)
        if channels != 3:
            raise WeightsError(
                f"{self._label}: config.json says num_channels {channels}; hf takes networks of 3 channels only; use "
                "torch-module for others"
            )
        return config


class _WithoutFirstClass(nn.Module):
    """Leaves out the first logit of a classifier of transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images).logits[:, 1:]
        return logits


def _vision(config: Any) -> Any:
    """The part of a configuration that describes the network of images."""
    return getattr(config, "vision_config", config)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Leaves out transformers' progress bars and advice, and restores its settings."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise missing_package("transformers", "hf", error) from error
    return transformers
