"""Everything that a bad plugin can do: it is named, and the plugin beside it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOOD = """
from dataclasses import dataclass
from advbench.api import Defense, hookimpl

@dataclass(frozen=True)
class Good(Defense):
    '''Leaves images as they are.'''
    name = "NAME"
    FIELD
    def apply(self, images, rng):
        BODY
        return images

@hookimpl
def register_defenses(register):
    register(Good)
"""


def plugin(name: str = "bad", before: str = "", field: str = "", body: str = "pass", after: str = "") -> str:
    return before + "\n" + GOOD.replace("NAME", name).replace("FIELD", field).replace("BODY", body) + "\n" + after


THREAD = "import threading\ndef fail():\n    raise OSError('in a thread')\n"
START = "threading.Thread(target=fail).start()\n"

AT_START = {
    "import error": (
        plugin(before="from advbench.api import NoSuchThing"),
        "ImportError: cannot import name 'NoSuchThing'",
    ),
    "syntax error": ("def broken(:", "SyntaxError"),
    "missing dependency": (
        plugin(before="import no_such_module_anywhere"),
        "No module named 'no_such_module_anywhere'",
    ),
    "sys.exit": (plugin(before="import sys; sys.exit(3)"), "SystemExit: 3"),
    "duplicate name": (plugin(name="jpeg"), "the defense name 'jpeg' is registered by advbench"),
    "wrong base class": (
        "from advbench.api import Attack, hookimpl\nclass A(Attack):\n    name = 'a'\n"
        "@hookimpl\ndef register_defenses(register): register(A)",
        "not a subclass of advbench.api.Defense",
    ),
    "wrong API version": (
        plugin(before="API_VERSION = 0"),
        "made for API version 0, this advbench has 1; upgrade the plugin",
    ),
    "later API version": (
        plugin(before="API_VERSION = 2"),
        "made for API version 2, this advbench has 1; upgrade advbench",
    ),
    "mutable default": (
        plugin(field="sizes: list = []"),
        "mutable default <class 'list'> for field sizes is not allowed",
    ),
    "parameter of a wrong type": (plugin(field="sizes: tuple = (1, 2)"), "a parameter is int, float, bool or str"),
    "hook with an unknown argument": (
        "from advbench.api import hookimpl\n@hookimpl\ndef register_defenses(register, extra): pass",
        "extra",
    ),
    "thread that raises at import": (
        plugin(before=THREAD + START),
        "a thread that it started raised OSError: in a thread",
    ),
}
"""What is told by 'advbench plugins' and in one line on stderr."""

AT_RUN = {
    "wrong output shape": (plugin(body="return images[:, :, 1:]"), "returned shape (20, 1, 27, 28)"),
    "NaN output": (plugin(body="return images / 0"), "returned NaN or infinite pixels"),
    "in-place change of the input": (plugin(body="images.mul_(0.5)"), "changed its input images in place"),
    "another scale": (plugin(body="return images * 255"), "returned pixels from 0 to 255; images stay in about [0, 1]"),
    "raises": (plugin(body="raise ValueError('no ink')"), "ValueError: no ink (raised by defense 'bad')"),
    "exits": (plugin(body="raise SystemExit(7)"), "SystemExit: 7"),
    "thread that raises": (
        plugin(before=THREAD, body="started = threading.Thread(target=fail); started.start(); started.join()"),
        "a thread that it started raised OSError: in a thread",
    ),
}
"""What becomes the ERR cell of the defense 'bad'."""


@pytest.fixture
def matrix(call: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Runs FGSM on a few digits with a bad and a good plugin, through some defenses; the call, and cells by defense."""

    def run(source: str, *defenses: str) -> tuple[Any, dict[str, Any]]:
        (tmp_path / "bad_plugin.py").write_text(source)
        (tmp_path / "good_plugin.py").write_text(plugin(name="good"))
        files = ("--plugin", tmp_path / "bad_plugin.py", "--plugin", tmp_path / "good_plugin.py")
        axes = ("--datasets", "mnist-20", "--models", "mnist-cnn", "--attacks", "fgsm", "--defenses", *defenses)
        target = tmp_path / "results.json"
        called = call("matrix", *axes, *files, "--store", tmp_path / "store", "--export", target)
        cells = json.loads(target.read_text())["cells"] if target.exists() else []
        return called, {cell["defense"]: cell for cell in cells}

    return run


@pytest.mark.parametrize("case", AT_START)
def test_what_fails_at_the_start_is_named_and_stops_no_other(
    matrix: Callable[..., Any], call: Callable[..., Any], tmp_path: Path, case: str
) -> None:
    source, message = AT_START[case]
    called, cells = matrix(source, "none", "good")
    assert called.code == 0, called.err
    assert cells["good"]["status"] == "ok"
    (line,) = [line for line in called.err.splitlines() if line.startswith("advbench: warning: plugin ")]
    assert "bad_plugin.py" in line
    assert message in line
    shown = json.loads(call("plugins", "--format", "json", "--plugin", tmp_path / "bad_plugin.py").out)
    (told,) = [one["problems"] for one in shown if one["name"].endswith("bad_plugin.py")]
    assert message in told[0]
    strict = call("list", "--plugin", tmp_path / "bad_plugin.py", "--strict-plugins")
    assert strict.code == 4


@pytest.mark.parametrize("case", AT_RUN)
def test_what_fails_while_it_runs_is_an_err_cell_and_the_others_run(matrix: Callable[..., Any], case: str) -> None:
    source, message = AT_RUN[case]
    called, cells = matrix(source, "bad", "none", "good")
    assert called.code == 1
    assert cells["bad"]["status"] == "error"
    assert message in cells["bad"]["error"]
    assert "defense 'bad'" in cells["bad"]["error"]
    assert cells["none"]["status"] == cells["good"]["status"] == "ok"
    assert "ERR" in called.out


def test_what_prints_at_import_does_not_print_among_the_tables(matrix: Callable[..., Any]) -> None:
    called, cells = matrix(plugin(before="print('hello from a plugin')", body="print('and again')"), "bad", "good")
    assert called.code == 0
    assert cells["bad"]["status"] == "ok"
    assert "hello from a plugin" in called.err
    assert "hello" not in called.out
    assert "and again" not in called.out
