"""Arguments of simulators: each is checked by name, so that a config is told what is wrong with it."""

from collections.abc import Sequence

from oncoarena import legal
from oncoarena.errors import InputError


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise InputError unless a value is a whole number from ``low`` to ``high``."""
    legal.check_whole(f"simulate: {name}", value, low, high)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise InputError unless a value is a finite number from ``low`` to ``high``."""
    legal.check_number(f"simulate: {name}", value, low, high)


def check_choice(name: str, value: object, words: Sequence[str]) -> None:
    """Raise InputError unless a value is one of the legal words."""
    legal.check_choice(f"simulate: {name}", value, words)


def check_seed(value: object) -> None:
    """Raise InputError unless a value can seed a generator."""
    if not legal.is_whole(value) or value < 0:
        raise InputError(f"simulate: seed: found {value!r}, expected a whole number of at least 0.")
