"""What several files of the project say is the same in all of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

import advbench

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOWS = ROOT / ".github" / "workflows"


def test_the_version_is_read_from_the_one_place_that_has_it() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    source = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text("utf-8")
    assert f'__version__ = "{advbench.__version__}"' in source


def test_continuous_integration_runs_every_python_that_nox_does() -> None:
    jobs = yaml.safe_load((WORKFLOWS / "ci.yml").read_text("utf-8"))["jobs"]
    (listed,) = re.findall(r"^PYTHONS = \[(.*)\]$", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE)
    pythons = re.findall(r'"(.*?)"', listed)
    for job in ("fast", "tests"):
        matrix = jobs[job]["strategy"]["matrix"]
        assert matrix["python"] == pythons
        assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    (minimum,) = (step["with"]["python-version"] for step in jobs["minimum-versions"]["steps"] if "with" in step)
    assert minimum == pythons[0]


def test_a_release_is_uploaded_without_a_token() -> None:
    publish = yaml.safe_load((WORKFLOWS / "release.yml").read_text("utf-8"))["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]["name"] == "pypi"
    assert "password" not in str(publish)
