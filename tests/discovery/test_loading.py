"""A broken plugin is recorded as a problem and does not affect other plugins."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from advbench.api import import_file
from advbench.discovery.identity import clear_digest_cache, code_digests, dependency_versions
from advbench.discovery.loading import discover
from advbench.errors import PluginError, UnknownNameError, UsageError

GOOD = """
from dataclasses import dataclass
from advbench.api import Defense, hookimpl

@dataclass(frozen=True)
class Good(Defense):
    name = "{name}"
    def apply(self, images, rng):
        return images

@hookimpl
def register_defenses(register):
    register(Good)
"""

BAD = {
    "raises on import": ("raise RuntimeError('broken on purpose')", "RuntimeError: broken on purpose"),
    "misses a dependency": ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    "has a syntax error": ("def broken(:", "SyntaxError"),
    "leaves": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "is of another version": ("API_VERSION = 99", "needs API version 99, this advbench has 2; upgrade advbench"),
    "has no hook": ("x = 1", "implements no register_… hook"),
    "has an unknown hook": (
        "from advbench.api import hookimpl\n@hookimpl\ndef register_defences(register): pass",
        "unknown hook 'register_defences'; did you mean 'register_defenses'?",
    ),
    "has a hook with an unknown argument": (
        "from advbench.api import hookimpl\n@hookimpl\ndef register_defenses(register, extra): pass",
        "extra",
    ),
    "raises while registering": (
        "from advbench.api import hookimpl\n@hookimpl\ndef register_defenses(register): raise KeyError('oops')",
        "KeyError: 'oops'",
    ),
    "registers another kind": (
        "from advbench.api import Attack, hookimpl\nclass A(Attack):\n    name = 'a'\n"
        "@hookimpl\ndef register_defenses(register): register(A)",
        "not a subclass of advbench.api.Defense",
    ),
    "is not frozen": (
        GOOD.replace("(frozen=True)", "()").replace("{name}", "x"),
        "non-frozen",
    ),
    "forgets the decorator": (
        GOOD.replace("@dataclass(frozen=True)\n", "").replace('name = "{name}"', 'name = "x"; strength: float = 1.0'),
        "decorate it with @dataclass(frozen=True)",
    ),
    "has a mutable default": (
        GOOD.replace('name = "{name}"', 'name = "x"; sizes: list = []'),
        "mutable default",
    ),
    "has a parameter of no type": (
        GOOD.replace('name = "{name}"', 'name = "x"; sizes: tuple = ()'),
        "the type of a parameter must be int, float, bool or str",
    ),
    "lacks the method": (
        GOOD.replace("def apply", "def applies").replace("{name}", "x"),
        "does not define apply or classify",
    ),
    "has votes of no number": (
        GOOD.replace("{name}", "x").replace("    def apply", "    votes = True\n    def apply"),
        "votes = True must be None or a whole number above 0",
    ),
    "certifies in no norm": (
        GOOD.replace("{name}", "x").replace("    def apply", "    certified_norm = 'L2'\n    def apply"),
        "certified_norm = 'L2' must be None or one of linf, l2",
    ),
    "has a bad name": (GOOD.format(name="<img src=x>"), "must be text such as 'my-defense'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plugin_is_reported_and_does_not_affect_others(case: str, install: Callable[..., None]) -> None:
    source, message = BAD[case]
    install("aa-bad-plugin", source)
    install("zz-good-plugin", GOOD.format(name="good"))
    registry = discover()
    (problem,) = registry.problems
    assert message in problem.message
    assert problem.distribution == "aa-bad-plugin 1.0"
    assert registry.get("defenses", "good").plugin.provenance == "zz-good-plugin 1.0"
    assert registry.get("defenses", "jpeg").plugin.distribution == "advbench"


def test_a_defense_that_classifies_needs_no_apply(install: Callable[..., None]) -> None:
    source = GOOD.format(name="good").replace(
        "def apply(self, images, rng):", "def classify(self, network, images, rng, fitted):"
    )
    install("voting", source.replace("return images", "return network(images)"))
    registry = discover()
    assert not registry.problems
    assert registry.get("defenses", "good").plugin.distribution == "voting"


def test_a_bad_component_does_not_affect_others_of_the_plugin(install: Callable[..., None]) -> None:
    source = GOOD.format(name="good") + "\n    register(int)\n"
    install("half-good", source)
    registry = discover()
    assert registry.get("defenses", "good").plugin.distribution == "half-good"
    assert "register_defenses was given <class 'int'>" in registry.problems[0].message


def test_a_name_that_two_plugins_register_is_an_error_that_names_both(install: Callable[..., None]) -> None:
    install("impostor", GOOD.format(name="jpeg"))
    registry = discover()
    (problem,) = registry.problems
    ours = f"advbench {metadata.version('advbench')}"
    assert ours in problem.message
    assert "impostor 1.0" in problem.message
    with pytest.raises(UnknownNameError, match=rf"{re.escape(ours)} .* and impostor 1\.0"):
        registry.get("defenses", "jpeg")
    assert "jpeg" not in [registered.component.name for registered in registry.all("defenses")]
    assert registry.get("defenses", "tvm").plugin.distribution == "advbench"


def test_strict_plugins_raise_the_first_problem(install: Callable[..., None]) -> None:
    install("bad-plugin", "raise RuntimeError('broken on purpose')")
    with pytest.raises(PluginError, match=r"bad-plugin 1\.0: RuntimeError: broken on purpose"):
        discover(strict=True)


@pytest.mark.parametrize("disabled", ["*", "advbench", "attacks, datasets,defenses,models"])
def test_plugins_can_be_disabled_by_entry_point_or_distribution(disabled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", disabled)
    registry = discover()
    assert not any(registry.all(kind) for kind in ("attacks", "defenses", "models", "datasets"))
    assert not registry.problems


def test_output_of_a_plugin_goes_to_stderr(install: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    install("chatty", "print('hello from the plugin')\n" + GOOD.format(name="chatty"))
    discover()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello from the plugin" in captured.err


def test_a_single_file_is_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "my defense.py"
    file.write_text(GOOD.format(name="own"))
    registry = discover(files=[file])
    assert registry.get("defenses", "own").plugin.name == str(file)
    with pytest.raises(UsageError, match="no such file"):
        discover(files=[tmp_path / "absent.py"])


def test_a_file_edited_within_one_second_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "plugin.py"
    numbers = []
    for number in (1, 2):
        file.write_text(f"NUMBER = {number}\n")
        os.utime(file, (0, 0))
        numbers.append(import_file(file).NUMBER)
    assert numbers == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["plugin.py"], "no bytecode is written beside the user's files"


def test_broken_metadata_is_reported_and_does_not_affect_others(install: Callable[..., None], tmp_path: Path) -> None:
    install("zz-good-plugin", GOOD.format(name="good"))
    broken = tmp_path / "site" / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_bytes(b"[advbench]\n\xff\xfe = nothing\n")
    registry = discover()
    assert registry.get("defenses", "good").plugin.distribution == "zz-good-plugin"
    assert any("broken" in str(problem) and "metadata" in problem.message for problem in registry.problems)


def test_the_first_distribution_of_a_name_on_the_path_is_used(
    install: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("twice-plugin", GOOD.format(name="good"))
    assert discover().get("defenses", "good").plugin.version == "1.0"
    first = tmp_path / "first" / "twice_plugin-2.0.dist-info"
    first.mkdir(parents=True)
    (first / "METADATA").write_text("Metadata-Version: 2.1\nName: twice-plugin\nVersion: 2.0\n")
    monkeypatch.syspath_prepend(str(first.parent))
    with pytest.raises(UnknownNameError):
        discover().get("defenses", "good")
    (first / "entry_points.txt").write_text("[advbench]\ntwice_plugin = twice_plugin\n")
    assert discover().get("defenses", "good").plugin.version == "2.0"


def _recording(parse: Callable[[Any], Any], parsed: set[str]) -> Callable[[Any], Any]:
    """This getter of metadata, which adds the name that it reads to ``parsed``."""

    def record(distribution: Any) -> Any:
        described = parse(distribution)
        parsed.add(described["Name"])
        return described

    return record


def test_the_metadata_of_distributions_without_plugins_is_not_parsed(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("mine-plugin", GOOD.format(name="good"))
    parsed = set()
    # Once a library has imported the backport `importlib_metadata`, distributions are of that package's class.
    for kind in {type(distribution) for distribution in metadata.distributions()}:
        monkeypatch.setattr(kind, "metadata", property(_recording(kind.metadata.fget, parsed)))
    discover()
    assert "mine-plugin" in parsed
    assert "torch" not in parsed


def test_code_digests_cover_helpers_and_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("import my_helper\n" + GOOD.format(name="mine"))
    helper, table = tmp_path / "my_helper.py", package / "table.json"
    digests = []
    for helper_text, table_text in (("X = 1", "1"), ("X = 2", "1"), ("X = 1", "2"), ("X = 1", "1")):
        helper.write_text(helper_text)
        table.write_text(table_text)
        for name in ("my_package", "my_helper"):
            sys.modules.pop(name, None)
        clear_digest_cache()
        component = importlib.import_module("my_package").Good
        digests.append(code_digests(component))
    assert list(digests[0]) == ["my_helper", "my_package"]
    assert digests[0] == digests[3]
    assert digests[1] != digests[0] != digests[2]


def test_code_digests_cover_the_modules_of_a_component_and_its_bases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for helper in ("X = 1", "X = 2", "X = 2"):
        file = tmp_path / str(len(digests)) / "mine.py"
        file.parent.mkdir()
        file.write_text(GOOD.format(name="mine") + helper)
        component = discover(files=[file]).get("defenses", "mine").component
        digests.append(next(iter(code_digests(component).values())))
    assert digests[0] != digests[1] == digests[2]
    jpeg = discover().get("defenses", "jpeg").component
    assert list(code_digests(jpeg)) == ["advbench_defenses"]
    assert list(dependency_versions(jpeg)) == ["pillow"]
