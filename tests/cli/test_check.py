"""``advbench check``: all components of the plugins that it is asked about, and no others; a bad plugin is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

Call = Callable[..., Called]

GOOD = """
from dataclasses import dataclass
from advbench.api import Defense, hookimpl, param

@dataclass(frozen=True)
class Mine(Defense):
    \"\"\"Multiplies by a number.\"\"\"
    name = "mine"
    factor: float = param(1.0, min=0, max=2, help="what to multiply by")
    def apply(self, images, rng):
        return images * self.factor

@hookimpl
def register_defenses(register):
    register(Mine)
"""

TWO_KINDS = """
from dataclasses import dataclass
from advbench.api import Attack, Defense, hookimpl

@dataclass(frozen=True)
class Same(Attack):
    \"\"\"Does nothing.\"\"\"
    name = "mine"
    access = "nothing"
    def run(self, model, images, labels, rng):
        return images

@dataclass(frozen=True)
class Broken(Defense):
    \"\"\"Loses a column.\"\"\"
    name = "mine"
    def apply(self, images, rng):
        return images[..., :-1]

@hookimpl
def register_attacks(register):
    register(Same)

@hookimpl
def register_defenses(register):
    register(Broken)
"""

BAD = {
    "missing-import": ("import numpyy\n", "No module named 'numpyy'"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "exits": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "no-hook": ("number = 1\n", "implements no register_… hook"),
    "no-hookimpl": (GOOD.replace("@hookimpl\n", ""), "decorate one with @hookimpl"),
    "misspelt-hook": (GOOD.replace("register_defenses(", "register_defence("), "register_defence"),
    "empty-hook": (GOOD.replace("register(Mine)", "pass"), "registers nothing"),
    "no-dataclass": (GOOD.replace("@dataclass(frozen=True)\n", ""), "Mine: decorate it with @dataclass(frozen=True)"),
    "no-dataclass-nor-parameter": (
        TWO_KINDS.replace("@dataclass(frozen=True)\n", ""),
        "Same: decorate it with @dataclass(frozen=True)",
    ),
    "name-of-another": (GOOD.replace('"mine"', '"jpeg"'), "the defense name 'jpeg' is registered by"),
    "name-twice": (
        GOOD.replace("register(Mine)", "register(Mine)\n    register(dataclass(frozen=True)(type('B', (Mine,), {})))"),
        "the defense name 'mine' is registered by",
    ),
    "raises-half-way": (GOOD + "    raise KeyError('later')\n", "KeyError: 'later'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_plugin_in_order_is_an_error_and_nothing_is_checked(
    call: Call, tmp_path: Path, case: str
) -> None:
    source, message = BAD[case]
    file = tmp_path / "own.py"
    file.write_text(source)
    for words in ((), ("jpeg",)):
        called = call("check", "--plugin", file, *words)
        assert called.code == 4
        assert message in called.error_line()
        assert called.out == ""


def test_one_name_of_two_kinds_is_checked_as_both(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(TWO_KINDS)
    for words in ((), ("mine",)):
        called = call("check", "--plugin", file, *words)
        assert called.code == 1
        lines = called.out.splitlines()
        assert [line.rpartition("  ")[0] for line in lines if line.startswith(("ok", "FAIL"))] == [
            "ok   attack mine",
            "FAIL defense mine",
        ]
        assert lines[-1] == "1 of 2 breaks the contract"


def test_what_a_helper_in_another_file_registers_is_checked(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_helper_of_check.py").write_text(TWO_KINDS.replace("@hookimpl\n", ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "own.py"
    file.write_text(
        "from advbench.api import hookimpl\nimport own_helper_of_check as other\n"
        "register_attacks = hookimpl(other.register_attacks)\nregister_defenses = hookimpl(other.register_defenses)\n"
    )
    called = call("check", "--plugin", file)
    assert called.code == 1
    assert "FAIL defense mine" in called.out


def test_components_without_defaults_are_not_passed_over_in_silence(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(GOOD.replace("param(1.0, min=0", "param(min=0"))
    called = call("check", "--plugin", file)
    assert called.code == 2
    assert "not checked: mine needs parameters; name it as 'mine:factor=…'" in called.error_line()
    called = call("check", "--plugin", file, "mine:factor=1")
    assert called.code == 0
    assert "it keeps the contract" in called.out


def test_a_component_that_cannot_be_built_breaks_its_contract(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        GOOD.replace("    def apply", "    def __post_init__(self):\n        raise OSError('no')\n    def apply")
    )
    called = call("check", "--plugin", file)
    assert called.code == 1
    assert "cannot be built: OSError: no" in called.out


def test_only_what_has_a_contract_can_be_checked(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom advbench.api import Reporter, hookimpl\n"
        "@dataclass(frozen=True)\nclass Own(Reporter):\n    name = 'own'\n    suffix = '.own'\n"
        "    def render(self, results):\n        return ''\n"
        "@hookimpl\ndef register_reporters(register):\n    register(Own)\n"
    )
    called = call("check", "--plugin", file)
    assert called.code == 2
    assert "there is nothing to check" in called.error_line()


def test_an_installed_plugin_is_checked_by_its_name(
    call: Call, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "attacks,defenses,models,datasets")
    install("own-of-check", TWO_KINDS)
    for word in ("own-of-check", "own_of_check", "mine"):  # distribution, entry point, component
        called = call("check", word)
        assert called.code == 1
        assert "ok   attack mine" in called.out
        assert "FAIL defense mine" in called.out
    install("bad-of-check", "import numpyy\n")
    beside = call("check", "mine")
    assert beside.code == 1  # of another plugin it is a warning
    assert "warning: plugin 'bad_of_check'" in beside.err
    for words in (("bad-of-check",), ()):
        called = call("check", *words)
        assert called.code == 4
        assert "No module named 'numpyy'" in called.error_line()
