"""The inventory: files are classified by name, and manifests say which run refers to which entry."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.stores import (
    FIRST,
    IMAGES,
    NO_WRITER,
    SECOND,
    age,
    attack,
    cell,
    clean,
    names,
    part_of,
    two_runs,
    write,
)

from advbench.store import Store, digest_of
from advbench.store.inventory import KINDS, check, read_contents, remove, scan, total_size


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return two_runs(tmp_path)


def test_every_entry_is_listed_once_with_its_size(store: Store) -> None:
    inventory = scan(store)
    files = inventory.files()
    assert {kind: sum(file.kind == kind for file in files) for kind in KINDS} == {
        "adversarial": 2, "artefacts": 0, "certificates": 0, "clean": 2, "cells": 3, "examples": 0, "networks": 0,
        "runs": 2,
    }  # fmt: skip
    on_disk = [path for path in store.root.rglob("*") if path.is_file() and path.name != "lock"]
    assert sorted(file.path for file in files) == sorted(on_disk)
    assert total_size(files) == sum(path.stat().st_size for path in on_disk)
    assert inventory.foreign == inventory.left_behind == inventory.being_written == []


def test_a_store_without_a_folder_is_empty_and_is_not_created(tmp_path: Path) -> None:
    assert scan(Store(tmp_path / "none")).files() == []
    assert read_contents(Store(tmp_path / "none")).runs == []
    assert not (tmp_path / "none").exists()


def test_a_run_refers_to_the_entries_of_its_cells(store: Store) -> None:
    second, first = read_contents(store).runs
    assert (second.name, first.name) == (SECOND, FIRST)
    assert first.references == {
        ("runs", FIRST),
        ("cells", digest_of(cell(0.1, 50))),
        ("cells", digest_of(cell(0.2, 50))),
        ("adversarial", digest_of(attack(0.1))),
        ("adversarial", digest_of(attack(0.2))),
        ("clean", digest_of(clean(50))),
    }
    assert (first.stored, first.cells) == (2, 2)


def test_a_manifest_refers_to_entries_that_are_not_stored_yet(store: Store) -> None:
    third, chunk = "c" * 12, digest_of(attack(0.3))
    store.write_tensors(attack(0.3), IMAGES, {}, (0, 4))
    missing = digest_of(cell(0.3, 50))
    assert names(read_contents(store).unreferenced()) == {f"{chunk}.0-4.safetensors"}
    store.write_manifest(
        third, {"run": third, "cells": [{"key": missing}], "entries": {"adversarial": [chunk], "clean": []}}
    )
    contents = read_contents(store)
    (run,) = (run for run in contents.runs if run.name == third)
    assert (run.stored, run.cells) == (0, 1)
    assert contents.unreferenced() == []
    assert names(contents.exclusive_files([run])) == {f"{chunk}.0-4.safetensors", f"{third}.json"}


def test_a_run_refers_to_its_cells_with_doubled_steps(store: Store) -> None:
    write(store, FIRST, [(0.1, 50), (0.2, 50), (0.4, 75)])
    manifest = {"run": FIRST, "cells": [{"key": digest_of(cell(0.1, 50))}]}
    store.write_manifest(FIRST, manifest)
    doubled = {f"{digest_of(cell(0.4, 75))}.json", f"{digest_of(attack(0.4))}.safetensors"}
    assert doubled < names(read_contents(store).unreferenced())
    store.write_manifest(FIRST, {**manifest, "doubled": {"0": digest_of(cell(0.4, 75))}})
    assert not doubled & names(read_contents(store).unreferenced())


def test_exclusive_files_are_those_that_no_other_run_refers_to(store: Store) -> None:
    contents = read_contents(store)
    second, first = contents.runs
    assert names(contents.exclusive_files([first])) == {
        f"{FIRST}.json", f"{digest_of(cell(0.2, 50))}.json", f"{digest_of(attack(0.2))}.safetensors"
    }  # fmt: skip
    assert names(contents.exclusive_files([second])) == {
        f"{SECOND}.json", f"{digest_of(cell(0.1, 75))}.json", f"{digest_of(clean(75))}.json"
    }  # fmt: skip
    assert names(contents.exclusive_files([first, second])) == names(contents.inventory.files())


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "no object", "no run", "odd cells"])
def test_a_damaged_manifest_is_not_listed_as_a_run(store: Store, damage: str) -> None:
    path = store.root / "runs" / f"{FIRST}.json"
    content = path.read_bytes()
    odd = {"no run": {"cells": []}, "odd cells": {"run": FIRST, "cells": [1]}}.get(damage)
    if odd is not None:
        store.write_manifest(FIRST, odd)
    else:
        flipped = content.replace(b'"key":', b'"kez":', 1)
        path.write_bytes(
            {"truncated": content[:-9], "empty": b"", "flipped": flipped, "no object": b"[1]"}.get(damage, b"")
        )
    contents = read_contents(store)
    assert [run.name for run in contents.runs] == [SECOND]
    assert [file.key for file in contents.damaged] == [FIRST]


FOREIGN = [
    "notes.txt",
    ".DS_Store",
    "locks",
    "cells/notes.txt",
    "cells/ab.json",
    "cells/zz/x.json",
    f"cells/ab/{'cd' * 32}.json",
    f"cells/ab/{'ab' * 32}.safetensors",
    f"cells/ab/{'ab' * 32}.json.bak",
    f"clean/ab/{'AB' * 32}.json",
    f"adversarial/ab/{'ab' * 32}.json",
    f"adversarial/ab/{'ab' * 32}.01-2.safetensors",
    f"adversarial/{'ab' * 32}.safetensors",
    "runs/latest.json",
    f"runs/{'a' * 13}.json",
    "runs/.notes.tmp",
    "tmp/notes.tmp",
    f"tmp/{NO_WRITER}.x",
    "other/deep/down.txt",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_files_with_other_names_are_foreign(store: Store, name: str) -> None:
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("foreign")
    age(path)
    inventory = scan(store)
    (foreign,) = inventory.foreign
    assert path == foreign.path or foreign.path in path.parents
    assert len(inventory.files()) == 9
    assert inventory.left_behind == inventory.being_written == []


def test_links_and_folders_with_the_name_of_an_entry_are_damaged_entries(store: Store) -> None:
    key = "ab" * 32
    folder = store.root / "cells" / "ab"
    (folder / f"{key}.json").mkdir(parents=True)
    (store.root / "clean" / "ab").mkdir(exist_ok=True)
    (store.root / "clean" / "ab" / f"{key}.json").symlink_to("nowhere")
    inventory = scan(store)
    assert inventory.foreign == []
    odd = [file for file in inventory.files() if file.key == key]
    assert [check(store, file) for file in odd] == ["damaged", "damaged"]
    assert [file.kind for file in remove(store, odd)] == ["clean"], "a folder may hold anything, so it is left"


TEMPORARY = [
    f"tmp/{NO_WRITER}.k3_x9a2b.tmp",
    f"tmp/{NO_WRITER}.marker-{'0' * 16}.tmp",
    ".probe-123",
    f"cells/ab/.{'ab' * 20}.k3_x9a2b.tmp",
    f"runs/.{FIRST}.json.k3_x9a2b.tmp",
]


@pytest.mark.parametrize("name", TEMPORARY)
def test_temporary_files_count_as_being_written_for_an_hour(store: Store, name: str) -> None:
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    inventory = scan(store)
    assert names(inventory.being_written) == {path.name}
    assert inventory.left_behind == inventory.foreign == []
    age(path, 3590)
    assert names(scan(store).being_written) == {path.name}
    age(path, 3610)
    inventory = scan(store)
    assert names(inventory.left_behind) == {path.name}
    assert inventory.being_written == inventory.foreign == []


WRITER = """
import sys
from pathlib import Path
from advbench.store import Store
store = Store(Path(sys.argv[1]))
with store.shared_marker() as token:
    print(token, flush=True)
    sys.stdin.read()
    if sys.argv[2] == "killed":
        import os
        os._exit(9)
"""


@pytest.fixture
def writer(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes until its stdin ends, and then dies without cleaning up."""
    command = [sys.executable, "-c", WRITER, str(store.root), "killed"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.mark.slow
def test_an_old_file_of_a_running_writer_counts_as_being_written(store: Store, writer: subprocess.Popen[str]) -> None:
    assert writer.stdout is not None
    path = store.root / "tmp" / writer.stdout.readline().strip()
    age(path)
    assert names(scan(store).being_written) == {path.name}
    writer.communicate("")
    assert names(scan(store).left_behind) == {path.name}


def test_a_scan_does_not_create_the_lock_file(store: Store) -> None:
    (store.root / "lock").unlink(missing_ok=True)
    (store.root / "tmp").mkdir(exist_ok=True)
    path = store.root / "tmp" / f"{NO_WRITER}.x.tmp"
    path.write_bytes(b"")
    age(path)
    assert names(scan(store).left_behind) == {path.name}
    assert not (store.root / "lock").exists()


def test_a_run_that_refers_to_a_chunk_refers_to_its_parts(store: Store) -> None:
    chunk = store.root / "adversarial" / digest_of(attack(0.2))[:2] / f"{digest_of(attack(0.2))}.safetensors"
    part = part_of(store, 0.2, (0, 4))
    chunk.unlink()
    contents = read_contents(store)
    assert part.name in names(contents.exclusive_files([contents.runs[1]]))
    assert part.name not in names(contents.exclusive_files([contents.runs[0]]))
    assert contents.inventory.left_behind == []


def test_parts_older_than_their_chunk_are_left_behind(store: Store) -> None:
    part = age(part_of(store, 0.2, (0, 4)))
    inventory = scan(store)
    assert names(inventory.left_behind) == {part.name}
    assert part.name not in names(inventory.files())
    assert len(inventory.files()) == 9


def test_parts_newer_than_their_chunk_are_left_behind_after_a_day(store: Store) -> None:
    key = digest_of(attack(0.2))
    age(store.root / "adversarial" / key[:2] / f"{key}.safetensors", 200_000)
    part = age(part_of(store, 0.2, (0, 4)), 80_000)
    assert part.name in names(scan(store).files())
    age(part, 90_000)
    assert names(scan(store).left_behind) == {part.name}


def test_read_contents_does_not_read_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "store"
    keys = [digest_of(number) for number in range(10_000)]
    for key in keys:
        folder = root / "cells" / key[:2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{key}.json").touch()
    store = Store(root)
    for number in range(10):
        run, part = f"{number:012x}", keys[number * 900 : number * 900 + 1000]
        cells = [{"key": key} for key in part]
        store.write_manifest(run, {"run": run, "cells": cells, "entries": {"adversarial": part, "clean": part}})

    def fail(*_: object) -> None:
        raise AssertionError("an entry was read")

    monkeypatch.setattr(store, "read_key_inputs", fail)
    began = time.process_time()  # other programs do not affect it
    contents = read_contents(store)
    assert time.process_time() - began < 5  # it takes a tenth of a second
    assert [len(run.references) for run in contents.runs] == [3001] * 10
    assert len(contents.unreferenced()) == 900
