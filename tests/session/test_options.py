"""Options: the command line and the Python API turn the same values into the same options."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

from advbench.cli import matrix_command
from advbench.live.arguments import run_options
from advbench.session.options import CHECKS, LoadOptions, RunOptions


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    matrix_command.add_arguments(parser)
    return parser.parse_args(words)


def test_without_flags_or_arguments_all_options_have_their_defaults() -> None:
    assert RunOptions.of(vars(parsed())) == RunOptions() == run_options({"limit": None, "plugin": None})


def test_every_option_has_a_flag_and_every_flag_is_an_option() -> None:
    fields = {field.name for field in dataclasses.fields(RunOptions)}
    assert fields == vars(parsed()).keys()
    assert CHECKS.keys() <= fields


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["--limit", "5", "--seed", "0"], {"limit": 5, "seed": 0}),
        (["--seeds", "1", "2"], {"seeds": range(1, 3)}),
        (["--threats", "adaptive"], {"threats": "adaptive"}),
        (["--threats", "adaptive", "oblivious"], {"threats": ("adaptive", "oblivious")}),
        (["--eot", "2", "--score-draws", "3"], {"eot": 2, "score_draws": 3}),
        (["--max-queries", "100"], {"max_queries": 100}),
        (["--precision", "bf16", "--surrogate", "toy"], {"precision": "bf16", "surrogate": "toy"}),
        (["--check-convergence", "--fail-fast"], {"check_convergence": True, "fail_fast": True}),
        (["--cell-timeout", "1.5", "--memory", "0.5"], {"cell_timeout": 1.5, "memory": 0.5}),
        (["--device", "cuda:1", "--batch-size", "7", "--jobs", "2"], {"device": "cuda:1", "batch_size": 7, "jobs": 2}),
        (["--executor", "serial", "--scheduler", ""], {"executor": "serial", "scheduler": ""}),
        (["--rerun", "all", "--format", "plain"], {"rerun": "all", "format": "plain"}),
        (["--store", "here", "--data-dir", "."], {"store": Path("here"), "data_dir": "."}),
        (["--suite", "a.toml", "--strict-plugins"], {"suite": Path("a.toml"), "strict_plugins": True}),
        (["--plugin", "a.py", "--plugin", "b.py"], {"plugin": ["a.py", Path("b.py")]}),
        (["--plugin", "a.py", "--no-plugin", "x"], {"plugin": Path("a.py"), "no_plugin": "x"}),
        (["-q"], {"quiet": True}),
        (["-v"], {"verbose": True, "quiet": False}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_python_arguments_mean_what_flags_mean(words: list[str], arguments: dict[str, Any]) -> None:
    options = run_options(arguments)
    assert options == RunOptions.of(vars(parsed(*words)))
    assert options != RunOptions()


def test_flags_of_other_commands_are_ignored_and_replaced_values_count() -> None:
    flags = {"runs": ["latest"], "plugin": [Path("a.py")], "limit": [("mnist", 5)], "device": "cpu"}
    assert LoadOptions.of(flags) == LoadOptions(plugin=(Path("a.py"),), device="cpu")
    assert RunOptions.of(flags, limit=3).limit == 3


def test_a_command_reads_its_suite_file_once(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advbench.specs import suite as suite_module

    toy = Path(__file__).parents[1] / "toy_plugin.py"
    file = tmp_path / "mine.toml"
    file.write_text(
        f"plugins = [{str(toy)!r}]\n"
        "datasets = ['toy']\nmodels = ['toy-linear']\nattacks = ['toy-sign']\ndefenses = ['toy-keep']\n"
    )
    read: list[str] = []
    loads = suite_module.tomllib.loads

    def counting(content: str) -> dict[str, Any]:
        read.append(content)
        return loads(content)

    monkeypatch.setattr(suite_module.tomllib, "loads", counting)
    assert call("matrix", "--suite", file, "--seeds", 1, 2, "--store", tmp_path / "store").code == 0
    assert len(read) == 1
