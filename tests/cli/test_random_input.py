"""Random suites, manifests and command lines: a result or one line, never a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

from advbench.discovery import loading
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.errors import UsageError
from advbench.evaluation.plan.build import resolve_axes
from advbench.session.options import RunOptions
from advbench.session.suites import suite_of, suites_by_seed
from advbench.specs import load_suite
from advbench.store import digest_of

pytestmark = pytest.mark.slow

Call = Callable[..., Called]

NAMES = ("jpeg", "none", "fgsm", "pgd", "mnist-5k", "mnist-cnn", "tvm", "oblivious", "adaptive", "quickstart", "latest")
ODD = (
    "", " ", "\0", "\x1b[31m", "\n", "\ufeff", "\u202e", "３", "٣", "é", "💥", "\ud800", "~nouser", "~", "/", "..",
    "{", "}", "{1,2}", '"', "\\", "+", ",", ":", "=", "=1", ":eps=0.3", ":quality=75", "1e999", "nan", "-1", "1/0",
    "9" * 5000, "%s", "[bold]", "<b>", "$(x)", "--", "-", "@", "*", "None", "true", "1_0", "0x1", "x" * 300,
)  # fmt: skip
VALUES = ("1", "0", "-5", "3.5", "nan", "1e400", "9" * 5000, "true", '"a"', "[]", "{}", "1979-05-27", "[1]", '["x"]')
KEYS = ("name", "description", "limit", "seed", "eot", "score_draws", "max_queries", "surrogate", "precision",
        "fit_samples", "fit_data", "plugins", "parts", "datasets", "models", "attacks", "defenses",
        "threats")  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Registry:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ADVBENCH_DISABLE_PLUGINS", raising=False)
        return discover(("advbench.executors.plugin", "advbench.report.plugin"))


def _text(choose: random.Random) -> str:
    """A spec, often with something odd in it."""
    parts = [choose.choice(NAMES), *choose.choices(NAMES + ODD, k=choose.choice((0, 0, 1, 2, 3)))]
    if choose.random() < 0.2:
        choose.shuffle(parts)
    return "".join(parts)


def _suite(choose: random.Random) -> bytes:
    lines = []
    for key in choose.sample(KEYS, k=choose.randint(0, 8)):
        specs = json.dumps([_text(choose) for _ in range(choose.randint(0, 3))], ensure_ascii=False)
        fitting = {"parts": "[{}]", "precision": '"bf16"', "surrogate": '"mnist-cnn"'}.get(key, specs)
        fitting = "7" if key in KEYS[2:6] else f'"{choose.choice(NAMES)}"' if key in KEYS[:2] else fitting
        lines.append(f"{key} = {fitting if choose.random() < 0.9 else choose.choice(VALUES)}")
    if choose.random() < 0.3:
        lines.append("[[parts]]\nattacks = " + json.dumps([_text(choose)]))
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if choose.random() < 0.2:
        at = choose.randint(0, len(content))
        content = content[:at] + choose.choice(ODD).encode("utf-8", "surrogatepass") + content[at:]
    return choose.choice((b"", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf", b"\xff\xfe")) + content


def test_random_suites(registry: Registry, tmp_path: Path) -> None:
    choose, file = random.Random(1), tmp_path / "suite.toml"
    read = refused = 0
    for _ in range(500):
        content = _suite(choose)
        file.write_bytes(content)
        try:
            suite = load_suite(str(file), registry.studies)
            read += 1
            resolve_axes(registry, suite)
        except UsageError as error:
            refused += 1
            assert len(str(error)) < 8000, content
        except Exception as error:
            raise AssertionError(f"{error!r} from the suite {content!r}") from error
    assert read > 100
    assert refused > 100


def _mutated(choose: random.Random, value: Any) -> Any:
    """A JSON value with one part of it changed."""
    if isinstance(value, dict) and value and choose.random() < 0.9:
        key = choose.choice(sorted(value))
        changed = dict(value)
        if choose.random() < 0.2:
            del changed[key]
        else:
            changed[key] = _mutated(choose, value[key])
        return changed
    if isinstance(value, list) and value and choose.random() < 0.9:
        index = choose.randrange(len(value))
        return [*value[:index], _mutated(choose, value[index]), *value[index + 1 :]]
    return choose.choice(
        (None, True, 0, -1, 10**30, 1.5, "", "x", "\x1b", [], {}, [[]], {"a": {}}, [1, "a"], {"at": 1})
    )


def _deep(count: int) -> str:
    return "[" * count + "]" * count


@pytest.fixture
def stored(toy: Callable[..., tuple[Called, dict[str, Any]]], tmp_path: Path) -> Path:
    called, _ = toy()
    assert called.code == 0, called
    return tmp_path / "store"


def test_random_manifests(stored: Path, call: Call) -> None:
    choose, (file,) = random.Random(2), list((stored / "runs").glob("*.json"))
    whole = file.read_bytes()
    manifest = json.loads(whole)["manifest"]
    for count in range(500):
        if count % 4 == 0:
            at = choose.randrange(len(whole))
            content = choose.choice(
                (whole[:at], whole[:at] + bytes([choose.randrange(256)]) + whole[at + 1 :], whole[at:], b"",
                 _deep(choose.choice((10, 100_000))).encode(), b"\xff", b"[" + b"1," * 100, b"9" * 5000)
            )  # fmt: skip
        else:
            changed = _mutated(choose, manifest)
            for _ in range(choose.choice((0, 1, 3))):
                changed = _mutated(choose, changed)
            # With its digest, as another version could have written it.
            content = json.dumps({"manifest": changed, "sha256": digest_of(changed)}).encode()
        file.write_bytes(content)
        words = choose.choice(
            (["leaderboard"], ["cache", "ls"], ["cache", "ls", "--format", "json"], ["cache", "verify"], ["audit"],
             ["compare", "toy-keep", "toy-dim"], ["cache", "rm", "latest", "--dry-run"], ["cache", "gc", "--dry-run"])
        )  # fmt: skip
        called = call(*words, "--store", stored)
        assert called.code in (0, 1, 2), (words, content[:3000], called.err)
        assert "Traceback" not in called.err, (words, content)


@pytest.fixture
def planned(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands plan and compute nothing: ``matrix`` stops where work would begin."""

    def plan_only(options: RunOptions, _: object) -> int:
        suite = suite_of(load_suite(options.suite or "quickstart", registry.studies), options, registry)
        for one, _command in suites_by_seed(suite, options):
            resolve_axes(registry, one)
        return 0

    monkeypatch.setattr("advbench.session.run.run_matrix", plan_only)
    monkeypatch.delenv("ADVBENCH_DISABLE_PLUGINS", raising=False)
    monkeypatch.setattr(loading, "discover", lambda *_, **__: registry)


AXES = ("--datasets", "--models", "--attacks", "--defenses", "--threats", "--surrogate", "--suite")
FLAGS = (
    "--limit", "--seed", "--seeds", "--eot", "--score-draws", "--max-queries", "--precision", "--device",
    "--batch-size", "--jobs", "--executor", "--cell-timeout", "--memory", "--rerun", "--fail-fast", "--dry-run",
    "--format", "--data-dir", "-q", "-v", "--older-than", "--no-plugin",
)  # fmt: skip
COMMANDS = {
    "matrix": AXES + FLAGS,
    "leaderboard": ("--format",),
    "compare": ("--defenses",),
    "audit": (),
    "list": ("--format", "--no-plugin"),
    "info": ("--no-plugin",),
    "plugins": ("--no-plugin",),
    "cache": ("ls", "gc", "rm", "verify", "--older-than", "--dry-run"),
    "figures": ("--only", "--format"),
}
SETTINGS = ("1", "0", "5", "0.5", "cpu", "all", "bf16", "json", "plain", "serial", "latest~1", "attacks")


def _words(choose: random.Random) -> list[str]:
    command = choose.choice(("matrix", "matrix", *COMMANDS))
    words = [command]
    for _ in range(choose.randint(0, 4)):
        flag = choose.choice(COMMANDS[command] or FLAGS) if choose.random() < 0.9 else choose.choice(FLAGS)
        known = choose.random() < 0.7
        values = AXES if flag in AXES else SETTINGS
        value = _text(choose) if flag in AXES or not known else choose.choice(values)
        words += choose.choice(([flag, value], [flag, value], [flag], [f"{flag}={value}"], [value]))
    return words


def test_random_command_lines(stored: Path, planned: None, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = random.Random(3)
    monkeypatch.chdir(stored.parent)
    codes = set()
    for _ in range(2000):
        words = _words(choose)
        if words[0] not in ("list", "info", "plugins"):
            words += ["--store", str(stored)]
        called = call(*words)
        codes.add(called.code)
        assert called.code in (0, 1, 2), (words, called.err)
        assert "Traceback" not in called.err, (words, called.err)
        if called.code == 2:
            assert len(called.err.splitlines()) == 1, (words, called.err)
    assert {0, 2} <= codes
