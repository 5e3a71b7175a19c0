"""What a hypothesis says of why: how much each feature of a sample speaks for a class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Attribution:
    """Contributions of the features of some samples to the score of one class.

    The score is the class's logit before calibration, less the mean logit of all classes (log-odds against the
    geometric mean); with two classes half the log-odds. A feature's contribution is in the same unit.
    """

    score: np.ndarray
    """(n_samples,) the score that is explained."""
    baseline: np.ndarray
    """(n_samples,) the score at the reference to which features are compared, as a rule the training mean."""
    contributions: Mapping[str, np.ndarray]
    """Name of a block to (n_samples, n_features) float32, in the order of the block's own features."""
    method: str
    """How they were computed, in words for the report: "weights", "integrated gradients", ..."""
    exact: bool
    """Whether the contributions of a sample, over all blocks, sum to its score less its baseline."""
