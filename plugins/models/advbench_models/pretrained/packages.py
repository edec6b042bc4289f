"""Messages about optional packages."""

from __future__ import annotations

from advbench.api import ParameterError

__all__ = ["missing_package", "one_line"]

_LONGEST = 300


def missing_package(package: str, extra: str, error: ImportError) -> ParameterError:
    """The error that says how to install a package, or why an installed one cannot be imported.

    Args:
        package: The module that was to be imported.
        extra: The extra of advbench that installs it.
        error: What the import raised.
    """
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package:
        return ParameterError(f"needs {package}; install it with: pip install 'advbench[{extra}]'")
    return ParameterError(
        f"needs {package}, which cannot be imported ({one_line(error)}); reinstall it with: pip install "
        f"'advbench[{extra}]'"
    )


def one_line(error: BaseException) -> str:
    """The type and the message of an exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_LONGEST]}" if text else type(error).__name__
