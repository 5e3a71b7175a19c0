"""Values that a user may give: each is checked by name, so that a config is told what is wrong with it."""

from collections.abc import Collection

import numpy as np

from oncoarena.errors import InputError


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise InputError unless a value is a whole number from ``low`` to ``high``."""
    if not is_whole(value) or not low <= value <= high:
        raise InputError(f"{name}: found {value!r}, expected a whole number from {low} to {high}.")


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise InputError unless a value is a finite number from ``low`` to ``high``."""
    if not is_number(value) or not low <= value <= high:
        raise InputError(f"{name}: found {value!r}, expected a number from {low} to {high}.")


def is_number(value: object) -> bool:
    """Whether a value is a number, whole or not; true and false are none."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_choice(name: str, value: object, legal: Collection[str]) -> None:
    """Raise InputError unless a value is one of the legal words."""
    if value not in legal:
        raise InputError(f"{name}: found {value!r}, expected one of {', '.join(legal)}.")


def check_switch(name: str, value: object) -> None:
    """Raise InputError unless a value is true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{name}: found {value!r}, expected true or false.")


def check_text(name: str, value: object, expected: str) -> None:
    """Raise InputError unless a value is None, as it is where the key is left out, or text that is not empty."""
    if not (value is None or (isinstance(value, str) and value)):
        raise InputError(f"{name}: found {value!r}, expected {expected}.")
