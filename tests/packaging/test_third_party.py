"""advbench as a wheel in a fresh environment, and third parties' packages beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.docs.following import follow

from advbench.scaffold import KINDS, NewPackage

pytestmark = pytest.mark.slow(minutes=3)

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "write-a-defense.md"
MEDIAN = ROOT / "examples" / "advbench-median-filter"

"""The kinds whose packages are installed one by one."""

PIP = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1", "PIP_NO_INPUT": "1"}
"""pip reads the first as 'no isolation': the build backend is installed already, and nothing is downloaded."""


def build_wheel(source: Path, target: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", target, source],
        check=True,
    )
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a fresh environment in which advbench's wheel is installed, and nothing of the checkout.

    The libraries that advbench depends on are those of this environment, added behind the fresh one's own. The tests
    install packages of different names into it, one beside the other.
    """
    folder = tmp_path_factory.mktemp("fresh")
    wheel = build_wheel(ROOT, folder / "wheel")
    venv.create(folder / "venv")
    base = str(folder / "venv")
    libraries = Path(sysconfig.get_path("purelib", vars={"base": base, "platbase": base})) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib") + "\n")
    programs = folder / "venv" / "bin"
    names = ("PYTHONPATH", "PYTHONHOME", "ADVBENCH_PLUGINS", "ADVBENCH_DISABLE_PLUGINS")
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "MYPY_CACHE_DIR": str(folder / "mypy"),  # what it finds out about torch serves every package
        **PIP,
        **dict.fromkeys(names, ""),
    }
    for module in ("pip", "pytest"):  # which the libraries' folder does not bring with it
        program = programs / module
        program.write_text(
            f"#!{programs / 'python'}\nimport runpy\nrunpy.run_module('{module}', run_name='__main__')\n"
        )
        program.chmod(0o755)
    install = [programs / "python", "-m", "pip", "install", "--no-deps", "--force-reinstall", wheel]
    subprocess.run(install, env={**os.environ, **environment}, check=True)
    code = "import advbench, advbench_attacks; print(advbench.__file__, advbench_attacks.__file__)"
    asked = [programs / "python", "-c", code]
    where = subprocess.run(
        asked, env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert where.count(str(folder / "venv")) == 2, where
    return environment


@pytest.fixture
def fresh(site: dict[str, str], own_cache: Path) -> dict[str, str]:
    """The variables of that environment, and of a cache of the test's own."""
    return {**site, "XDG_CACHE_HOME": str(own_cache)}


@pytest.fixture
def run(fresh: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Runs a command in the fresh environment and gives what it printed."""

    def command(line: str, cwd: Path = tmp_path) -> str:
        made = subprocess.run(
            ["bash", "-ec", line], cwd=cwd, env={**os.environ, **fresh}, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, f"{line}\n{made.stdout}\n{made.stderr}"
        return made.stdout

    return command


def test_the_guide_leads_from_an_empty_folder_to_an_installed_package(
    fresh: dict[str, str], run: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    printed = follow(GUIDE, folder, fresh)
    board, checked, _, shipped, detector = printed
    assert "doubt" in detector
    assert "rejected" in detector
    assert "shift:reach=4" in board
    assert "adaptive" in board
    assert "it keeps the contract" in checked
    assert "advbench-shift" in shipped
    assert "2 passed" in shipped
    listed = json.loads(run("advbench list defenses --format json"))
    (shift,) = [entry for entry in listed if entry["name"] == "shift"]
    assert shift["distribution"] == "advbench-shift"


def test_the_example_is_a_package_of_its_own(run: Callable[..., str], tmp_path: Path) -> None:
    wheel = build_wheel(MEDIAN, tmp_path / "dist")
    run(f"pip install --no-deps {wheel}")
    listed = json.loads(run("advbench list defenses --format json"))
    (found,) = [entry for entry in listed if entry["name"] == "median-filter"]
    assert (found["plugin"], found["distribution"]) == ("median-filter", "advbench-median-filter")
    assert "it keeps the contract" in run("advbench check median-filter")
    line = (
        'advbench matrix --defenses none "median-filter:size={3,5}" --datasets mnist-20 --models mnist-cnn '
        "--attacks fgsm deepfool"
    )
    assert line in (MEDIAN / "README.md").read_text()
    assert "median-filter:size=5" in run(f"{line} --jobs 2")
    assert "6 passed" in run("python -m pytest -q -n0 -p no:cacheprovider", MEDIAN)


def test_a_new_package_of_every_kind_is_complete(run: Callable[..., str], tmp_path: Path) -> None:
    packages = [NewPackage(tmp_path / f"advbench-my-{kind}", kind) for kind in KINDS]
    folders = " ".join(f"./{package.distribution}" for package in packages)
    said = run("\n".join(f"advbench new-plugin {made.distribution} --kind {made.kind}" for made in packages))
    run(f"pip install {folders}")
    kinds = " ".join(dict.fromkeys(package.kinds for package in packages))
    listed = json.loads(run(f"advbench list {kinds} --format json"))
    for package in packages:
        assert f"{package.module}.py" in said
        assert (package.kinds, f"my-{package.kind}") in {(entry["kind"], entry["name"]) for entry in listed}
    tested = run(f"python -m pytest -q -p no:cacheprovider {folders}")  # that of the study runs its command
    assert f"{2 * len(KINDS)} passed" in tested
    modules = " ".join(f"{package.distribution}/{package.module}.py" for package in packages)
    typed = run(f"python -m mypy --strict {modules}")
    assert f"Success: no issues found in {len(KINDS)} source files" in typed
    run(f"python -m ruff check {folders} && python -m ruff format --check {folders}")


def test_names_are_made_of_the_folders() -> None:
    package = NewPackage(Path("AdvBench-My.Defense_2"), "defense")
    assert (package.distribution, package.module, package.name) == (
        "AdvBench-My.Defense_2", "advbench_my_defense_2", "my-defense-2",
    )  # fmt: skip


def test_a_name_that_begins_with_a_digit_keeps_the_prefix() -> None:
    assert NewPackage(Path("advbench-3d"), "defense").name == "advbench-3d"


def test_what_is_there_is_not_overwritten(call: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    called: object = call("new-plugin", tmp_path / "there")
    assert called.code == 2  # type: ignore[attr-defined]
    assert "exists and is not empty" in called.error_line()  # type: ignore[attr-defined]
    called = call("new-plugin", tmp_path / "1 2")
    assert "its name is that of the package" in called.error_line()  # type: ignore[attr-defined]
    assert (tmp_path / "there" / "file").read_text() == "mine"
