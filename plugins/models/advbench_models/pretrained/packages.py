"""Messages about optional packages."""

from __future__ import annotations

from advbench.api import UsageError

__all__ = ["missing_package", "one_line"]

_LONGEST = 300


def missing_package(model: str, package: str, extra: str, error: ImportError) -> UsageError:
    """The error that says how to install a package, or why an installed one cannot be imported.

    Args:
        model: The name of the model that needs it.
        package: The module that was to be imported.
        extra: The extra of advbench that installs it.
        error: What the import raised.
    """
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package:
        return UsageError(f"model {model!r} needs {package}; install it with: pip install 'advbench[{extra}]'")
    return UsageError(
        f"model {model!r} needs {package}, which cannot be imported ({one_line(error)}); reinstall it with: "
        f"pip install 'advbench[{extra}]'"
    )


def one_line(error: BaseException) -> str:
    """The type and the message of an exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_LONGEST]}" if text else type(error).__name__
