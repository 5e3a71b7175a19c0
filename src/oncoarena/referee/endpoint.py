"""What a study was set out to measure, sealed before the results are seen."""

import hashlib
import json

from oncoarena.referee.evaluation import ESTIMAND
from oncoarena.refits import CALL_RULE

AGGREGATION = "pooled over the folds of a repeat, mean over repeats"
"""How results of several splits become one."""


def describe_endpoint(
    primary: str,
    estimand: str = ESTIMAND,
    aggregation: str = AGGREGATION,
    rule: str = CALL_RULE,
    positive: str | None = None,
) -> dict[str, str]:
    """Put the primary endpoint into words, part by part; white space does not count.

    Parameters: ``primary``, the primary metric; ``rule``, how probabilities become calls (see ``refits``);
    ``positive``, the class that counts as positive, None where none is named.
    """
    parts = {
        "primary_metric": primary,
        "estimand": estimand,
        "aggregation": aggregation,
        "threshold_rule": rule,
        "positive": positive or "",
    }
    return {key: " ".join(value.split()) for key, value in parts.items()}


def endpoint_digest(
    primary: str,
    estimand: str = ESTIMAND,
    aggregation: str = AGGREGATION,
    rule: str = CALL_RULE,
    positive: str | None = None,
) -> str:
    """Digest the primary endpoint: "sha256:" and 64 hexadecimal digits; parameters of ``describe_endpoint``."""
    text = json.dumps(describe_endpoint(primary, estimand, aggregation, rule, positive), sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
