"""Plugins register suites and commands, which are found without torch."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TOY, Called

from advbench.discovery.loading import discover
from advbench.discovery.studies import discover_studies

pytestmark = pytest.mark.slow

Call = Callable[..., Called]

SUITE = """
description = "Two toys"
datasets = ["toy"]
models = ["toy-linear"]
attacks = ["toy-sign"]
defenses = ["toy-keep", "toy-dim"]
limit = 8
"""

STUDY = """
from pathlib import Path

from advbench.api import StudyCommand, hookimpl


@hookimpl
def register_suites(register):
    register("NAME-suite", Path(__file__).with_name("toys.toml"))


@hookimpl
def register_commands(register):
    register(StudyCommand("NAME", "how well toys do", run, add_arguments))


def add_arguments(parser):
    parser.add_argument("--least", type=float, default=0.5, help="the least accuracy in %")


def run(study):
    runs = [study.plan_suite("NAME-suite", limit=4)]
    if study.options.dry_run:
        return study.dry_run(runs)
    for suite_run, results in study.run(runs):
        worst = min(cell["robust_accuracy"] for cell in results["cells"])
        verdict = "holds" if worst >= study.options.least else "fails"
        study.print_report(lambda console: console.print(f"{suite_run.label}: {verdict} in {study.command()}"))
    return study.exit_code([results])
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a distribution with a study on the path, and returns its module's file."""
    site = tmp_path / "studies"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    (site / "toys.toml").write_text(SUITE)

    def make(name: str, source: str = STUDY, group: str = "advbench.studies") -> Path:
        module = f"study_{name}"
        file = site / f"{module}.py"
        file.write_text(source.replace("NAME", name))
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{module} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        return file

    return make


def test_a_study_beside_the_papers_runs_its_suite_and_reports(
    call: Call, study: Callable[..., Path], tmp_path: Path
) -> None:
    study("mine")
    files = ("--plugin", TOY, "--store", tmp_path / "store")
    called = call("reproduce", "mine", *files)
    assert called.code == 0, called.err
    assert called.out.startswith("mine-suite: ")
    assert "in advbench reproduce mine --plugin" in called.out
    assert "mine-suite: fails" in call("reproduce", "--least", "1.1", *files, "mine").out
    dry = call("reproduce", "mine", "--dry-run", *files)
    assert len(dry.out.splitlines()) == 2
    assert dry.out.startswith("stored")


def test_every_study_has_its_own_flags_and_an_unknown_one_is_named(call: Call, study: Callable[..., Path]) -> None:
    study("mine")
    assert "unknown argument --cw-steps" in call("reproduce", "mine", "--cw-steps", 3).error_line()
    assert "unknown argument --least" in call("reproduce", "paper", "--least", 3).error_line()
    assert "unknown study 'nime'; did you mean 'mine'?" in call("reproduce", "nime").error_line()
    assert "arguments are required: mine|paper" in call("reproduce").error_line()
    said = call("reproduce", "--store", "mine", "--dry-run", "paper").error_line()
    assert "give the name of the study first: advbench reproduce paper" in said


def test_a_suite_is_found_by_its_name(call: Call, study: Callable[..., Path], tmp_path: Path) -> None:
    study("mine")
    target = tmp_path / "r.json"
    words = ("--plugin", TOY, "--store", tmp_path / "store", "--export", target)
    assert call("matrix", "--suite", "mine-suite", *words).code == 0
    results = json.loads(target.read_text())
    assert [cell["n"] for cell in results["cells"]] == [8, 8]
    assert results["run"]["name"] == "mine-suite"
    assert results["run"]["command"].startswith("advbench matrix --suite mine-suite --plugin")
    assert "did you mean 'mine-suite'?" in call("matrix", "--suite", "mine-siute", *words).error_line()


def test_a_disabled_plugin_takes_its_suites_and_studies_away_and_the_message_says_so(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call("matrix", "--suite", "paper-mnist", "--no-plugin", "studies").error_line()
    assert "unknown suite 'paper-mnist'; there are: imagenet-20, imagenet-20-adaptive, quickstart, standard" in said
    assert "disabled plugins, which may have it: studies" in said
    said = call("reproduce", "paper", "--no-plugin", "studies").error_line()
    assert "unknown study 'paper'; no plugin registers any (disabled plugins, which may have it: studies)" in said
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "studies")
    assert "disabled plugins" in call("matrix", "--suite", "paper").error_line()
    assert call("matrix", "--dry-run").code == 0


def test_a_file_may_be_a_study(call: Call, study: Callable[..., Path], tmp_path: Path) -> None:
    file = study("mine", group="unrelated")
    words = ("--plugin", TOY, "--plugin", file, "--store", tmp_path / "store")
    assert "mine-suite: " in call("reproduce", "mine", *words, "--least", 0).out
    assert call("matrix", "--suite", "mine-suite", *words).code == 0


def test_a_name_of_two_plugins_is_used_from_neither_and_the_error_names_both(
    call: Call, study: Callable[..., Path]
) -> None:
    study("mine")
    study("other", STUDY.replace("NAME-suite", "paper").replace('"NAME"', '"mine"'))
    for words in (("reproduce", "mine"), ("matrix", "--suite", "paper")):
        said = call(*words).err.strip().splitlines()[-1]
        assert "is registered by" in said
        assert "(plugin 'study_other')" in said
        assert "--no-plugin" in said
    registry = discover()
    assert len(registry.problems) == 2
    assert "paper" not in registry.studies.names("suites")


def test_the_names_of_the_cores_suites_stay_with_the_core(call: Call, study: Callable[..., Path]) -> None:
    study("thief", STUDY.replace("NAME-suite", "quickstart"))
    (problem,) = discover().problems
    assert "'quickstart' is that of a suite of advbench itself" in problem.message
    assert "study_thief 1.0" in problem.message
    assert "50 images of mnist-5k" in call("matrix", "--limit", 50, "--dry-run").err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('broken on purpose')", "RuntimeError: broken on purpose"),
        (STUDY.replace('"NAME-suite"', '"My suite"'), "the name 'My suite' must be text such as 'my-suite'"),
        (STUDY.replace("toys.toml", "none.toml"), "the suite 'bad-suite': there is no file"),
        (STUDY.replace('Path(__file__).with_name("toys.toml")', "3"), "must be a Path of a TOML file, not 3"),
        (STUDY.replace("StudyCommand(", "print("), "None is not an advbench.api.StudyCommand"),
        (STUDY.replace('StudyCommand("NAME"', "StudyCommand(3"), "the name 3 must be text such as 'my-study'"),
        (f"API_VERSION = 9\n{STUDY}", "needs API version 9"),
        ("x = 1", "implements no register_… hook"),
    ],
)
def test_a_bad_study_is_a_problem_and_nothing_else_suffers(
    call: Call, study: Callable[..., Path], source: str, message: str
) -> None:
    study("bad", source)
    registry = discover()
    assert len(registry.problems) == 1
    assert message in registry.problems[0].message
    assert "paper" in registry.studies.names("commands")
    assert "paper" in discover_studies().names("commands")
    assert message.split("'", maxsplit=1)[0] in " ".join(call("plugins").out.split())


def test_an_unknown_name_says_which_plugins_have_problems(call: Call, study: Callable[..., Path]) -> None:
    study("bad", "raise RuntimeError('broken on purpose')")
    said = call("matrix", "--suite", "bad-suite").err.strip().splitlines()[-1]
    assert "plugins with problems: study_bad; see 'advbench plugins'" in said
    assert "plugins with problems: study_bad" in call("reproduce", "bad").error_line()


def test_hooks_in_the_wrong_group_are_a_problem(study: Callable[..., Path]) -> None:
    study("lost", group="advbench")
    (problem,) = discover().problems
    assert "register_commands and register_suites of study_lost" in problem.message
    assert "'advbench.studies'" in problem.message


def test_a_study_that_imports_torch_while_it_is_loaded_is_a_problem(study: Callable[..., Path]) -> None:
    file = study("heavy", f"import torch\n{STUDY}")
    program = (
        "from advbench.discovery.studies import discover_studies\n"
        "(problem,) = discover_studies().log.problems\n"
        "assert 'study_heavy imports torch; import it inside the functions' in problem.message\n"
    )
    program = f"import sys\nsys.path.insert(0, {str(file.parent)!r})\n{program}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_advbenchs_own_studies_and_results_import_no_torch() -> None:
    program = (
        "import sys, importlib\n"
        "import advbench.results\n"
        "from advbench.discovery.studies import discover_studies\n"
        "studies = discover_studies()\n"
        "assert studies.names('commands') == ['paper'], studies.log.problems\n"
        "assert 'paper-mnist' in studies.names('suites')\n"
        "assert not {'torch', 'numpy', 'rich'} & sys.modules.keys()\n"
        "assert not [name for name in sys.modules if name.startswith('advbench_') and 'studies' not in name]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_commands_show_what_studies_register(call: Call, study: Callable[..., Path]) -> None:
    file = study("mine")
    rows = {row["name"]: row for row in json.loads(call("plugins", "--format", "json").out)}
    assert rows["study_mine"]["registers"] == ["suite mine-suite", "command reproduce mine"]
    assert "suite paper-mnist" in rows["studies"]["registers"]
    assert "commands: reproduce mine" in call("plugins").out
    assert "1 suite, 1 command" in call("doctor").out
    listed = {
        (row["kind"], row["name"]): row for row in json.loads(call("list", "suites", "studies", "--format", "json").out)
    }
    assert listed["suites", "mine-suite"]["summary"] == "Two toys"
    assert listed["suites", "mine-suite"]["distribution"] == "study_mine"
    assert listed["suites", "quickstart"]["plugin"] == "core"
    assert listed["studies", "paper"]["plugin"] == "studies"
    assert "how well toys do" in call("list", "studies").out
    shown = call("info", "mine-suite").out
    assert "toy-keep, toy-dim" in shown
    assert str(file.with_name("toys.toml")) in shown
    assert "'advbench reproduce mine' runs it" in call("info", "mine").out


def test_check_and_doctor_see_a_suite_that_cannot_run(call: Call, study: Callable[..., Path]) -> None:
    file = study("mine")
    assert call("check", "study_mine", "--plugin", TOY).code == 0
    called = call("check", "study_mine")
    assert called.code == 1
    assert "unknown attack 'toy-sign'" in " ".join(called.out.split())
    file.with_name("toys.toml").write_text("limit = 0\n")
    assert "limit must be a whole number of at least 1" in call("check", "study_mine").out
    called = call("doctor")
    assert called.code == 1
    assert "disable its plugin: --no-plugin study_mine" in called.out


def test_the_suites_of_advbench_keep_their_contract(call: Call) -> None:
    assert call("check", "studies").code == 0


AXES_STUDY = (
    STUDY[: STUDY.index("def run(study):")]
    + """
def run(study):
    run = study.plan_suite("NAME-suite", attacks=["toy-sign:eps=0.2"], defenses=["toy-dim"], models=["toy-linear"])
    [(_, results)] = study.run([run])
    [record] = run.records()
    clean, adversarial = run.images(record)
    lines = [
        results["run"]["command"],
        f"{clean.shape} {clean.dtype} {adversarial.shape} {record['linf'][0]} {abs(adversarial - clean)[0].max()}",
        str(run.images({**record, "defense": "toy-keep"})),
    ]
    for line in lines:
        study.print_report(lambda console: console.print(line, soft_wrap=True, highlight=False))
    return 0
"""
)


def test_a_study_replaces_axes_and_reads_the_images(call: Call, study: Callable[..., Path], tmp_path: Path) -> None:
    study("mine", AXES_STUDY)
    files = ("--plugin", TOY, "--store", tmp_path / "store")
    for _ in range(2):  # computed, then from the store
        called = call("reproduce", "mine", *files)
        assert called.code == 0, called.err
        command, shapes, unknown = called.out.splitlines()
        assert "--models toy-linear --attacks toy-sign:eps=0.2 --defenses toy-dim" in command
        assert unknown == "None"
        first, rest = shapes.split("float32")
        assert first.strip() in rest
        *_, stored, measured = rest.split()
        assert float(stored) == pytest.approx(float(measured), abs=1e-6)
        assert float(measured) == pytest.approx(0.2, abs=1e-6)
