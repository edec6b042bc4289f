"""The scripts that complete the command line, tried in the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Called

from advbench.cli.completion import completion_script
from advbench.cli.main import COMMANDS, SHELLS, _parsers
from advbench.discovery.studies import discover_studies
from advbench.evaluation.plan.threats import THREATS
from advbench.specs import shipped_suites

CASES = {
    "advbench mat": {"matrix"},
    "advbench matrix --rerun f": {"failed"},
    "advbench matrix --format ": {"table", "plain", "markdown"},
    "advbench matrix --suite quick": {"quickstart"},
    "advbench matrix --suite paper-m": {"paper-mnist"},
    "advbench matrix --export res": {"results.json"},
    "advbench matrix --device a": {"auto"},
    "advbench matrix --check": {"--check-convergence"},
    "advbench cache g": {"gc"},
    "advbench cache rm --dry": {"--dry-run"},
    "advbench new-plugin --kind att": {"attack"},
    "advbench reproduce pa": {"paper"},
    "advbench list def": {"defenses"},
    "advbench art": {"artefact"},
    "advbench artefact lat": {"latest"},
}
"""What is typed, and all words that are offered to complete the last one."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file and a folder to complete."""
    made = tmp_path / "work"
    (made / "store").mkdir(parents=True)
    (made / "results.json").touch()
    return made


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script for each shell, under its name."""
    made = tmp_path_factory.mktemp("scripts")
    for shell in SHELLS:
        (made / shell).write_text(completion_script(_parsers(COMMANDS)[0], shell))
    return made


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")


def test_a_script_is_printed_without_torch_and_without_plugins_other_than_studies(tmp_path: Path) -> None:
    code = (
        "import sys; from advbench.cli.main import main; code = main(['--print-completion', 'bash']);"
        "heavy = [name for name in sys.modules if name == 'torch' or name.startswith('advbench_')];"
        "print([name for name in heavy if not name.startswith('advbench_studies')], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    script, _, last = done.stdout.rstrip("\n").rpartition("\n")
    assert last == "[] 0"
    assert script.rstrip().endswith("-F _shtab_advbench advbench")


def test_other_shells_are_refused(call: Callable[..., Called]) -> None:
    called = call("--print-completion", "bahs")
    assert called.code == 2
    assert called.error_line() == "advbench: error: --print-completion: unknown 'bahs'; did you mean 'bash'?"


def test_what_is_suggested_is_what_there_is(scripts: Path) -> None:
    script = (scripts / "fish").read_text()
    suites = " ".join(sorted([*shipped_suites(), *discover_studies().names("suites")]))
    assert f'-l suite -xka "{suites} (__fish_complete_path' in script
    (line,) = (line for line in script.splitlines() if "-l threats" in line)
    assert set(line.split('-xka "')[1].split('"')[0].split()) == {threat.name for threat in THREATS.values()} - {"none"}


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=needs(shell)) for shell in SHELLS])
def test_a_script_is_one_that_the_shell_can_read(shell: str, scripts: Path) -> None:
    subprocess.run([shell, "-n", scripts / shell], check=True)


@needs("bash")
@pytest.mark.parametrize("typed", CASES)
def test_bash_completes(typed: str, scripts: Path, folder: Path) -> None:
    words = shlex.split(typed) + ([""] if typed.endswith(" ") else [])
    asked = f"""
        source {scripts / "bash"}
        COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
        function=$(complete -p advbench | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        $function advbench
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", asked], cwd=folder, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == CASES[typed], done.stderr


@needs("bash")
def test_bash_completes_folders_where_folders_are_wanted(scripts: Path, folder: Path) -> None:
    asked = f"source {scripts / 'bash'}; COMP_WORDS=(advbench matrix --store ''); COMP_CWORD=3; _shtab_advbench; "
    done = subprocess.run(
        ["bash", "--norc", "-c", asked + "echo ${COMPREPLY[@]}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "store\n"


@needs("fish")
@pytest.mark.parametrize("typed", CASES)
def test_fish_completes(typed: str, scripts: Path, folder: Path) -> None:
    asked = f"source {scripts / 'fish'}; complete -C {shlex.quote(typed)}"
    home = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    done = subprocess.run(["fish", "-c", asked], cwd=folder, env=home, capture_output=True, text=True, check=True)
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == CASES[typed], done.stderr


@needs("zsh")
def test_zsh_completes(scripts: Path, folder: Path) -> None:
    """At an interactive shell in which the command only says what it was given."""
    (folder.parent / ".zshrc").write_text(
        f"""
        PS1='ready> '
        autoload -U compinit; compinit -D -u
        eval "$(cat {scripts / "zsh"})"
        bindkey '^I' complete-word
        advbench() {{ print -r "given: ${{(j:,:)@}}" }}
        """
    )
    typed = "advbench matr\t --rerun fai\t --suite quick\t --export res\t\n"
    shown = _at_zsh(typed, folder, until=r"given: .*\n")
    assert "given: matrix,--rerun,failed,--suite,quickstart,--export,results.json" in shown, shown


def _at_zsh(typed: str, folder: Path, until: str) -> str:
    """What an interactive zsh shows for a line that is typed at its prompt, up to what this pattern finds."""
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-d", "-i"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "ZDOTDIR": str(folder.parent), "TERM": "dumb", "COLUMNS": "500"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        shown = _read(master, "ready> ")
        os.write(master, typed.encode())
        return shown + _read(master, until)
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


def _read(terminal: int, until: str, seconds: float = 60) -> str:
    shown, end = b"", time.monotonic() + seconds
    while not re.search(until.encode(), shown) and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")
