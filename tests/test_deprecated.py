"""Old names work as the new ones do, and warn."""

from __future__ import annotations

import importlib
import re
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import advbench
from advbench import _deprecated, api
from advbench._deprecated import DEPRECATIONS, renamed_arguments, renamed_attributes, renamed_members

for public_name in api.__all__:  # these are imported on first use, before a test looks at what is deprecated
    getattr(api, public_name)

PAGE = Path(__file__).parents[1] / "docs" / "deprecations.md"


@pytest.fixture(autouse=True)
def own_list() -> Iterator[None]:
    """Names that tests deprecate do not stay in the list."""
    before = list(DEPRECATIONS)
    yield
    DEPRECATIONS[:] = before


@pytest.fixture
def base() -> Any:
    @renamed_members("0.2", "0.4", greet="greeting", loud="is_loud", level="volume")
    class Base:
        volume = 1

        def greeting(self, name: str) -> str:
            return f"hello {name}"

        @property
        def is_loud(self) -> bool:
            return False

    return Base


def test_an_override_under_the_old_name_counts_under_the_new_one_and_warns_once(base: Any) -> None:
    with pytest.warns(DeprecationWarning) as caught:

        class Old(base):
            level = 3

            def greet(self, name: str) -> str:
                return f"hi {name}"

            @property
            def loud(self) -> bool:
                return True

    messages = [str(one.message) for one in caught]
    assert len(messages) == 3
    assert messages[0].endswith(
        "Old overrides Base.greet, which is deprecated since advbench 0.2 and goes in 0.4; use Base.greeting"
    )
    assert caught[0].filename == __file__
    assert "def greet(self" in Path(__file__).read_text().splitlines()[caught[0].lineno - 1]
    old = Old()
    assert (old.greeting("you"), old.is_loud, old.volume) == ("hi you", True, 3)
    assert (old.greet("you"), old.loud, old.level) == ("hi you", True, 3)  # its own, so that nothing warns


def test_the_old_name_gives_what_a_new_override_says_and_warns_at_the_caller(base: Any) -> None:
    class New(base):
        volume = 5

        def greeting(self, name: str) -> str:
            return f"hey {name}"

    with pytest.warns(DeprecationWarning, match=r"^Base\.greet is deprecated since advbench 0\.2") as caught:
        assert New().greet("you") == "hey you"
    assert [one.filename for one in caught] == [__file__]
    with pytest.warns(DeprecationWarning):
        assert New.greet(New(), "you") == "hey you"
    with pytest.warns(DeprecationWarning):
        assert (New.level, New().loud) == (5, False)


def test_super_finds_the_next_class_under_both_names(base: Any) -> None:
    with pytest.warns(DeprecationWarning):

        class Old(base):
            def greet(self, name: str) -> str:
                return super().greet(name) + "!"

    class New(Old):
        def greeting(self, name: str) -> str:
            return super().greeting(name) + "?"

    with pytest.warns(DeprecationWarning, match="NewestIsOld overrides"):

        class NewestIsOld(New):
            def greet(self, name: str) -> str:
                return super().greet(name) + "."

    with pytest.warns(DeprecationWarning):
        assert NewestIsOld().greeting("you") == "hello you!?."
    with pytest.warns(DeprecationWarning):
        assert New().greet("you") == "hello you!?"


def test_a_mixin_outside_of_the_classes_counts_too(base: Any) -> None:
    class Mixin:
        def greet(self, name: str) -> str:
            return f"mixed {name}"

    with pytest.warns(DeprecationWarning, match="Both overrides"):

        class Both(Mixin, base):
            pass

    assert Both().greeting("you") == "mixed you"


def test_who_defines_both_names_or_none_is_not_warned(base: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Every(base):
            def greet(self, name: str) -> str:
                return "old"

            def greeting(self, name: str) -> str:
                return "new"

        class Plain(base):
            pass

        assert Every().greeting("you") == "new"
        assert Plain().greeting("you") == "hello you"


def test_dataclasses_with_slots_which_are_made_twice_warn_once() -> None:
    with pytest.warns(DeprecationWarning) as caught:

        @dataclass(frozen=True, slots=True)
        class Old(api.Defense):
            name = "old"

            def apply(self, images: Any, rng: Any) -> Any:
                return images

            def misfit(self, image_shape: Any) -> str:
                return "never"

    assert len(caught) == 1
    assert Old().incompatibility((1, 2, 3)) == "never"


def test_an_init_subclass_of_the_base_and_of_its_bases_still_runs() -> None:
    class Root:
        made: ClassVar[list[str]] = []

        def __init_subclass__(cls, tag: str = "", **options: Any) -> None:
            super().__init_subclass__(**options)
            cls.made.append(tag)

    @renamed_members("0.2", "0.4", old="new")
    class Base(Root):
        new = 1

        def __init_subclass__(cls, **options: Any) -> None:
            super().__init_subclass__(**options)
            cls.made.append("base")

    with pytest.warns(DeprecationWarning):

        class Child(Base, tag="child"):
            old = 2

    assert Child.new == 2
    assert Root.made == ["", "child", "base"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("some_module")
    made.kept = "kept"  # type: ignore[attr-defined]
    made.__getattr__ = renamed_attributes(  # type: ignore[method-assign]
        "some_module", "0.2", "0.4", gone="kept", sine="math:sin"
    )
    monkeypatch.setitem(sys.modules, "some_module", made)
    return made


def test_a_modules_old_attributes_are_the_new_ones_of_this_or_another_module(module: Any) -> None:
    with pytest.warns(
        DeprecationWarning, match=r"some_module\.gone is deprecated .*; use some_module\.kept$"
    ) as caught:
        from some_module import gone
    assert gone == "kept"
    assert {one.filename for one in caught} == {__file__}
    with pytest.warns(DeprecationWarning, match=r"use math\.sin$"):
        assert module.sine(0) == 0
    with pytest.raises(AttributeError, match="module 'some_module' has no attribute 'other'"):
        _ = module.other


def test_old_keyword_arguments_are_passed_on_under_the_new_names() -> None:
    @renamed_arguments("0.2", "0.4", wide="width")
    def area(height: int, *, width: int = 1) -> int:
        """Its docstring stays."""
        return height * width

    assert area(2, width=3) == 6
    assert area.__doc__ == "Its docstring stays."
    with pytest.warns(DeprecationWarning, match=r"area\(wide=…\) is deprecated .*; use width=…$") as caught:
        assert area(2, wide=3) == 6  # type: ignore[call-arg]
    assert [one.filename for one in caught] == [__file__]
    with pytest.raises(TypeError, match="got both 'wide' and 'width', its new name"):
        area(2, wide=3, width=3)  # type: ignore[call-arg]


def _overdue(version: str) -> list[str]:
    here = tuple(map(int, re.findall(r"\d+", version)[:2]))
    return [d.old for d in DEPRECATIONS if tuple(map(int, d.removed_in.split("."))) <= here]


def test_every_old_name_is_listed_in_the_docs_and_none_is_overdue() -> None:
    core = Path(advbench.__file__).parent
    for file in core.rglob("*.py"):
        if "advbench._deprecated import" in file.read_text("utf-8"):
            importlib.import_module(
                ".".join(("advbench", *file.relative_to(core).with_suffix("").parts)).removesuffix(".__init__")
            )
    rows = [line.split("|")[1:-1] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    listed = {tuple(cell.strip(" `") for cell in row) for row in rows}
    assert listed == {(d.old, d.new, d.since, d.removed_in) for d in _deprecated.DEPRECATIONS}
    assert not _overdue(advbench.__version__), "remove these names, their tests and their rows"
    assert len(_overdue("99.0")) == len(DEPRECATIONS) > 0
