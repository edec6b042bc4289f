"""Bad input: exit code 2, one line that names what, where and what to do, before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TOY, Called

Call = Callable[..., Called]

HUNDRED = "{" + ",".join(map(str, range(1, 101))) + "}"
MILLION = f"pgd:steps={HUNDRED},restarts={HUNDRED},eps={HUNDRED}"
TWO_THREATS = ("--threats", "oblivious", "adaptive")
GOOD = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "toy-keep")


@pytest.fixture
def refused(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Calls ``advbench matrix``, sees it refused with nothing done, and returns its one line."""
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))

    def run(*flags: object) -> str:
        called = call("matrix", "--store", tmp_path / "store", "--plugin", TOY, *flags)
        assert called.code == 2, called
        assert called.out == ""
        assert not (tmp_path / "log").exists(), "an attack ran"
        assert not (tmp_path / "store" / "runs").exists(), "a manifest was written"
        line = called.error_line()
        assert line.startswith("advbench matrix: error: ")
        return line

    return run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--attacks", "fgms"], "unknown attack 'fgms'; did you mean 'fgsm'?"),
        (["--defenses", "none", "jpge"], "unknown defense 'jpge'; did you mean 'jpeg'?"),
        (["--models", "mnist-cn"], "unknown model 'mnist-cn'; did you mean 'mnist-cnn'?"),
        (["--datasets", "mnsit-5k"], "unknown dataset 'mnsit-5k'; did you mean 'mnist-5k'?"),
        (["--datasets", "qqqqqq"], "unknown dataset 'qqqqqq'; there are: celeba, cifar10, cifar10-20, cifar10-c, "),
        (["--threats", "oblivous"], "unknown threat 'oblivous'; did you mean 'oblivious'?"),
        (["--threats", "oblivious", "oblivious"], "--threats: 'oblivious' is given twice"),
        (["--suite", "quikstart"], "unknown suite 'quikstart'; did you mean 'quickstart'?"),
        (["--executor", "serail"], "unknown executor 'serail'; did you mean 'serial'?"),
        (["--attakcs", "fgsm"], "unknown argument --attakcs; did you mean --attacks?"),
        (["--rerun", "fail"], "--rerun: unknown 'fail'; did you mean 'failed'?"),
        (["surplus"], "unknown argument surplus"),
        (["--attacks", "fgsm:epsilon=0.3"], "attack 'fgsm': has no parameter 'epsilon'; did you mean 'eps'?"),
        (["--defenses", "none:x=1"], "defense 'none': has no parameter 'x'; it takes no parameters"),
        (["--attacks", "fgsm:eps=-1"], "attack 'fgsm': eps=-1: must be a number of at least 0"),
        (["--attacks", "fgsm:eps=much"], "attack 'fgsm': eps=much: must be a number of at least 0"),
        (["--defenses", "jpeg:quality=101"], "defense 'jpeg': quality=101: must be a whole number from 1 to 100"),
        (["--defenses", "jpeg+tvm:drop=1"], "defense 'tvm': drop=1: must be a number"),
        (["--defenses", "tvm:border=4"], "defense 'tvm': border=4: must be one of published, neighbours"),
        (["--defenses", "tvm:tolerance=-1"], "defense 'tvm': tolerance=-1: must be a number of at least 0"),
        (["--attacks", "fgsm:eps=1" + "0" * 400], "must be a number of at least 0"),
        (["--attacks", "pgd:steps=1" + "0" * 400], "must be a whole number of at least 1"),
        (["--export", "x" * 300 + ".json"], "File name too long"),
        (["--attacks", "fgsm:eps"], "'fgsm:eps': expected '=' at its end"),
        (["--attacks", "fgsm:eps={0.1,0.2"], "'fgsm:eps={0.1,0.2': expected '}' at its end"),
        (["--attacks", "fgsm+pgd"], "'fgsm+pgd': only defenses can be chained with '+'"),
        (["--attacks", "fgsm", "fgsm:eps=0.3"], "'fgsm' and 'fgsm:eps=0.3' are the same after defaults"),
        (["--defenses", "jpeg:quality={75,80}", "jpeg"], "are the same after defaults (jpeg:quality=75); remove one"),
        (["--attacks", "fgsm:eps=\uff13"], "attack 'fgsm': eps=\uff13: must be a number of at least 0"),
        (["--attacks", "pgd:steps=1_0"], "attack 'pgd': steps=1_0: must be a whole number"),
        (["--attacks", "fgsm:eps=0.3\x1b[31m"], "a spec cannot contain the control character U+001B; remove it"),
        (["--defenses", "jpeg\n"], "a spec cannot contain the control character U+000A; remove it"),
        (["--models", 'mnist-cnn:weights="a\0b"'], "a spec cannot contain the control character U+0000; remove it"),
        (["--datasets", "mnist\u202e"], "a spec cannot contain the control character U+202E; remove it"),
        (["--attacks", MILLION], "attacks: 1,000,000 specs, sweeps included, are more than 100,000; give fewer"),
        (["--attacks", *(f"fgsm:eps={HUNDRED}" for _ in range(1001))], "attacks: 100,100 specs, sweeps included"),
        (
            ["--attacks", f"pgd:eps={HUNDRED},steps={HUNDRED}", "--defenses", f"jpeg:quality={HUNDRED}", *TWO_THREATS],
            "2,000,000 cells are more than the 1,000,000 that a run may have; split it into several",
        ),
        (["--suite", "a\0b.toml"], "a name cannot contain the character NUL; remove it"),
        (["--limit", "\uff15"], "--limit: \uff15: must be a whole number of at least 1"),
        (["--limit", "9" * 5000], "(5,001 characters) must be a whole number of at least 1"),
        (["--attacks"], "--attacks: expected at least one argument"),
        (["--limit", "0"], "--limit: 0: must be a whole number of at least 1"),
        (["--limit", "many"], "--limit: many: must be a whole number of at least 1"),
        (["--jobs", "0"], "--jobs: 0: must be a whole number of at least 1"),
        (["--jobs", "2", "--executor", "serial"], "--jobs 2: the executor 'serial' runs one task at a time"),
        (["--batch-size", "0"], "--batch-size: 0: must be a whole number of at least 1"),
        (["--seed", "-1"], "--seed: -1: must be a whole number of at least 0"),
        (["--store", ""], "--store: must be the name of a folder, and is empty"),
        (["--device", "gpu"], "--device: gpu: must be auto, cpu, cuda, cuda:N or mps"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--device", "mps:1"], "--device: mps:1: must be auto, cpu, cuda, cuda:N or mps"),
        (["--data-dir", "/no/such/folder"], "--data-dir: /no/such/folder: no such folder"),
        (["--plugin", "/no/such/plugin.py"], "--plugin /no/such/plugin.py: no such file"),
        (["--models", "mnist-cnn:weights=/no/such.safetensors"], "weights /no/such.safetensors are missing; "),
        (["--datasets", "toy-rgb", *GOOD[2:]], "no cell can be run: toy-linear takes images of (1, 4, 4)"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_flags(refused: Callable[..., str], flags: list[str], message: str) -> None:
    assert message in refused(*flags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("attacks = [", "is not valid TOML"),
        ("atacks = ['fgsm']", "unknown key 'atacks'; did you mean 'attacks'?"),
        ("attacks = 'fgsm'", "attacks must be a list of specs"),
        ("limit = 0", "limit must be a whole number"),
        ("datasets = ['toy']", "no models selected; give at least one"),
        ("threats = []", "no threats selected"),
        (b"\xff\xfe", "cannot be read: not UTF-8 text"),
        (b"\xef\xbb\xbfdatasets = ['toy']", "no models selected; give at least one"),
        (b"datasets = ['to\0y']", "is not valid TOML"),
        ('datasets = ["to\\u0000y"]', "a spec cannot contain the control character U+0000"),
        ("plugins = ['~nouser/p.py']", "plugins: ~nouser/p.py: Could not determine home directory; write the path in"),
        ('plugins = ["a\\u0000b"]', "is not the path of a file"),
        ("limit = " + "9" * 5000, "suite.toml: a number has too many digits\n"),
        ("# " + "x" * (4 << 20), "is larger than 4 MiB; give the path of a .toml file"),
        ("day = 2021-02-31", "is not valid TOML"),
        ("attacks = " + "[" * 100_000, "its lists or tables are nested too deep"),
    ],
)
def test_an_unreadable_suite_file(
    refused: Callable[..., str], tmp_path: Path, content: str | bytes, message: str
) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused("--suite", suite) + "\n"


def test_a_suite_file_that_is_not_there_or_a_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "suite.toml cannot be read: No such file" in refused("--suite", tmp_path / "suite.toml")
    assert "cannot be read: Is a directory" in refused("--suite", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
@pytest.mark.parametrize("name", ["fifo", "fifo.toml", "/dev/zero", "/dev/null"])
def test_a_suite_file_that_is_no_regular_file_is_not_read(
    refused: Callable[..., str], tmp_path: Path, name: str
) -> None:
    suite = tmp_path / name
    if not suite.exists():
        os.mkfifo(suite)
    assert f"suite file {suite} is not a regular file; give the path of a .toml file" in refused("--suite", suite)


def test_a_plugin_file_that_is_a_link_in_a_circle_is_no_file(refused: Callable[..., str], tmp_path: Path) -> None:
    loop = tmp_path / "loop.py"
    loop.symlink_to(loop.name)
    assert f"--plugin {loop}: no such file" in refused("--plugin", loop)


def test_a_store_that_cannot_be_written(call: Call, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    called = call("matrix", *GOOD, "--plugin", TOY, "--store", blocked / "store")
    assert called.code == 2
    assert f"store {blocked / 'store'} cannot be written" in called.error_line()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="a superuser may write to read-only folders")
def test_a_read_only_store(call: Call, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir(mode=0o500)
    called = call("matrix", *GOOD, "--plugin", TOY, "--store", store)
    assert called.code == 2
    assert "cannot be written: Permission denied" in called.error_line()


def test_exports_that_cannot_be_written(refused: Callable[..., str], tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert f"the folder {missing} does not exist; create it first" in refused("--export", missing / "r.json")
    assert "no report has the suffix '.docx'; there are: .csv, .html, .json, .md, .tex" in refused(
        "--export", tmp_path / "r.docx"
    )
    assert "is a folder; give a file" in refused("--export", tmp_path)


def test_a_markdown_file_of_somebodys_own_is_not_overwritten(refused: Callable[..., str], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n")
    assert "add the lines '<!-- advbench:begin quickstart -->'" in refused("--export", readme)
    readme.write_text("<!-- advbench:begin a -->\n")
    assert "markers do not match" in refused("--export", readme)
    blocks = "".join(f"<!-- advbench:begin {name} -->\n<!-- advbench:end {name} -->\n" for name in "ab")
    readme.write_text(blocks)
    assert f"has no block 'quickstart'; select one with {readme}#NAME: a, b" in refused("--export", readme)
    assert readme.read_text() == blocks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run"],
            "unknown 'run'; there are: matrix, leaderboard, report, figures, audit, compare, reproduce, artefact, ",
        ),
        (["matrix", "--title", "x"], "unknown argument --title; 'advbench matrix --help' lists the flags"),
        (
            ["matrix", "--attacks", "zzzz"],
            " more ('advbench list attacks' lists all)",
        ),
        (["matirx"], "unknown 'matirx'; did you mean 'matrix'?"),
        (["list", "attack"], "unknown kind 'attack'; did you mean 'attacks'?"),
        (["info", MILLION], "the sweeps of 'pgd' stand for 1,000,000 specs, more than 100,000; give fewer values"),
        (["info", "jpge"], "no component is named 'jpge'; did you mean 'jpeg'?"),
        (["info", "pgd:eps=banana"], "eps=banana: must be a number"),
        (
            ["train", "jpeg"],
            "'jpeg' has no training recipe; there are recipes for: cifar10-densenet, fashion-mnist-cnn, ibp, ",
        ),
        (["train", "mnist-cnn", "--recipe", "onecycle"], "--recipe onecycle: mnist-cnn has: paper"),
        (["train", "cifar10-densenet", "--recipe", "one-cycle"], "--recipe one-cycle: did you mean 'onecycle'?"),
        (["train", "cifar10-densenet", "--dataset", "mnist"], "--dataset mnist: cifar10-densenet has: cifar10"),
        (["train", "vqvae"], "--dataset is needed; vqvae has: mnist, cifar10"),
        (["train", "vqvae", "--dataset", "mnist", "--noise", "-1"], "noise=-1: must be a number of at least 0"),
        (["train", "mnist-cnn", "--noise", "0.25"], "model 'mnist-cnn': has no parameter 'noise'; it takes weights"),
        (["train", "vqvae", "--dataset", "mnist", "--defense", "jpeg"], "vqvae has no recipe for images of a defense"),
        (["train", "mnist-cnn", "--defense", "jpge"], "unknown defense 'jpge'; did you mean 'jpeg'?"),
        (["train", "mnist-cnn", "--defense", "jpeg:quality={70,80}"], "stands for 2 defenses; give one"),
        (["train", "mnist-cnn", "--epochs", "0"], "--epochs: 0: must be a whole number of at least 1"),
        (["train", "mnist-cnn", "--output", "/no/such/w.safetensors"], "the folder /no/such does not exist"),
        (["train", "mnist-cnn", "--output", "weights.pt"], "the name must end in .safetensors"),
    ],
)
def test_other_commands(call: Call, words: list[str], message: str) -> None:
    called = call(*words)
    assert called.code == 2
    assert message in called.error_line()


def test_no_run_to_show(call: Call, tmp_path: Path) -> None:
    called = call("leaderboard", "--store", tmp_path / "empty")
    assert called.code == 2
    assert "holds no run yet; 'advbench matrix' creates one" in called.error_line()


def test_weights_that_are_there_are_not_overwritten(call: Call, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_text("precious")
    called = call("train", "mnist-cnn", "--output", weights)
    assert called.code == 2
    assert "--overwrite to replace it" in called.error_line()
    assert weights.read_text() == "precious"


@pytest.mark.parametrize(
    "words", [["--help"], ["matrix", "--help"], ["matrix", "--limit", "0"], ["matrix", "--atacks", "x"], ["matirx"]]
)
def test_help_and_wrong_flags_do_not_import_torch(words: list[str]) -> None:
    program = (
        "import sys\nfrom advbench.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "loaded = {'torch', 'numpy', 'rich', 'foolbox'} & sys.modules.keys()\nassert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
