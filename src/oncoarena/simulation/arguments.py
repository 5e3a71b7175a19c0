"""Arguments of simulators: each is checked by name, so that a config is told what is wrong with it."""

from collections.abc import Sequence

import numpy as np

from oncoarena.errors import InputError


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise InputError unless a value is a whole number from ``low`` to ``high``."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:
        raise InputError(f"simulate: {name}: found {value!r}, expected a whole number from {low} to {high}.")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise InputError unless a value is a finite number from ``low`` to ``high``."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise InputError(f"simulate: {name}: found {value!r}, expected a number from {low} to {high}.")


def check_choice(name: str, value: object, legal: Sequence[str]) -> None:
    """Raise InputError unless a value is one of the legal words."""
    if value not in legal:
        raise InputError(f"simulate: {name}: found {value!r}, expected one of {', '.join(legal)}.")


def check_seed(value: object) -> None:
    """Raise InputError unless a value can seed a generator."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < 0:
        raise InputError(f"simulate: seed: found {value!r}, expected a whole number of at least 0.")
