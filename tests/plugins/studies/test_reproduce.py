"""``advbench reproduce paper``, from its flags to its report, on tiny stand-ins for all that the suites name."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

from advbench.cli.main import main

pytestmark = pytest.mark.slow(minutes=1)

PAPER = Path(__file__).with_name("paper_plugin.py")
COMPONENTS = "attacks,datasets,defenses,models"
"""The built-in plugins that the stand-ins replace."""
ALWAYS = ["paper", "paper-fixed", "paper-foolbox2", "paper-ablations", "paper-full"]

PROTOCOLS = ("foolbox2", "foolbox2-0.3", "minimal", "fixed", "adaptive")

Run = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def run(call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with the stand-ins; returns the call and the JSON report, if any."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", COMPONENTS)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))

    def call_with(*flags: object) -> tuple[Called, dict[str, Any]]:
        target = tmp_path / "r.json"
        target.unlink(missing_ok=True)
        files = ("--plugin", PAPER, "--store", tmp_path / "store", "--output", target)
        called = call("reproduce", "paper", *files, *flags)
        return called, json.loads(target.read_text()) if target.exists() else {}

    return call_with


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first run of everything: its store, log, reports and what it printed."""
    folder, printed = tmp_path_factory.mktemp("whole"), io.StringIO()
    reports = ("--output", str(folder / "r.json"), "--output", str(folder / "r.md"))
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(printed):
        patched.setenv("ADVBENCH_DISABLE_PLUGINS", COMPONENTS)
        patched.setenv("TOY_LOG", str(folder / "log"))
        patched.delenv("COLUMNS", raising=False)
        code = main(["reproduce", "paper", "--plugin", str(PAPER), "--store", str(folder / "store"), *reports])
    assert code == 0
    (folder / "printed").write_text(printed.getvalue())
    return folder


@pytest.fixture
def run_before(run: Run, whole: Path, tmp_path: Path) -> Run:
    """Runs the command where everything has run before."""
    shutil.copytree(whole / "store", tmp_path / "store")
    return run


def protocol(report: dict[str, Any], key: str) -> dict[str, Any]:
    """The tables of a protocol."""
    return next(one for one in report["protocols"] if one["key"] == key)


def test_everything_is_run_once_and_reported(whole: Path) -> None:
    report = json.loads((whole / "r.json").read_text())
    adaptive = ["paper-adaptive (mnist)", "paper-adaptive (cifar10)"]
    assert list(report["suites"]) == ALWAYS + adaptive
    log = Counter((whole / "log").read_text().splitlines())
    assert len(log) == 2 * 12, "two datasets; ten attacks, and two of the adaptive ones are only adaptive"
    assert set(log.values()) == {1, 8, 8 + 1}, "crafted once for all suites, and once for each defense it knows"
    assert all(cell["status"] == "ok" for suite in report["suites"].values() for cell in suite["cells"])
    assert [protocol["key"] for protocol in report["protocols"]] == list(PROTOCOLS)
    for one in report["protocols"]:
        rows = [(row["attack"], row["dataset"]) for row in one["rows"]]
        attacks = (None, "fgsm", "pgd", "cw", "deepfool")
        assert rows == [(attack, dataset) for attack in attacks for dataset in ("mnist", "cifar10")]
        assert all(len(row["cells"]) == 8 for row in one["rows"])
        assert all(cell["status"] == "ok" for row in one["rows"] for cell in row["cells"].values())
    assert {claim["number"] for claim in report["claims"]} == set(range(1, 23))
    verdicts = {claim["number"]: claim["minimal"]["verdict"] for claim in report["claims"]}
    assert verdicts[1] == "holds"
    assert verdicts[11] == verdicts[18] == verdicts[19] == verdicts[20] == verdicts[22] == "not run"
    assert len(report["missing_weights"]) == 7
    images = next(claim for claim in report["claims"] if claim["number"] == 21)["fixed"]
    assert not images["missing"], "the stored adversarial images were read"
    assert "vqvae:noise=1.5 are missing" in report["left_out"]["paper-noise"]
    page = (whole / "r.md").read_text()
    assert "| 11 | Noise beyond 1.0 helps on neither dataset." in page
    assert "**11. Noise beyond 1.0 helps on neither dataset.** On each dataset a VQ-VAE trained with" in page
    assert "- adaptive attacks: not run. Adaptive attacks, which take much longer, run on the paper's" in page
    for text in ((whole / "printed").read_text(), page):
        assert "Every attack brings the undefended models to 0 %." in text
        assert "30 images, not 1,000" in text
        assert "Median L2 distance of the adaptive images that fool the defended model" in text
        assert "advbench reproduce paper" in text
        assert "advbench matrix --suite paper-fixed" in text
        assert "weights" in text


def test_the_tables_show_what_the_matrix_measured(run_before: Run) -> None:
    _, report = run_before("--datasets", "mnist")
    cells = {(cell["short"]["attack"], cell["short"]["defense"]): cell for cell in report["suites"]["paper"]["cells"]}
    rows = protocol(report, "minimal")["rows"]
    row = next(row for row in rows if row["attack"] == "pgd")
    expected = cells["pgd:search=minimal,step_size=0.01,targets=3", "jpeg:quality=90"]
    shown = row["cells"]["jpeg"]
    assert (shown["accuracy"], shown["ci95"]) == (expected["robust_accuracy"], expected["robust_accuracy_ci95"])
    assert row["median_l2"] == expected["median_l2"]
    clean = next(row for row in rows if row["attack"] is None)
    assert (
        clean["cells"]["kmeans"]["accuracy"]
        == cells["pgd:search=minimal,step_size=0.01,targets=3", "kmeans"]["clean_accuracy"]
    )


def test_a_second_call_computes_nothing_and_says_the_same(run_before: Run, whole: Path, tmp_path: Path) -> None:
    second, again = run_before()
    assert not (tmp_path / "log").exists(), "no attack has run"
    assert second.out == (whole / "printed").read_text()
    assert again["claims"] == json.loads((whole / "r.json").read_text())["claims"]
    assert second.err.count("come from the store") == 7


def test_with_one_dataset_the_other_is_no_measurement(run_before: Run) -> None:
    called, report = run_before("--datasets", "mnist")
    assert called.code == 0
    assert {cell["short"]["dataset"] for suite in report["suites"].values() for cell in suite["cells"]} == {"mnist"}
    tvm = next(claim for claim in report["claims"] if claim["number"] == 4)
    assert (tvm["minimal"]["verdict"], tvm["minimal"]["lacks"]) == ("not run", "CIFAR-10")
    assert report["suites"]["paper"]["run"]["command"].startswith("advbench matrix --suite paper --datasets mnist")
    assert report["datasets"] == ["mnist"]
    assert "Claims about each dataset are judged on MNIST alone, as --datasets asks." in called.out
    verdicts = {claim["number"]: claim["minimal"]["verdict"] for claim in report["claims"]}
    assert verdicts[1] == "holds", "it is about each dataset"
    assert verdicts[10] == verdicts[14] == "not run", "they compare the datasets"
    called, report = run_before("--datasets", "cifar10")
    assert report["left_out"]["paper-full"] == "its dataset is mnist, which --datasets leaves out"
    assert {row["dataset"] for row in protocol(report, "minimal")["rows"]} == {"cifar10"}


def test_fewer_images_are_said_and_leave_the_whole_test_set_out(run: Run) -> None:
    called, report = run("--limit", 7, "--seed", 3, "--datasets", "mnist")
    assert called.code == 0
    lines = called.err.splitlines()
    (total,) = (number for number, line in enumerate(lines) if line.startswith("all 5 runs will take "))
    assert total < next(number for number, line in enumerate(lines) if line.startswith("["))
    assert {cell["n"] for suite in report["suites"].values() for cell in suite["cells"]} == {7}
    assert report["left_out"]["paper-full"] == "it takes all test images, but --limit asks for fewer"
    assert report["command"].startswith("advbench reproduce paper --datasets mnist --limit 7 --seed 3")
    assert protocol(report, "minimal")["reduced"] == ["MNIST (7 images, not 1,000)"]
    assert {suite["run"]["seed"] for suite in report["suites"].values()} == {3}


def test_each_dataset_may_have_less_than_the_paper_and_the_report_says_so(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "r.md"
    called, report = run("--limit", "cifar10=7", "--cw-steps", "cifar10=100", "--output", page)
    assert called.code == 0
    suites = report["suites"]
    assert {cell["n"] for cell in suites["paper (mnist)"]["cells"]} == {30}
    assert {cell["n"] for cell in suites["paper (cifar10)"]["cells"]} == {7}
    attacks = {name: [cell["attack"] for cell in suites[f"paper ({name})"]["cells"]] for name in ("mnist", "cifar10")}
    assert any(spec.startswith("cw:steps=1000,") for spec in attacks["mnist"])
    assert any(spec.startswith("cw:steps=100,") for spec in attacks["cifar10"])
    assert report["command"] == f"advbench reproduce paper --limit cifar10=7 --cw-steps cifar10=100 --plugin {PAPER}"
    command = suites["paper (cifar10)"]["run"]["command"]
    assert "--suite paper --datasets cifar10 --attacks" in command
    assert "cw:steps=100 --limit 7" in command
    assert "CW (steps=100, not 1000) on CIFAR-10" in protocol(report, "minimal")["reduced"]
    assert "CIFAR-10 (7 images, not 1,000)" in protocol(report, "minimal")["reduced"]
    assert "paper-full" in suites
    assert "steps=100, not 1000" in page.read_text()


def test_weights_that_are_there_are_used(run_before: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_NOISE", "1")
    _, report = run_before("--datasets", "mnist")
    assert "paper-noise" in report["suites"]
    noise = next(claim for claim in report["claims"] if claim["number"] == 11)["minimal"]
    assert noise["measured"][0].startswith(
        "MNIST (30 images, not 1,000): attacks against which noise 1.5 helps: 0 of 4"
    )
    assert noise["verdict"] != "not run"


def test_further_weights_in_a_folder_are_used_and_the_report_says_how_to_make_the_others(
    run: Run, tmp_path: Path
) -> None:
    folder, page = tmp_path / "w", tmp_path / "r.md"
    folder.mkdir()
    files = ["vqvae-mnist-0-hidden128-words512", "vqvae-mnist-uniform-0.433", "mnist-cnn-behind-vqvae"]
    for name in files:
        (folder / f"{name}.safetensors").write_text(name)
    (folder / "mnist-cnn-behind-vqvae.json").write_text('{"component": "mnist-cnn"}')
    called, _ = run("--datasets", "mnist", "--weights", folder)
    assert called.code == 2
    assert "mnist-cnn-behind-vqvae.safetensors was not trained behind vqvae (its defense: none)" in called.error_line()
    (folder / "mnist-cnn-behind-vqvae.json").write_text('{"defense": "vqvae:noise=0"}')
    called, report = run("--datasets", "mnist", "--weights", folder, "--output", page)
    assert called.code == 0
    assert report["command"] == f"advbench reproduce paper --datasets mnist --weights {folder} --plugin {PAPER}"
    defenses = [cell["defense"] for cell in report["suites"]["paper-vqvae"]["cells"]]
    assert len(defenses) == 4 * 10, "two shipped ones, one of another size, and one of another noise; ten attacks"
    assert f"weights={folder}/vqvae-mnist-0-hidden128-words512.safetensors" in "".join(defenses)
    models = {cell["model"] for cell in report["suites"]["paper-retrained-mnist"]["cells"]}
    assert models == {"mnist-cnn:weights=shipped", f"mnist-cnn:weights={folder}/mnist-cnn-behind-vqvae.safetensors"}
    judged = {claim["number"]: claim["fixed"] for claim in report["claims"]}
    assert "VQ-VAE with 128 channels and 512 words helps: " in judged[19]["measured"][0]
    assert "vqvae:noise=0,hidden=128,words=256 against FGSM on MNIST not run" in judged[19]["missing"]
    assert judged[20]["verdict"] == "undecided", "the stand-in is the same network"
    assert {cell["n"] for cell in report["suites"]["paper-retrained-mnist"]["cells"]} == {30}
    missing = {one["file"]: one for one in report["missing_weights"]}
    assert len(missing) == 3, "two sizes and salt-and-pepper noise"
    command = missing["vqvae-mnist-0-hidden256-words256.safetensors"]["command"]
    assert command == (
        "advbench train vqvae:noise=0,words=256 --dataset mnist --recipe onecycle "
        f"--output {folder}/vqvae-mnist-0-hidden256-words256.safetensors"
    )
    for text in (called.out, page.read_text()):
        assert command in text
        assert "Claims 19 and 22 need weights that do not come with advbench." in text
    assert protocol(report, "fixed")["rows"][0]["cells"]["vqvae-0"]["status"] == "ok"


def test_a_failed_cell_is_err_and_the_exit_code_says_so(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", COMPONENTS)
    broken = tmp_path / "broken.py"
    source = PAPER.read_text().replace("    def levels(self):\n        return self.quality", "    levels = None")
    assert "levels = None" in source
    broken.write_text(source)
    target = tmp_path / "r.md"
    files = ("--plugin", broken, "--store", tmp_path / "store", "--output", target)
    called = call("reproduce", "paper", "--datasets", "mnist", *files)
    assert called.code == 1
    assert "ERR" in called.out
    assert "ERR TypeError" in target.read_text()
    assert "jpeg:quality=90 against FGSM on MNIST failed" in target.read_text()


def test_a_dry_run_lists_what_would_run_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    called, report = run("--dry-run")
    assert called.code == 0
    assert len(called.out.splitlines()) == 72 + 72 + 90 + 240 + 18 + 80
    assert "to run, each with its own forecast: paper (72 cells, 30 images), " in called.err
    assert "paper-full (18 cells, 30 images), paper-adaptive (mnist) (40 cells, 30 images), " in called.err
    assert not report
    assert not (tmp_path / "store").exists()


def test_adaptive_attacks_run_on_fewer_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_SIZE", "250")
    planned = run("--dry-run", "--limit", "mnist=50", "cifar10=210")[0].err
    assert "paper (mnist) (36 cells, 50 images), paper (cifar10) (36 cells, 210 images)" in planned
    assert "paper-adaptive (mnist) (40 cells, 50 images), paper-adaptive (cifar10) (40 cells, 100 images)" in planned
    flags = ("--limit", "mnist=50", "--adaptive-limit", "80", "cifar10=20")
    planned = run("--dry-run", *flags)[0].err
    assert "paper-adaptive (mnist) (40 cells, 50 images), paper-adaptive (cifar10) (40 cells, 20 images)" in planned
    called, report = run("--datasets", "mnist", "--limit", "6", "--adaptive-limit", "5")
    assert called.code == 0
    assert " --limit 6 --adaptive-limit 5" in report["command"]
    assert "5 images, not 200" in called.out


def test_an_interruption_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    environment = os.environ | {
        "ADVBENCH_DISABLE_PLUGINS": COMPONENTS, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TOY_DELAY": "0.3",
    }  # fmt: skip
    words = ["reproduce", "paper", "--plugin", str(PAPER), "--store", str(tmp_path / "store"), "--datasets", "mnist"]
    process = subprocess.Popen(
        [sys.executable, "-m", "advbench", *words, "--rerun", "all"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("["):
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "advbench reproduce: interrupted; paper: " in err
    assert "of 36 cells are finished and stored. Resume with: advbench reproduce paper --plugin" in err
    assert "--rerun" not in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--datasets", "minst"], "--datasets: unknown 'minst'; did you mean 'mnist'?"),
        (["--attacks", "fgsm"], "unknown argument --attacks"),
        (["--limit", "minst=3"], "--limit minst=3: 'minst' is not run; this command runs mnist, cifar10"),
        (["--limit", "=3"], "--limit: =3: the name of the dataset is missing"),
        (
            ["--limit", "cifar10=3", "--limit", "5", "--datasets", "mnist"],
            "--limit cifar10=3: 'cifar10' is not run; this command runs mnist",
        ),
        (["--cw-steps", "5", "cifar10=3", "--datasets", "mnist"], "--cw-steps cifar10=3: 'cifar10' is not run"),
        (["--adaptive-limit", "mnist=3", "--datasets", "cifar10"], "this command runs cifar10"),
        (["--cw-steps", "cifar10=0"], "--cw-steps: 0: must be a whole number of at least 1"),
        (["--limit", "0"], "--limit: 0: must be a whole number of at least 1"),
        (["--weights", "/no/such"], "--weights /no/such: there is no such folder; make it, and train weights into it"),
        (["--weights", __file__], "is a file, not a folder"),
        (["--output", "/no/such/r.md"], "--output /no/such/r.md: the folder /no/such does not exist; create it first"),
        (["--output", "r.csv"], "--output r.csv: no report has the suffix '.csv'; there are: .json, .md"),
    ],
)
def test_bad_input(run: Run, tmp_path: Path, flags: list[str], message: str) -> None:
    called, _ = run(*flags)
    assert called.code == 2
    assert message in called.error_line()
    assert not (tmp_path / "store").exists()


def test_another_paper(call: Callable[..., Called]) -> None:
    called = call("reproduce", "papre")
    assert called.code == 2
    assert "unknown study 'papre'; did you mean 'paper'?" in called.error_line()


def test_a_markdown_file_of_somebodys_own_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Mine\n")
    called, _ = run("--output", page)
    assert called.code == 2
    assert f"--output {page}: the file exists and has no block to update" in called.error_line()
    page.write_text("# Mine\n\n<!-- advbench:begin paper -->\n<!-- advbench:end paper -->\n\nEnd.\n")
    assert run("--output", page, "--datasets", "mnist", "--limit", 5)[0].code == 0
    text = page.read_text()
    assert text.startswith("# Mine\n")
    assert text.endswith("End.\n")
    assert "<summary>When each claim holds, and the numbers behind its verdicts</summary>" in text


def test_help_does_not_import_torch() -> None:
    program = (
        "import sys\nfrom advbench.cli.main import main\n"
        "try:\n    main(['reproduce', '--help'])\nexcept SystemExit:\n    pass\n"
        "loaded = {'torch', 'numpy', 'rich', 'foolbox'} & sys.modules.keys()\nassert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
