"""Simulated cohorts: files in the formats that users have, in which a signal of stated strength is planted.

What is planted is known exactly, so a study on such a cohort shows what each hypothesis finds where its
claim is true, where another one is, and (strength 0) where there is nothing to find.

A module of this package named in ``KINDS`` has ``simulate_cohort(directory, *, ...) -> Path`` (the sample sheet,
written last), ``check_arguments`` for its arguments, and ``cohort_files(arguments)``, the names of the files
that it writes beside those of single samples, the sheet first.
"""

import importlib
import inspect
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from oncoarena.errors import InputError
from oncoarena.schema import suggestion
from oncoarena.simulation.arguments import check_choice

KINDS = ("expression", "cfdna", "multiomic")
NOT_ARGUMENTS = ("directory", "map_samples")


def simulator(kind: str) -> Any:
    """Import the simulator of a kind of cohort. Raises InputError for another name."""
    check_choice("kind", kind, KINDS)
    return importlib.import_module(f"oncoarena.simulation.{kind}")


def defaults(kind: str) -> dict[str, Any]:
    """Return the arguments of a kind of cohort with their defaults."""
    parameters = inspect.signature(simulator(kind).simulate_cohort).parameters
    return {name: item.default for name, item in parameters.items() if name not in NOT_ARGUMENTS}


def cohort_files(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the files of the whole cohort that a config's key ``simulate`` asks for; none where it is not legal."""
    try:
        kind, arguments = read_request(content)
    except InputError:  # told by the check before the first job
        return ()
    return simulator(kind).cohort_files(arguments)


def read_request(content: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the kind of cohort that a config's key ``simulate`` asks for, and its arguments, checked.

    Raises InputError for an unknown kind or key, and for a value that is not legal.
    """
    kind = content.get("kind", "expression")
    arguments = {key: value for key, value in content.items() if key != "kind"}
    legal = defaults(kind)
    for key in arguments:
        if key not in legal:
            raise InputError(f"config: simulate: unknown key {key!r}{suggestion(key, [*legal, 'kind'])}")
    simulator(kind).check_arguments(**{**legal, **arguments})
    return kind, arguments


def simulate(directory: Path, content: Mapping[str, Any], n_jobs: int = 1) -> Path:
    """Write the cohort that ``content`` (``kind`` and arguments) asks for; return the path of its sample sheet.

    ``n_jobs`` processes share the samples; what is written does not depend on their number. Raises InputError.
    """
    kind, arguments = read_request(content)
    if n_jobs == 1 or kind == "expression":  # which is drawn whole
        return simulator(kind).simulate_cohort(directory, **arguments)
    with ProcessPoolExecutor(n_jobs, multiprocessing.get_context("spawn")) as pool:
        return simulator(kind).simulate_cohort(directory, **arguments, map_samples=pool.map)
