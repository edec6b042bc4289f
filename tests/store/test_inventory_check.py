"""Entries of a store are verified as they are when read, and deleted one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.stores import IMAGES, entry, part_of, two_runs

from advbench.errors import StoreError
from advbench.store import Store
from advbench.store.inventory import KINDS, check, read_contents, remove, scan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return two_runs(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped early", "flipped late", "another's", "odd"])
def test_check_detects_every_kind_of_damage(store: Store, kind: str, damage: str) -> None:
    for name in ("one", "other"):
        store.write_record("networks", {"kind": "networks", "component": name}, {"behaviours": []})
        store.write_record("certificates", {"kind": "certificates", "defense": name}, {"classes": [1] * 100})
        store.write_artefact({"kind": "artefacts", "attack": name}, IMAGES, {"values": [{}]})
        store.write_record("certificates", {"kind": "certificates", "defense": name}, {"classes": []})
        store.write_record("examples", {"kind": "cell", "name": name}, {"rows": []})
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


def test_a_safetensors_file_of_another_program_is_damaged(store: Store) -> None:
    from safetensors.torch import save_file

    file = entry(store, "adversarial")
    for header in ({}, {"advbench": "[]"}, {"advbench": "{"}, {"advbench": '{"record": {}}'}):
        save_file(IMAGES, file.name, metadata=header)
        assert check(store, file) == "damaged", header


def test_a_part_under_the_name_of_another_part_is_damaged(store: Store) -> None:
    part = part_of(store, 0.9, (0, 4))
    (file,) = (file for file in scan(store).files() if file.part)
    assert (file.part, check(store, file)) == ((0, 4), "whole")
    moved = part.rename(part.with_name(part.name.replace("0-4", "4-8")))
    (file,) = (file for file in scan(store).files() if file.part)
    assert file.path == moved
    assert check(store, file) == "damaged"


def test_unreadable_and_missing_files_are_not_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = entry(store, "cells")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert check(store, file) == "unreadable"
    monkeypatch.undo()
    file.path.unlink()
    assert check(store, file) == "gone"


def test_running_out_of_memory_is_not_reported_as_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(store, "read_tensors", too_large)
    with pytest.raises(MemoryError):
        check(store, entry(store, "adversarial"))


def test_remove_returns_the_files_that_existed(store: Store) -> None:
    first, second = entry(store, "cells"), entry(store, "clean")
    first.path.unlink()
    assert remove(store, [first, second]) == [second]
    assert not second.path.exists()


def test_undeletable_and_unreadable_files_are_one_line_errors(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = entry(store, "cells")
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(StoreError, match=f"{file.key}.json cannot be deleted: Permission denied; make the store"):
        remove(store, [file])
    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(StoreError, match=f"store: {store.root} cannot be read: Permission denied"):
        read_contents(store)
