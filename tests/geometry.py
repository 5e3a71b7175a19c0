"""Distances, for tests of what is drawn."""

import numpy as np


def distance_to_segment(point: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Distance of a point (2,) from the line between a and b."""
    along = b - a
    share = np.clip((point - a) @ along / max(along @ along, 1e-12), 0, 1)
    return float(np.hypot(*(point - a - share * along)))
