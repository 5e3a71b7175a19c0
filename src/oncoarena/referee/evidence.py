"""What a check may look at, and how it words what it found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from oncoarena.cohort import Block
from oncoarena.referee.metrics import METRICS
from oncoarena.referee.outcomes import Outcomes

COMPETING = ("claim", "external", "baseline")
"""Roles that claim to have learned something; controls are what they are measured against."""


@dataclass(frozen=True)
class Evidence:
    """All that a check may look at: the study's tables and the referee's results."""

    samples: pd.DataFrame
    splits: pd.DataFrame
    runs: list[dict]
    classes: tuple[str, ...]
    outcomes: Outcomes
    evaluation: pd.DataFrame
    comparison: pd.DataFrame
    primary: str = "auroc_macro"
    digests: pd.DataFrame | None = None
    """Columns sample_id, digest and, where it is of one block alone, block: a digest of each sample's features."""
    seed: int = 0
    blocks: Mapping[str, Block] | None = None
    """Features, rows in the order of ``samples``."""
    looks: pd.DataFrame | None = None
    """Column config_digest: one row each time the test set was consulted."""
    seed_outcomes: Mapping[int, Outcomes] | None = None
    """The same splits, or those of some repeats, predicted by the same hypotheses with other seeds."""
    endpoint: str = ""
    previous_endpoint: str | None = None
    """Digests of this evaluation's endpoint and of the one under which results exist."""
    sealed_endpoint: Mapping[str, str] | None = None
    """Digest and time (sealed) of the endpoint that was written down before training."""
    run_of: dict[str, dict] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_of", {run["hypothesis"]: run for run in self.runs})

    def competing(self) -> list[str]:
        """Hypotheses that claim to have learned something, of those that were judged."""
        return [
            name
            for name in self.outcomes.hypotheses
            if self.run_of.get(name, {}).get("role", "claim") in COMPETING
            and not self.run_of.get(name, {}).get("permuted_labels", False)
        ]

    def positions(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Rows of the sample sheet, and of the blocks, that hold these samples."""
        known = pd.Index(self.samples["sample_id"].astype(str))
        return known.get_indexer(pd.Index(np.asarray(sample_ids, dtype=object)))

    def row(self, hypothesis: str, metric: str) -> pd.Series:
        """The overall evaluation of one hypothesis in one metric."""
        table = self.evaluation
        chosen = (table["hypothesis"] == hypothesis) & (table["metric"] == metric)
        return table[chosen & (table["stratum"] == "all")].iloc[0]

    def gap(self, a: str, b: str, metric: str) -> tuple[float, float, float]:
        """How much better a is than b: (difference, low, high), positive where a is better."""
        table = self.comparison[self.comparison["metric"] == metric]
        for first, second, sign in ((a, b, 1), (b, a, -1)):
            found = table[(table["hypothesis_a"] == first) & (table["hypothesis_b"] == second)]
            if len(found):
                sign = sign if METRICS[metric].higher_is_better else -sign
                row = found.iloc[0]
                low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
                return sign * row["difference"], low, high
        raise KeyError(f"no comparison of {a} and {b} in {metric}")


Finding = tuple[str, str, str]
"""(hypothesis or "" for the study, outcome, detail)."""


def some(names: Sequence[str], limit: int = 5) -> str:
    """Name the first few and count the rest."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + rest


def interval_text(row: pd.Series) -> str:
    """Word an estimate with its interval."""
    return f"{row['estimate']:.3f}, 95 % interval {row['ci_low']:.3f} to {row['ci_high']:.3f}"
