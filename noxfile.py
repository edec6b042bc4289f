"""Sessions for developers: ``pip install nox``, then ``nox -l`` to list them and ``nox -s fast`` to run one.

Each session makes a virtual environment of its own. With ``--no-venv`` it runs in the active one, where
``pip install -e ".[test]"`` was done before.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "fast"]
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def install(session: nox.Session, *extras: str) -> None:
    """Installs the checkout with extras, unless the session runs in the active environment."""
    if session.virtualenv.is_sandboxed:
        session.install("-e", f".[{','.join(extras)}]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Every test; arguments after -- go to pytest."""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def fast(session: nox.Session) -> None:
    """The tests that take less than a minute together; arguments after -- go to pytest."""
    install(session, "test")
    session.run("pytest", "-m", "not slow", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, format and types; changes nothing."""
    install(session, "test")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation into site/; `nox -s docs -- serve` shows it while you write."""
    install(session, "docs")
    session.run("python", "-m", "mkdocs", *(session.posargs or ("build", "--strict")))


@nox.session
def benchmarks(session: nox.Session) -> None:
    """The timings against other libraries; arguments after -- go to the command, such as --help."""
    if session.virtualenv.is_sandboxed:
        # A constraint that holds for builds, too, which one on the command line does not.
        session.install("-e", ".[bench]", env={"PIP_CONSTRAINT": "benchmarks/constraints.txt"})
    session.run("python", "-m", "benchmarks", *session.posargs)
