"""What a study was set out to measure, sealed before the results are seen."""

import hashlib
import json

from oncoarena.referee.evaluation import ESTIMAND

AGGREGATION = "pooled over the folds of a repeat, mean over repeats"
"""How results of several splits become one."""

THRESHOLD_RULE = (
    "a sample is called the class it finds most probable; sensitivity at a specificity, and specificity at a "
    "sensitivity, are read off the test samples"
)
"""How a probability becomes a call."""


def endpoint_digest(
    primary: str,
    estimand: str = ESTIMAND,
    aggregation: str = AGGREGATION,
    threshold_rule: str = THRESHOLD_RULE,
    positive: str | None = None,
) -> str:
    """Digest the primary endpoint: "sha256:" and 64 hexadecimal digits.

    Parameters: ``primary``, the primary metric; ``estimand``, ``aggregation`` and ``threshold_rule`` in words (white
    space does not count); ``positive``, the class that counts as positive, None in studies of more than two.
    """
    parts = {
        "primary": primary,
        "estimand": estimand,
        "aggregation": aggregation,
        "threshold_rule": threshold_rule,
        "positive": positive or "",
    }
    text = json.dumps({key: " ".join(value.split()) for key, value in parts.items()}, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
