"""The two ways in which a study may be told "no" without a traceback."""


class InputError(Exception):
    """A user's mistake: the message says what was found, where, what was expected and what to do.

    A message may hold several lines, one a problem; entry points print them and stop.
    """


class NotApplicable(Exception):
    """A hypothesis refuses a cohort for a stated reason, e.g. "needs block coverage".

    This is an outcome that the report shows, not a failure.
    """
