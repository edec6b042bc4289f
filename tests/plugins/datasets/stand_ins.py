"""Stand-ins for what datasets are downloaded with: no test reaches for the network."""

from __future__ import annotations

import io
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest


def use_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, download: str) -> None:
    """Puts a torchvision before the installed one, whose MNIST(root, download=True) and others run these lines."""
    package = tmp_path / "modules" / "torchvision"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    lines = textwrap.indent(textwrap.dedent(download), "    ")
    (package / "datasets.py").write_text(
        f"def MNIST(root, download):\n    assert download\n{lines}\nFashionMNIST = CIFAR10 = CIFAR100 = MNIST\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


def torchvision_that_downloads(origin: Path, folder: str = "MNIST/raw") -> str:
    """The lines for a torchvision that leaves the files of ``origin`` in this folder."""
    return f"""
        import pathlib, shutil
        print("100%")
        shutil.copytree({str(origin)!r}, pathlib.Path(root) / {folder!r})
    """


def use_npm(tmp_path: Path, *, packs: bytes | None, status: int = 0) -> Path:
    """Puts an npm on the PATH that writes this archive and its own arguments; returns where the arguments are."""
    arguments, archive = tmp_path / "arguments", tmp_path / "archive"
    archive.write_bytes(packs or b"")
    npm = tmp_path / "bin" / "npm"
    npm.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        f"pathlib.Path({str(arguments)!r}).write_text(' '.join(sys.argv[1:]))\n"
        f"if {packs is not None}: shutil.copy({str(archive)!r}, 'fetched-1.0.0.tgz')\n"
        "print('fetched-1.0.0.tgz')\n"
        "print('npm error network', file=sys.stderr)\n"
        f"sys.exit({status})\n"
    )
    npm.chmod(0o755)
    return arguments


def npm_archive(files: dict[str, bytes]) -> bytes:
    """A package of these files, as npm packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes files to a folder and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def left_in(cache_dir: Path) -> list[Path]:
    """All that is in the folder for datasets."""
    return list(cache_dir.rglob("*"))


def python_2_string(content: bytes) -> bytes:
    """Bytes as Python 2 pickles them."""
    return b"T" + len(content).to_bytes(4, "little") + content


def python_2_batch(labels: bytes, pixels: bytes, *, by_columns: bool = False, key: bytes = b"labels") -> bytes:
    """A batch of CIFAR-10 as Python 2 and its NumPy pickled it: the Python version's files."""
    rows = len(labels)
    size = b"".join(b"J" + number.to_bytes(4, "little") for number in (rows, len(pixels) // rows))
    element = (
        b"cnumpy\ndtype\n" + python_2_string(b"u1") + b"K\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R"
    state = b"(K\1" + size + b"\x86" + element + (b"\x88" if by_columns else b"\x89") + python_2_string(pixels) + b"tb"
    return (
        b"\x80\x02}("
        + (python_2_string(b"batch_label") + python_2_string(b"training batch 1 of 5"))
        + (python_2_string(key) + b"](" + b"".join(bytes([75, label]) for label in labels) + b"e")
        + (python_2_string(b"data") + array + state)
        + b"u."
    )
