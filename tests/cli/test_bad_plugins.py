"""Everything that a bad plugin can do: it is named, and the plugin beside it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow(minutes=1), pytest.mark.usefixtures("quick_workers")]

GOOD = """
from dataclasses import dataclass
from advbench.api import Defense, hookimpl, param

@dataclass(frozen=True)
class Good(Defense):
    '''Leaves images as they are.'''
    name = "NAME"
    FIELD
    def apply(self, images, rng):
        BODY
        return images
    METHOD

@hookimpl
def register_defenses(register):
    register(Good)
"""


def plugin(name: str = "bad", before: str = "", field: str = "", body: str = "pass", method: str = "") -> str:
    given = {"NAME": name, "FIELD": field, "BODY": body, "METHOD": method}
    return before + "\n" + reduce(lambda text, pair: text.replace(*pair), given.items(), GOOD) + "\n"


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
    "os._exit": (
        plugin(before="import os; os._exit(0)"),
        "os._exit(0) would have ended the whole process while it was loaded; no component of the plugin is used",
    ),
    "another program": (
        plugin(before="import os; os.execl('/bin/true', 'true')"),
        "os.execv('/bin/true', ('true',)) would have ended the whole process while it was loaded",
    ),
    "thread that ends the process": (
        plugin(before="import os\n" + THREAD.replace("raise OSError('in a thread')", "os._exit(0)") + START),
        "a thread that it started raised ProcessExitError: os._exit(0) would have ended the whole process",
    ),
    "duplicate name": (plugin(name="jpeg"), "the defense name 'jpeg' is registered by advbench"),
    "wrong base class": (
        "from advbench.api import Attack, hookimpl\nclass A(Attack):\n    name = 'a'\n"
        "@hookimpl\ndef register_defenses(register): register(A)",
        "not a subclass of advbench.api.Defense",
    ),
    "wrong API version": (
        plugin(before="API_VERSION = 0"),
        "needs API version 0, this advbench has 2; upgrade the plugin",
    ),
    "later API version": (
        plugin(before="API_VERSION = 3"),
        "needs API version 3, this advbench has 2; upgrade advbench",
    ),
    "no API version": (plugin(before="API_VERSION = 'one'"), "API_VERSION = 'one' must be a whole number"),
    "default that is not allowed": (
        plugin(field="size: int = param(50, max=10, help='x')"),
        "the default of a parameter is not allowed: size=50: must be a whole number of at most 10",
    ),
    "bound of a wrong type": (plugin(field="size: int = param(5, min='a', help='x')"), "TypeError: '<' not supported"),
    "parameter that hides an attribute": (
        plugin(field="source: str = param('x', help='x')"),
        "the parameter 'source' hides an attribute of Defense",
    ),
    "parameter that hides the name": (
        plugin().replace('name = "bad"', "name: str = param('bad', help='x')"),
        "the parameter 'name' hides an attribute of Defense",
    ),
    "text as a flag": (plugin(field="stochastic = 'no'"), "stochastic = 'no' must be True, False or a property"),
    "class method that hides a flag": (
        plugin(field="differentiable = classmethod(lambda cls: False)"),
        "must be True, False or a property",
    ),
    "method that hides a flag": (
        plugin(field="def identity(self, images, output, rng): return images"),
        "must be True, False or a property",
    ),
    "equal whatever its parameters are": (
        plugin(field="size: int = 5").replace("frozen=True", "frozen=True, eq=False"),
        "remove eq=False from @dataclass",
    ),
    "torch's default dtype": (
        plugin(before="import torch\ntorch.set_default_dtype(torch.float64)"),
        "changed torch's default dtype (to torch.float64) for the whole process while it was loaded; the change is "
        "reverted, and no component of the plugin is used",
    ),
    "how float32 is computed": (
        plugin(before="import torch\ntorch.set_float32_matmul_precision('medium')"),
        "changed torch's float32 precision (matmul precision to medium) for the whole process while it was loaded",
    ),
    "gradients switched off, another folder": (
        plugin(before="import os, torch\ntorch.set_grad_enabled(False)\nos.chdir('/')"),
        "changed torch's gradient mode (to False) and the working directory (to /) for the whole process",
    ),
    "the handler of Ctrl-C": (
        plugin(before="import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)"),
        "changed the handler of Ctrl-C for the whole process",
    ),
    "mutable default": (
        plugin(field="sizes: list = []"),
        "mutable default <class 'list'> for field sizes is not allowed",
    ),
    "parameter of a wrong type": (
        plugin(field="sizes: tuple = (1, 2)"),
        "the type of a parameter must be int, float, bool or str",
    ),
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
    "another scale": (plugin(body="return images * 255"), "returned pixels from 0 to 255; images must stay in"),
    "raises": (
        plugin(body="raise ValueError('no ink')"),
        "ValueError: no ink (raised by defense 'bad', bad_plugin.py:12)",
    ),
    "exits": (plugin(body="raise SystemExit(7)"), "SystemExit: 7"),
    "ends the process": (
        plugin(before="import os", body="os._exit(0)"),
        "ProcessExitError: os._exit(0) would have ended the whole process (raised by defense 'bad', bad_plugin.py:12)",
    ),
    "digest that is no text": (
        plugin(method="def weights_digest(self): return {1, 2}"),
        "'bad' returned set {1, 2} from weights_digest(); expected a SHA-256 as text",
    ),
    "exception that is no Exception": (
        plugin(before="class BadError(BaseException): pass", body="raise BadError('boo')"),
        "BadError: boo",
    ),
    "torch's default dtype": (
        plugin(before="import torch", body="torch.set_default_dtype(torch.float64)"),
        "defense 'bad' changed torch's default dtype (to torch.float64) for the whole process",
    ),
    "deterministic algorithms": (
        plugin(before="import torch", body="torch.use_deterministic_algorithms(True)"),
        "defense 'bad' changed torch's choice of deterministic algorithms (to True) for the whole process",
    ),
    "how float32 is computed": (
        plugin(before="import torch", body="torch.backends.cudnn.allow_tf32 = True"),
        "defense 'bad' changed torch's float32 precision (cudnn.allow_tf32 to True) for the whole process",
    ),
    "thread that raises": (
        plugin(before=THREAD, body="started = threading.Thread(target=fail); started.start(); started.join()"),
        "a thread that it started raised OSError: in a thread",
    ),
}
"""What becomes the ERR cell of the defense 'bad'."""


@pytest.fixture
def matrix(call: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Runs FGSM on a few digits with a bad and a good plugin, through some defenses; the call, and cells by defense."""

    def run(source: str, *defenses: str, jobs: int = 1) -> tuple[Any, dict[str, Any]]:
        (tmp_path / "bad_plugin.py").write_text(source)
        (tmp_path / "good_plugin.py").write_text(plugin(name="good"))
        files = ("--plugin", tmp_path / "bad_plugin.py", "--plugin", tmp_path / "good_plugin.py")
        axes = ("--datasets", "mnist-20", "--models", "mnist-cnn", "--attacks", "fgsm", "--defenses", *defenses)
        target = tmp_path / "results.json"
        more = ("--store", tmp_path / "store", "--export", target, "--jobs", jobs)
        called = call("matrix", *axes, *files, *more)
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
    assert "'bad'" in cells["bad"]["error"]
    assert cells["none"]["status"] == cells["good"]["status"] == "ok"
    assert "ERR" in called.out


def test_what_prints_at_import_does_not_print_among_the_tables(matrix: Callable[..., Any]) -> None:
    called, cells = matrix(plugin(before="print('hello from a plugin')", body="print('and again')"), "bad", "good")
    assert called.code == 0
    assert cells["bad"]["status"] == "ok"
    assert "hello from a plugin" in called.err
    assert "hello" not in called.out
    assert "and again" not in called.out


def test_what_goes_around_python_s_stdout_does_not_come_among_the_tables_either(tmp_path: Path) -> None:
    talk = "import os, subprocess, sys; os.write(1, b'by hand\\n'); subprocess.run(['echo', 'by a child'])"
    (tmp_path / "bad_plugin.py").write_text(plugin(before=talk, body="import os; os.write(1, b'in apply\\n')"))
    axes = "--datasets mnist-20 --models mnist-cnn --attacks fgsm --defenses bad"
    advbench, more = f"{sys.executable} -m advbench", "--plugin bad_plugin.py"
    command = f"{advbench} matrix {axes} {more} --store store && {advbench} list defenses {more} --format json"
    done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in ("by hand", "by a child", "in apply"):
        assert words in done.stderr
        assert words not in done.stdout
    assert "mnist-20 · mnist-cnn" in done.stdout
    assert "bad" in {entry["name"] for entry in json.loads(done.stdout[done.stdout.index("\n[") :])}


def test_a_component_that_closes_stdout_closes_nothing(matrix: Callable[..., Any]) -> None:
    close = "import sys; sys.stdout.close()"
    called, cells = matrix(plugin(before=close, body=close), "bad", "good")
    assert called.code == 0, called.err
    assert cells["bad"]["status"] == cells["good"]["status"] == "ok"
    assert "finished in" in called.err


def test_a_component_that_cannot_be_hashed_is_named(matrix: Callable[..., Any]) -> None:
    called, _ = matrix(plugin(method="def __hash__(self): raise OSError('no')"), "bad")
    assert called.code == 2
    assert "defense 'bad' of file bad_plugin.py cannot be built: OSError: no" in called.error_line()


def test_an_interruption_that_a_component_makes_up_in_a_worker_is_its_own(matrix: Callable[..., Any]) -> None:
    called, cells = matrix(plugin(body="raise KeyboardInterrupt"), "bad", "good", jobs=2)
    assert called.code == 1, called.err
    assert cells["bad"]["error"] == "KeyboardInterrupt (raised by defense 'bad', bad_plugin.py:12)"
    assert cells["good"]["status"] == "ok"
