"""What lies in a store: told by names, referred to by manifests, checked as the store does, deleted with care."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from advbench.errors import StoreError
from advbench.store import Store, digest_of
from advbench.store.inventory import KINDS, File, check, remove, scan, size_of, take_stock

FIRST, SECOND = "a" * 12, "b" * 12
IMAGES = {"images": torch.rand(4, 1, 2, 2)}
OLD = 7200.0
NOWHERE = "0" * 15
"""A writer that there is not."""


def attack(eps: float) -> dict[str, Any]:
    return {"kind": "adversarial", "eps": eps}


def clean(quality: int) -> dict[str, Any]:
    return {"kind": "clean", "quality": quality}


def cell(eps: float, quality: int) -> dict[str, Any]:
    return {"kind": "cell", "adversarial": [digest_of(attack(eps))], "clean": digest_of(clean(quality))}


def write(store: Store, run: str, cells: list[tuple[float, int]], **more: Any) -> None:
    """Writes a run with all its entries; without ``entries`` its manifest is that of an earlier version."""
    for eps, quality in cells:
        store.write_tensors(attack(eps), IMAGES, {"eps": eps})
        store.write_record("clean", clean(quality), {"correct": [1] * 100})
        store.write_record("cells", cell(eps, quality), {"status": "ok"})
    described = [{"key": digest_of(cell(*one))} for one in cells]
    store.write_manifest(run, {"run": run, "cells": [*described, {"key": ""}], "doubled": {}, **more})


def age(path: Path, seconds: float = OLD) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def names(files: list[File]) -> set[str]:
    return {file.path.name for file in files}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two runs that share an attack and a defense."""
    store = Store(tmp_path / "store")
    write(store, FIRST, [(0.1, 50), (0.2, 50)])
    age(store.root / "runs" / f"{FIRST}.json")
    write(store, SECOND, [(0.1, 50), (0.1, 75)])
    return store


def test_every_entry_is_found_once_with_its_size(store: Store) -> None:
    inventory = scan(store)
    files = inventory.files()
    assert {kind: sum(file.kind == kind for file in files) for kind in KINDS} == {
        "adversarial": 2, "clean": 2, "cells": 3, "networks": 0, "runs": 2
    }  # fmt: skip
    on_disk = [path for path in store.root.rglob("*") if path.is_file() and path.name != "lock"]
    assert sorted(file.path for file in files) == sorted(on_disk)
    assert size_of(files) == sum(path.stat().st_size for path in on_disk)
    assert inventory.foreign == inventory.left_behind == inventory.being_written == []


def test_a_store_without_a_folder_is_empty_and_stays_away(tmp_path: Path) -> None:
    assert scan(Store(tmp_path / "none")).files() == []
    assert take_stock(Store(tmp_path / "none")).runs == []
    assert not (tmp_path / "none").exists()


def test_a_run_refers_to_what_its_cells_are_made_of(store: Store) -> None:
    second, first = take_stock(store).runs
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


def test_entries_of_the_manifest_count_before_anything_is_stored(store: Store) -> None:
    third, chunk = "c" * 12, digest_of(attack(0.3))
    store.write_tensors(attack(0.3), IMAGES, {}, (0, 4))
    missing = digest_of(cell(0.3, 50))
    assert names(take_stock(store).unreferenced()) == {f"{chunk}.0-4.safetensors"}
    store.write_manifest(
        third, {"run": third, "cells": [{"key": missing}], "entries": {"adversarial": [chunk], "clean": []}}
    )
    stock = take_stock(store)
    (run,) = (run for run in stock.runs if run.name == third)
    assert (run.stored, run.cells) == (0, 1)
    assert stock.unreferenced() == []
    assert names(stock.alone([run])) == {f"{chunk}.0-4.safetensors", f"{third}.json"}


def test_cells_with_twice_the_steps_are_referred_to(store: Store) -> None:
    write(store, FIRST, [(0.1, 50), (0.2, 50), (0.4, 75)])
    manifest = {"run": FIRST, "cells": [{"key": digest_of(cell(0.1, 50))}]}
    store.write_manifest(FIRST, manifest)
    twice = {f"{digest_of(cell(0.4, 75))}.json", f"{digest_of(attack(0.4))}.safetensors"}
    assert twice < names(take_stock(store).unreferenced())
    store.write_manifest(FIRST, {**manifest, "doubled": {"0": digest_of(cell(0.4, 75))}})
    assert not twice & names(take_stock(store).unreferenced())


def test_alone_is_what_no_other_run_holds(store: Store) -> None:
    stock = take_stock(store)
    second, first = stock.runs
    assert names(stock.alone([first])) == {
        f"{FIRST}.json", f"{digest_of(cell(0.2, 50))}.json", f"{digest_of(attack(0.2))}.safetensors"
    }  # fmt: skip
    assert names(stock.alone([second])) == {
        f"{SECOND}.json", f"{digest_of(cell(0.1, 75))}.json", f"{digest_of(clean(75))}.json"
    }  # fmt: skip
    assert names(stock.alone([first, second])) == names(stock.inventory.files())


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "no object", "no run", "odd cells"])
def test_a_damaged_manifest_is_no_run(store: Store, damage: str) -> None:
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
    stock = take_stock(store)
    assert [run.name for run in stock.runs] == [SECOND]
    assert [file.key for file in stock.damaged] == [FIRST]


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
    "runs/.mine.tmp",
    "tmp/mine.tmp",
    f"tmp/{NOWHERE}.x",
    "other/deep/down.txt",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_what_the_store_does_not_name_so_is_foreign(store: Store, name: str) -> None:
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    age(path)
    inventory = scan(store)
    (found,) = inventory.foreign
    assert path == found.path or found.path in path.parents
    assert len(inventory.files()) == 9
    assert inventory.left_behind == inventory.being_written == []


def test_a_link_to_nowhere_and_a_folder_with_an_entrys_name_are_foreign(store: Store) -> None:
    key = "ab" * 32
    folder = store.root / "cells" / "ab"
    (folder / f"{key}.json").mkdir(parents=True)
    (store.root / "clean" / "ab").mkdir(exist_ok=True)
    (store.root / "clean" / "ab" / f"{key}.json").symlink_to("nowhere")
    assert len(scan(store).foreign) == 2


TEMPORARY = [
    f"tmp/{NOWHERE}.k3_x9a2b.tmp",
    f"tmp/{NOWHERE}.sign-{'0' * 16}.tmp",
    ".probe-123",
    f"cells/ab/.{'ab' * 20}.k3_x9a2b.tmp",
    f"runs/.{FIRST}.json.k3_x9a2b.tmp",
]


@pytest.mark.parametrize("name", TEMPORARY)
def test_temporary_files_are_being_written_for_an_hour(store: Store, name: str) -> None:
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
with store.sign() as token:
    print(token, flush=True)
    sys.stdin.read()
    if sys.argv[2] == "killed":
        import os
        os._exit(9)
"""


@pytest.fixture
def writer(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes, until its stdin ends, and is killed then."""
    command = [sys.executable, "-c", WRITER, str(store.root), "killed"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.mark.slow
def test_an_old_file_of_a_writer_that_lives_is_being_written(store: Store, writer: subprocess.Popen[str]) -> None:
    assert writer.stdout is not None
    path = store.root / "tmp" / writer.stdout.readline().strip()
    age(path)
    assert names(scan(store).being_written) == {path.name}
    writer.communicate("")
    assert names(scan(store).left_behind) == {path.name}


def test_asking_for_writers_makes_no_file_of_locks(store: Store) -> None:
    (store.root / "lock").unlink(missing_ok=True)
    (store.root / "tmp").mkdir(exist_ok=True)
    age_of = store.root / "tmp" / f"{NOWHERE}.x.tmp"
    age_of.write_bytes(b"")
    age(age_of)
    assert names(scan(store).left_behind) == {age_of.name}
    assert not (store.root / "lock").exists()


def part_of(store: Store, eps: float, part: tuple[int, int]) -> Path:
    store.write_tensors(attack(eps), IMAGES, {}, part)
    key = digest_of(attack(eps))
    return store.root / "adversarial" / key[:2] / f"{key}.{part[0]}-{part[1]}.safetensors"


def test_parts_belong_to_who_refers_to_their_chunk(store: Store) -> None:
    whole = store.root / "adversarial" / digest_of(attack(0.2))[:2] / f"{digest_of(attack(0.2))}.safetensors"
    part = part_of(store, 0.2, (0, 4))
    whole.unlink()
    stock = take_stock(store)
    assert part.name in names(stock.alone([stock.runs[1]]))
    assert part.name not in names(stock.alone([stock.runs[0]]))
    assert stock.inventory.left_behind == []


def test_parts_that_are_older_than_their_chunk_are_left_behind(store: Store) -> None:
    part = age(part_of(store, 0.2, (0, 4)))
    inventory = scan(store)
    assert names(inventory.left_behind) == {part.name}
    assert part.name not in names(inventory.files())
    assert len(inventory.files()) == 9


def test_parts_that_are_made_anew_are_left_behind_after_a_day(store: Store) -> None:
    key = digest_of(attack(0.2))
    age(store.root / "adversarial" / key[:2] / f"{key}.safetensors", 200_000)
    part = age(part_of(store, 0.2, (0, 4)), 80_000)
    assert part.name in names(scan(store).files())
    age(part, 90_000)
    assert names(scan(store).left_behind) == {part.name}


def entry(store: Store, kind: str) -> File:
    return next(file for file in scan(store).files() if file.kind == kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped early", "flipped late", "another's", "odd"])
def test_damage_of_every_kind_is_found(store: Store, kind: str, damage: str) -> None:
    for name in ("one", "other"):
        store.write_record("networks", {"kind": "networks", "component": name}, {"behaviours": []})
    file = entry(store, kind)
    assert check(store, file) == "whole"
    content = bytearray(file.path.read_bytes())
    if damage == "truncated":
        content = content[:-5]
    elif damage == "empty":
        content = bytearray()
    elif damage == "another's":
        other = next(o for o in scan(store).files() if o.kind == kind and o != file)
        content = bytearray(other.path.read_bytes())
    elif damage == "odd":
        content = bytearray(b'{"manifest": {}, "material": 1, "record": [], "sha256": null}')
    else:
        content[len(content) // 3 if damage == "flipped early" else -9] ^= 1
    file.path.write_bytes(content)
    assert check(store, file) == "damaged"


def test_a_file_of_tensors_that_is_none_of_ours_is_damaged(store: Store) -> None:
    from safetensors.torch import save_file

    file = entry(store, "adversarial")
    for header in ({}, {"advbench": "[]"}, {"advbench": "{"}, {"advbench": '{"record": {}}'}):
        save_file(IMAGES, file.name, metadata=header)
        assert check(store, file) == "damaged", header


def test_a_part_is_checked_as_the_part_that_its_name_says(store: Store) -> None:
    part = part_of(store, 0.9, (0, 4))
    (file,) = (file for file in scan(store).files() if file.part)
    assert (file.part, check(store, file)) == ((0, 4), "whole")
    moved = part.rename(part.with_name(part.name.replace("0-4", "4-8")))
    (file,) = (file for file in scan(store).files() if file.part)
    assert file.path == moved
    assert check(store, file) == "damaged"


def test_what_cannot_be_read_is_not_called_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = entry(store, "cells")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert check(store, file) == "unreadable"
    monkeypatch.undo()
    file.path.unlink()
    assert check(store, file) == "gone"


def test_too_little_memory_is_not_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(store, "read_tensors", too_large)
    with pytest.raises(MemoryError):
        check(store, entry(store, "adversarial"))


def test_removing_tells_what_was_there(store: Store) -> None:
    first, second = entry(store, "cells"), entry(store, "clean")
    first.path.unlink()
    assert remove(store, [first, second]) == [second]
    assert not second.path.exists()


def test_a_file_that_cannot_be_deleted_or_read_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = entry(store, "cells")
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(StoreError, match=f"{file.key}.json cannot be deleted: Permission denied; make the store"):
        remove(store, [file])
    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(StoreError, match=f"store: {store.root} cannot be read: Permission denied"):
        take_stock(store)


def test_stock_is_taken_of_many_entries_without_reading_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def no_entry(*_: object) -> None:
        raise AssertionError("an entry is read")

    monkeypatch.setattr(store, "read_material", no_entry)
    began = time.process_time()  # which other programs do not lengthen
    stock = take_stock(store)
    assert time.process_time() - began < 5  # it takes a tenth of a second
    assert [len(run.references) for run in stock.runs] == [3001] * 10
    assert len(stock.unreferenced()) == 900
