"""The matrix from Python."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.analysis import combine_seeds
from advbench.analysis.board_rows import with_rows
from advbench.analysis.corruption_error import with_reference
from advbench.errors import UsageError
from advbench.live.arguments import run_options
from advbench.live.components import LiveObjects
from advbench.live.results import Results
from advbench.option_names import called_from_python
from advbench.process.stdout import stdout_to_stderr
from advbench.session.forecasts import announce_total
from advbench.session.options import RunOptions
from advbench.session.run import MatrixRun, check_suite_reference, link_seeds
from advbench.session.session import Session
from advbench.session.suites import recipe, suite_of, suites_by_seed

__all__ = ["matrix"]


@called_from_python()
def matrix(
    datasets: Any = None,
    models: Any = None,
    attacks: Any = None,
    defenses: Any = None,
    threats: str | Sequence[str] | None = None,
    *,
    suite: str | Path | None = None,
    limit: int | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    surrogate: Any = None,
    fit_data: Any = None,
    quiet: bool = False,
    **flags: Any,
) -> Results:
    """Evaluates every combination of attacks and defenses, as ``advbench matrix`` does.

    Each of the first four arguments takes a spec such as ``"jpeg:quality=50"``, a component
    (``JpegCompression(quality=50)``) or its class, a live object, or a list of these; or a dictionary of names to them.
    A live object is a network, a function or data that your program holds in memory; which of them an argument takes is
    described below. The names of a dictionary are shown instead of specs. They consist of a letter and up to 39
    letters, digits, ``.``, ``_`` and ``-``. Live objects without a name are named after their class or function.
    Arguments that are left out have the values of the suite ``quickstart``, as on the command line.

    Results are stored as the command stores them, under digests of weights and code, and reused by later calls. If no
    digest of a live object can be computed, for example because a notebook cell defines it, the results are kept for
    this Python session only, and a line on stderr reports this.

    Args:
        datasets: Also a pair of images, uint8 or floating-point in [0, 1], shape (n, channels, height, width), and
            labels, shape (n,), as arrays, tensors or lists; a ``TensorDataset``, a ``DataLoader``, or a
            ``torch.utils.data.Dataset`` or list of (image, label) pairs. They are read once, in the order of the
            dataset, even if a loader shuffles.
        models: Also an ``nn.Module``, or a function from images in [0, 1] to logits. A network is copied, not changed.
        attacks: Also a function of (model, images, labels) to adversarial images. Its attributes ``norm`` and ``eps``
            are its budget: an image that exceeds it makes the cell an error. Without ``eps`` there is no budget: any
            image in [0, 1] that the model misclassifies counts as a success, however far it is from the clean image.
            If the function takes a fourth argument, that is an :class:`advbench.api.SampleRandom`, from which its
            random numbers should come. Its attribute ``access`` says what it needs of the model, ``"gradients"`` by
            default.
        defenses: Also a function from images to images.
        threats: Names such as ``"adaptive"``.
        suite: Name of a suite, or a TOML file.
        limit: Size of the random subset of each dataset.
        seed: Seed of the subset and of all randomness.
        seeds: Seeds with each of which the run is repeated; the results show means and their spread.
        surrogate: The model on which images are crafted under the threat ``"transfer"``, or several, with each of which
            attacks are evaluated: what ``models`` takes.
        fit_data: The data to which attacks such as patches are fitted: what ``datasets`` takes. By default, samples of
            the dataset that the run does not attack; ``fit_samples`` sets how many.
        quiet: Whether to show no progress on stderr.
        **flags: Any other option of ``advbench matrix``, such as ``eot=20``, ``device="cpu"``, ``jobs=2``,
            ``store="results"`` or ``plugin=["my_defense.py"]``.

    Returns:
        The results; printing them shows the leaderboard.

    Raises:
        UsageError: An argument does not exist or cannot be used; raised before any work.
    """
    arguments = {"threats": threats, "suite": suite, "limit": limit, "seed": seed, "seeds": seeds, "quiet": quiet}
    options = run_options({**arguments, **flags})
    session = Session(options)
    objects = {"datasets": datasets, "models": models, "attacks": attacks, "defenses": defenses}
    live = LiveObjects(session.registry)
    options = _with_objects(session, options, live, objects, {"surrogate": surrogate, "fit_data": fit_data})
    return _results(session, options, live)


def _results(session: Session, options: RunOptions, live: LiveObjects) -> Results:
    """Runs the matrix, once for each seed."""
    python = "advbench.matrix(…) from Python" if session.live else ""
    suites = suites_by_seed(suite_of(session.suite, options, session.registry), options)
    runs = [MatrixRun(session, one, python or command) for one, command in suites]
    link_seeds(runs, python or recipe(options))
    check_suite_reference(suites[0][0], runs[0])
    session.store.check_writable()
    with stdout_to_stderr():  # what components print is not part of the results
        announce_total(session, runs)
    results_by_seed = []
    for run in runs:
        run.announce()
        with stdout_to_stderr():
            results_by_seed.append(run.results())
    suite, _ = suites[0]
    results = with_reference(combine_seeds(results_by_seed, python or recipe(options)), suite.reference)
    results = with_rows(results, suite.rows)
    return Results(results, runs[0], live)


def _with_objects(
    session: Session, options: RunOptions, live: LiveObjects, objects: Mapping[str, Any], single: Mapping[str, Any]
) -> RunOptions:
    """Registers live objects in the session and returns the options with the specs of all objects.

    Args:
        session: The session.
        options: The options without objects.
        live: Where live objects are registered.
        objects: What was given for each axis.
        single: The surrogates and the data for fits.
    """
    given = {axis: specs for axis, value in objects.items() if (specs := live.specs(axis, value)) is not None}
    others = {"surrogate": live.surrogate(single["surrogate"]), "fit_data": live.fit_data(single["fit_data"])}
    if live.names and not session.executor.in_process:
        raise UsageError(
            f"jobs={options.jobs}: {live.names[0]!r} exists in this process only; use jobs=1 and no other executor"
        )
    session.live = live.names
    if live.not_reusable:
        _use_temporary_store(session, live.not_reusable)
    return RunOptions.of(vars(options), **given, **others)


def _use_temporary_store(session: Session, reasons: Sequence[str]) -> None:
    """Keeps results in a folder that is deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="advbench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    session.keep_in(folder)
    for reason in reasons:
        session.say(f"{reason}; the results are kept for this session alone")
