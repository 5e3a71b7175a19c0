"""The two ways in which a study may be told "no" without a traceback."""

from collections.abc import Callable, Sequence
from typing import Any


class InputError(Exception):
    """A user's mistake: the message says what was found, where, what was expected and what to do.

    A message may hold several lines, one a problem; entry points print them and stop.
    """


class BadObject(InputError):
    """An object that cannot be trusted: damaged, cut short, unsorted, of another genome.

    ``offset`` is the byte of the object at which this was found, or None where it concerns the whole.
    """

    def __init__(self, message: str, offset: int | None = None):
        super().__init__(message, offset)
        self.offset = offset

    def __str__(self) -> str:
        return self.args[0]


class AbsentSamples(InputError):
    """Samples of the sheet that a matrix does not have; their ``sample_ids``."""

    def __init__(self, message: str, sample_ids: Sequence[str]):
        super().__init__(message, tuple(sample_ids))
        self.sample_ids = tuple(sample_ids)

    def __str__(self) -> str:
        return self.args[0]


class NotApplicable(Exception):
    """A hypothesis refuses a cohort for a stated reason, e.g. "needs block coverage".

    This is an outcome that the report shows, not a failure.
    """


MAX_LINES = 20
"""Mistakes of one kind that are told at once: enough to mend a sheet in one go, few enough to read."""


class Faults:
    """A list of mistakes, so that a user is told all of them at once, but never more than fit on a screen."""

    def __init__(self, what: str = "problem") -> None:
        self.lines: list[str] = []
        self.what = what
        self.n_untold = 0

    def add(self, line: str) -> None:
        """Note a mistake; from the twenty-first on it is only counted."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)
        else:
            self.n_untold += 1

    def collect(self, check: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a check and return its result; note its complaint, and return None, where it has one."""
        try:
            return check(*arguments, **options)
        except InputError as error:
            self.lines.append(str(error))
            return None

    def tell(self) -> None:
        """Raise InputError with all mistakes noted, a line each; do nothing where there are none."""
        if self.lines:
            more = self.n_untold
            rest = [f"and {more} more {self.what}{'s' if more > 1 else ''}"] if more else []
            raise InputError("\n".join(self.lines + rest))
