"""Lists for the findings: which features move the logits most, and for which class they speak."""

import numpy as np


def list_markers(
    influence: np.ndarray, names: np.ndarray, classes: tuple[str, ...], n_most: int
) -> list[dict]:
    """List the features that move the logits most.

    ``influence`` (n_features, n_classes) is what a feature adds to the logits, over those of the mean class: by one
    standard deviation more of it, or on average over samples. Returns at most ``n_most`` features, strongest first,
    with the class each speaks for and its share of the whole influence.
    """
    size = np.linalg.norm(influence, axis=1)
    order = np.argsort(-size, kind="stable")[:n_most]
    return [
        {
            "feature": str(names[j]),
            "high_in": classes[int(influence[j].argmax())],
            "weight": float(size[j] / size.sum()),
        }
        for j in order
        if size[j] > 0
    ]
