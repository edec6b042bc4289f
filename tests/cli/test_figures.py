"""``advbench figures``: files for print, of a real run."""

from __future__ import annotations

import contextlib
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from tests.store.stores import lose_plugin_files

pytestmark = pytest.mark.slow(minutes=1)

pytest.importorskip("matplotlib")

OF = "mnist-20-mnist-cnn"
EXPECTED = {
    f"attacks-{OF}",
    f"reconstructions-{OF}",
    f"strips-{OF}-deepfool-oblivious",
    f"strips-{OF}-deepfool-adaptive-tvm",
    f"confusion-{OF}-deepfool-adaptive-jpeg-quality-25",
    f"confusion-{OF}-deepfool-oblivious-tvm",
    f"eps-{OF}-Robust-accuracy-by-L2-eps-undefended-model-minimal-attacks",
    f"eps-{OF}-Robust-accuracy-by-L2-eps-deepfool-adaptive",
    f"eps-{OF}-Robust-accuracy-by-Linf-eps-pgd-steps-5-oblivious",
    f"sweep-{OF}-jpeg-by-quality-adaptive",
    f"scatter-{OF}-Clean-accuracy-and-worst-case-oblivious-and-adaptive",
}


@pytest.fixture(scope="module")
def store(real_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a real run."""
    copied = tmp_path_factory.mktemp("run") / "store"
    return Path(shutil.copytree(real_run / "store", copied))


@pytest.fixture(scope="module")
def drawn(store: Path) -> Path:
    """Its figures in every format."""
    from advbench.cli.main import main

    folder = store.parent / "figures"
    words = ["figures", "--store", str(store), "--output", str(folder), "--samples", "2", "--all"]
    assert main([*words, "--format", "png", "svg", "pdf"]) == 0
    return folder


def test_every_figure_is_there_in_every_format(drawn: Path) -> None:
    names = {path.stem if path.suffix != "." else path.name for path in drawn.iterdir()}
    assert names >= EXPECTED, EXPECTED - names
    for kind in ("png", "svg", "pdf"):
        assert {path.name.removesuffix(f".{kind}") for path in drawn.glob(f"*.{kind}")} == names


def test_names_of_files_suit_shells_and_latex(drawn: Path) -> None:
    assert [path.name for path in drawn.iterdir() if not re.fullmatch(r"[A-Za-z0-9-]+\.(png|svg|pdf)", path.name)] == []
    assert (drawn / f"strips-{OF}-pgd-eps-0p05-steps-5-oblivious.png").exists()


def test_by_default_a_dozen_figures_of_every_kind_is_drawn(
    call: Callable[..., Any], store: Path, drawn: Path, tmp_path: Path
) -> None:
    called = call("figures", "--store", store, "--output", tmp_path, "--samples", 2)
    assert called.code == 0
    names = {path.stem for path in tmp_path.iterdir()}
    assert len(names) == 12 < len(list(drawn.glob("*.png")))
    assert {name.partition("-")[0] for name in names} == {name.partition("-")[0] for name in EXPECTED}
    assert any("-deepfool-adaptive-" in name for name in names if name.startswith("strips")), "the strongest attack"
    assert "wrote 12 figures; --all writes every figure, --only KIND all of a kind" in called.err


def test_figures_of_some_attacks_and_defenses(
    call: Callable[..., Any], store: Path, drawn: Path, tmp_path: Path
) -> None:
    words = ("--attacks", "pgd", "--defenses", "tvm", "jpeg:quality=25", "--only", "confusion", "scatter")
    called = call("figures", "--store", store, "--output", tmp_path / "some", *words)
    assert called.code == 0
    names = {path.stem for path in (tmp_path / "some").iterdir()}
    of_pgd = {
        path.stem
        for path in drawn.glob("confusion-*.png")
        if "-pgd-" in path.stem and path.stem.endswith(("tvm", "quality-25"))
    }
    assert len(of_pgd) == 8
    assert names == {*of_pgd, f"scatter-{OF}-Clean-accuracy-and-worst-case-oblivious-and-adaptive"}


def test_pictures_are_not_blank_and_fit_a_page(drawn: Path) -> None:
    for path in drawn.glob("*.png"):
        picture = Image.open(path)
        assert picture.width <= 6.95 * 300
        assert np.asarray(picture.convert("L")).std() > 8, path.name


def test_vector_figures_are_well_formed_and_undated(drawn: Path) -> None:
    for path in drawn.glob("*.svg"):
        ElementTree.parse(path)
        assert "<dc:date>" not in path.read_text()


def test_fonts_are_embedded(drawn: Path) -> None:
    for path in drawn.glob("*.pdf"):
        content = path.read_bytes()
        for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
            with contextlib.suppress(zlib.error):
                content += zlib.decompress(stream)
        assert b"/FontFile2" in content, path.name
        assert b"/Type3" not in content, path.name


def test_the_same_run_gives_the_same_bytes(call: Callable[..., Any], store: Path, drawn: Path, tmp_path: Path) -> None:
    kinds = ("strips", "eps", "sweep", "scatter")
    called = call(
        "figures",
        "--store",
        store,
        "--output",
        tmp_path,
        "--samples",
        2,
        "--format",
        "svg",
        "pdf",
        "png",
        "--only",
        *kinds,
    )
    assert called.code == 0
    made = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert made == sorted(path.name for path in drawn.iterdir() if path.name.startswith(kinds))
    assert [name for name in made if (tmp_path / name).read_bytes() != (drawn / name).read_bytes()] == []
    assert f"wrote {tmp_path / made[0]}: " in called.err


def test_without_its_plugin_file_a_run_has_no_images_and_says_why(
    call: Callable[..., Any], toy: Callable[..., Any], tmp_path: Path
) -> None:
    toy(defenses=("toy-keep", "toy-dim:factor={0.5,0.8}"))
    lose_plugin_files(tmp_path / "store")
    folder = tmp_path / "figures"
    called = call("figures", "--store", tmp_path / "store", "--output", folder)
    assert called.code == 0
    assert "no images of toy, toy-linear, toy-keep: " in called.err
    assert {path.name.partition("-")[0] for path in folder.iterdir()} == {"confusion", "sweep", "scatter"}


def test_only_some_figures_are_drawn(call: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    called = call("figures", "--store", store, "--output", tmp_path / "some", "--only", "sweep", "scatter")
    assert called.code == 0
    assert sorted(path.stem.partition("-")[0] for path in (tmp_path / "some").iterdir()) == [
        "scatter",
        "sweep",
        "sweep",
    ]


def test_long_names_that_begin_alike_are_files_of_their_own(
    call: Callable[..., Any], toy: Callable[..., Any], tmp_path: Path
) -> None:
    plugin = tmp_path / ("long" * 50) / "plugin.py"
    plugin.parent.mkdir()
    plugin.write_text(
        "from dataclasses import dataclass\nfrom advbench.api import Defense, hookimpl, param\n\n"
        "@dataclass(frozen=True)\nclass Told(Defense):\n    name = 'told'\n"
        "    path: str = param('x', help='a path')\n"
        "    def apply(self, images, rng):\n        return images\n\n"
        "@hookimpl\ndef register_defenses(register):\n    register(Told)\n"
    )
    long = "p" * 200
    toy("--plugin", plugin, defenses=("toy-keep", f"told:path={long}1", f"told:path={long}2", "told:path=a/b"))
    folder = tmp_path / "figures"
    called = call("figures", "--store", tmp_path / "store", "--output", folder, "--only", "confusion")
    assert called.code == 0, called.err
    files = [path.name for path in folder.iterdir()]
    assert len(files) == called.err.count("wrote ")
    assert len({name.lower() for name in files}) == len(files) == 3 * called.err.count("path=a/b")


def test_names_that_differ_by_the_size_of_letters_alone_are_told_apart() -> None:
    from advbench.report.figures import Drawing, distinct

    figures = [Drawing(name, "", lambda: None) for name in ("a", "A", "a-2", "b", "a")]  # type: ignore[arg-type,return-value]
    assert [drawn.name for drawn in distinct(figures)] == ["a", "A-2", "a-2-2", "b", "a-3"]


def test_a_file_that_cannot_be_written_is_one_line(call: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    name = f"scatter-{OF}-Clean-accuracy-and-worst-case-oblivious-and-adaptive"
    (tmp_path / f"{name}.png").mkdir()
    called = call("figures", "--store", store, "--output", tmp_path, "--only", "scatter")
    assert called.code == 2
    assert f"--output {tmp_path}: {name} cannot be written: Is a directory" in called.error_line()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "{file}"], "--output {file}: cannot be made: File exists"),
        (["--output", "{file}/figures"], "cannot be made: Not a directory"),
        (["feed", "--output", "figures"], "'feed' names no run in"),
        (["--output", "figures", "--format", "gif"], "--format: unknown 'gif'"),
        (["--output", "figures", "--attacks", "pgdd"], "--attacks pgdd: is not in run "),
        (["--output", "figures", "--defenses", "jpg"], "; there are: none, jpeg:quality=25, jpeg:quality=75, tvm"),
        (["--output", "figures", "--all", "--only", "sweep"], "not allowed with argument"),
        (["--output", "figures", "--only", "sweeps"], "--only: unknown 'sweeps'; did you mean 'sweep'?"),
        ([], "--output"),
    ],
)
def test_bad_input_is_one_line(
    call: Callable[..., Any], store: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    called = call("figures", *(word.format(file=file) for word in words), "--store", store)
    assert called.code == 2
    assert message.format(file=file) in called.error_line()


def test_without_matplotlib_the_message_says_what_to_install(
    call: Callable[..., Any], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith(("matplotlib", "advbench.report.figures"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("advbench.report.figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    called = call("figures", "--store", store, "--output", tmp_path / "figures")
    assert called.code == 2
    assert "pip install 'advbench[figures]'" in called.error_line()
    assert not (tmp_path / "figures").exists()


def test_a_figure_is_laid_out_once_and_drawn_once_a_format(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from advbench.report.figures.drawing import Drawing, save
    from advbench.session.figures import FORMATS

    class Counting(Figure):
        times = 0

        def draw(self, renderer: Any) -> None:
            self.times += 1
            super().draw(renderer)

    figure = Counting(figsize=(2, 1), layout="constrained")
    axis = figure.subplots()
    figure.colorbar(axis.imshow([[0, 1]]), ax=axis)
    assert len(save(Drawing("name", "what", lambda: figure), tmp_path, FORMATS)) == len(FORMATS)
    assert figure.times == 1 + len(FORMATS)
