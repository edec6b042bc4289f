"""The diagram of the architecture names what exists, and the steps that its page describes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

from advbench.api import hookspecs
from advbench.evaluation.run import pool

ROOT = Path(__file__).parents[2]
CORE = ROOT / "harness" / "advbench"
TEXTS = [
    (element.get("class") or "", "".join(element.itertext()))
    for element in ElementTree.parse(ROOT / "docs" / "images" / "architecture.svg").iter()
    if element.tag.endswith("}text")
]


def test_the_diagram_names_what_exists() -> None:
    paths = [text for kind, text in TEXTS if kind == "path"]
    assert len(paths) > 10
    for name in paths:
        if name.endswith("/"):
            assert (CORE / name).is_dir() or (ROOT / name).is_dir(), name
        elif name.endswith(".py"):
            assert (CORE / "evaluation" / "work" / name).is_file(), name
        else:
            assert hasattr(pool, name), name


def test_the_diagram_has_every_kind_of_plugin() -> None:
    registered = {name.removeprefix("register_") for name in vars(hookspecs) if name.startswith("register_")}
    shown = {text for _, text in TEXTS}
    assert registered - {"suites", "commands"} <= shown
    assert "studies" in shown


def test_the_numbers_are_the_steps_of_the_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    steps = re.findall(r"^(\d)\. \*\*(\w+)\.\*\*", page, re.MULTILINE)
    words = [text for kind, text in TEXTS if kind in ("digit", "name", "title")]
    numbered = {number: after for number, after in itertools.pairwise(words) if number.isdigit()}
    assert dict(steps) | {"4": "Workers"} == numbered
