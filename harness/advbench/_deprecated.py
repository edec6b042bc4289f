"""Old public names that keep working for a while, with a :class:`DeprecationWarning` that names the new one.

Three things can be renamed: members of a base class that plugins override or call (:func:`renamed_members`), attributes
of a module (:func:`renamed_attributes`) and keyword arguments (:func:`renamed_arguments`). ``docs/deprecations.md`` has
the policy and lists every name; a test compares that list with :data:`DEPRECATIONS`, and fails once a name is overdue.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

__all__ = [
    "DEPRECATIONS",
    "Deprecation",
    "old_api_version",
    "overridden_member",
    "renamed_arguments",
    "renamed_attributes",
    "renamed_members",
]

C = TypeVar("C", bound=type)
P = ParamSpec("P")
T = TypeVar("T")


class Deprecation(NamedTuple):
    """One old name.

    Attributes:
        old: The old name, with the class, module or function that it belongs to.
        new: The new name, written alike.
        since: The version that deprecated it, such as ``0.2``.
        removed_in: The first version without it.
    """

    old: str
    new: str
    since: str
    removed_in: str

    def message(self, subject: str = "") -> str:
        """The text of the warning.

        Args:
            subject: Who uses the old name and how, such as ``Jpeg overrides``; nothing for the name alone.
        """
        what = f"{subject} {self.old}, which is" if subject else f"{self.old} is"
        return f"{what} deprecated since advbench {self.since} and goes in {self.removed_in}; use {self.new}"


DEPRECATIONS: list[Deprecation] = []
"""All old names of the modules that have been imported."""


_WARNED_MODULES: set[str] = set()
"""Modules one of whose classes has been warned about."""


def _note(old: str, new: str, since: str, removed_in: str) -> Deprecation:
    deprecation = Deprecation(old, new, since, removed_in)
    DEPRECATIONS.append(deprecation)
    return deprecation


def renamed_members(since: str, removed_in: str, **names: str) -> Callable[[C], C]:
    """Decorates a base class whose methods, properties or class attributes have new names.

    The core uses the new names alone. A subclass that defines an old name has it under the new one, too, and is warned
    about once, when the class is made; a subclass that defines both supports several versions of advbench and is not.
    Whoever reads an old name is warned and given what the new one stands for. ``super()`` works under both names.

    Args:
        since: The version that deprecates the old names.
        removed_in: The first version without them.
        **names: New names by the old ones.
    """

    def decorate(base: C) -> C:
        owner: Any = base
        renames = {
            old: _note(f"{base.__name__}.{old}", f"{base.__name__}.{new}", since, removed_in)
            for old, new in names.items()
        }
        inherited = vars(base).get("__init_subclass__")

        def init_subclass(cls: Any, /, **options: Any) -> None:
            if inherited is None:
                super(owner, cls).__init_subclass__(**options)
            else:
                inherited.__get__(None, cls)(**options)
            for old, deprecation in renames.items():
                _connect(cls, old, names[old], deprecation)

        owner.__init_subclass__ = classmethod(init_subclass)
        for old, deprecation in renames.items():
            setattr(base, old, _OldMember(vars(base)[names[old]], deprecation))
        return base

    return decorate


def overridden_member(cls: type, member: Any, old: str, new: str, *, since: str, removed_in: str) -> None:
    """Warns about a class that overrides a member which a new one with other arguments replaces.

    Args:
        cls: The class.
        member: What it defines.
        old: The member, with the base class that defines it.
        new: The new member, written alike.
        since: The version that deprecates overriding the old one.
        removed_in: The first version in which overriding it has no effect.
    """
    deprecation = Deprecation(old, new, since, removed_in)
    _warn_at(member, cls, deprecation.message(f"{cls.__qualname__} overrides"))


def old_api_version(module: Any, version: int, ours: int) -> None:
    """Warns about a plugin's module for an older API, unless one of its classes has been warned about already."""
    name = getattr(module, "__name__", str(module))
    if name not in _WARNED_MODULES:
        message = (
            f"{name} declares API_VERSION = {version}, which is deprecated since advbench 0.2 and goes in 0.4; use "
            f"API_VERSION = {ours}, and in attacks Attack.craft instead of Attack.run"
        )
        warnings.warn_explicit(message, DeprecationWarning, getattr(module, "__file__", None) or name, 1, module=name)


class _OldMember:
    """A class's member under its old name: gives what the new name stands for, and warns.

    Args:
        member: The function, property or value, as the class defines it.
        deprecation: What is deprecated.
    """

    def __init__(self, member: Any, deprecation: Deprecation) -> None:
        self.member = member
        self.deprecation = deprecation

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The member, bound as the new name binds it."""
        warnings.warn(self.deprecation.message(), DeprecationWarning, stacklevel=2)
        bind = getattr(type(self.member), "__get__", None)
        return self.member if bind is None else bind(self.member, instance, owner)


def _connect(cls: type, old: str, new: str, deprecation: Deprecation) -> None:
    """Lets a class that was just made have, under both names, what it defines under one of them.

    Where it defines neither, what counts is the first of its bases that defines one: of a mixin outside of advbench's
    classes, that is one name alone.
    """
    first = next(base for base in cls.__mro__ if old in vars(base) or new in vars(base))
    members = vars(first)
    if new not in members:
        _warn_at(members[old], cls, deprecation.message(f"{cls.__qualname__} overrides"))
        setattr(cls, new, members[old])
    elif old not in members:
        setattr(cls, old, _OldMember(members[new], deprecation))


def _warn_at(member: Any, cls: type, message: str) -> None:
    """Warns with the place of a function or property in its file; of a value, with the place of the module alone."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
    code = getattr(function, "__code__", None)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
    file, line = (file, 1) if code is None else (code.co_filename, code.co_firstlineno)
    _WARNED_MODULES.add(cls.__module__)
    warnings.warn_explicit(message, DeprecationWarning, file, line, module=cls.__module__)


def renamed_attributes(
    module: str, since: str, removed_in: str, otherwise: Callable[[str], Any] | None = None, /, **names: str
) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module whose functions, classes or constants have new names.

    Assign it where type checkers do not look, or every name that the module lacks becomes ``Any`` to them::

        if not TYPE_CHECKING:
            __getattr__ = renamed_attributes(__name__, "0.2", "0.4", fill="load_state")

    Args:
        module: The module's ``__name__``.
        since: The version that deprecates the old names.
        removed_in: The first version without them.
        otherwise: The ``__getattr__`` for all other names; without one they do not exist.
        **names: New names by the old ones: of the same module, or as ``other.module:name``.
    """
    renames = {}
    for old, new in names.items():
        owner, _, name = new.rpartition(":")
        renames[old] = owner or module, name
    noted = {old: _note(f"{module}.{old}", ".".join(renames[old]), since, removed_in) for old in names}

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in renames:
            if otherwise is not None:
                return otherwise(name)
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(noted[name].message(), DeprecationWarning, stacklevel=2)
        owner, new = renames[name]
        return getattr(importlib.import_module(owner), new)

    return __getattr__


def renamed_arguments(since: str, removed_in: str, **names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a function whose keyword arguments have new names.

    Args:
        since: The version that deprecates the old names.
        removed_in: The first version without them.
        **names: New names by the old ones.

    Raises:
        TypeError: When the function is called with an argument under both names.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        where = f"{function.__module__}.{function.__qualname__}"
        noted = {old: _note(f"{where}({old}=…)", f"{new}=…", since, removed_in) for old, new in names.items()}

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **_with_new_names(kwargs, where, names, noted))

        return call

    return decorate


def _with_new_names(
    given: Mapping[str, Any], where: str, names: Mapping[str, str], noted: Mapping[str, Deprecation]
) -> dict[str, Any]:
    renamed = {}
    for name, value in given.items():
        new = names.get(name, name)
        if new != name:
            if new in given:
                raise TypeError(f"{where}() got both {name!r} and {new!r}, its new name; give {new!r} alone")
            warnings.warn(noted[name].message(), DeprecationWarning, stacklevel=3)
        renamed[new] = value
    return renamed
