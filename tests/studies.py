"""Small studies on disk, for tests of what happens between the sample sheet and the predictions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from oncoarena import schema, specs, store
from oncoarena.cohort import BlockSpec, feature_table
from oncoarena.runs import write_splits
from oncoarena.splits import SplitPlan, make_splits

ROOT = Path(__file__).parent.parent
SPEC = BlockSpec("expression", ("sample", "gene"), "float32", "arbitrary", "toy values")


def entered_hypotheses() -> list[specs.HypothesisSpec]:
    """All hypotheses of config/hypotheses/, as a study would read them."""
    known = schema.read_yaml(ROOT / "workflow/schemas/hypothesis.schema.yaml")
    return [specs.read_spec(path, known) for path in sorted((ROOT / "config/hypotheses").glob("*.yaml"))]


@dataclass
class StudyOnDisk:
    """A prepared study: its tables, and where its splits and blocks are."""

    samples: pd.DataFrame
    splits: pd.DataFrame
    values: np.ndarray
    splits_receipt: str
    assay_receipt: str
    folder: Path


def prepare_study(folder: Path, plan: SplitPlan, *, n_patients=24, n_features=20, strength=2.0, seed=0):
    """Write splits and a block of two classes, of which every feature carries ``strength``."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_patients) % 2
    values = rng.normal(size=(n_patients, n_features)) + strength * labels[:, None] / np.sqrt(n_features)
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{row:02d}" for row in range(n_patients)],
            "patient_id": [f"p{row:02d}" for row in range(n_patients)],
            "label": np.where(labels == 1, "cancer", "healthy"),
            "split": np.where(np.arange(n_patients) % 4 < 2, "test", "train"),
            "age": rng.integers(30, 80, n_patients).astype(str),
        }
    )
    splits = make_splits(samples, plan)
    write_splits(samples, splits, ["age"], str(folder / "splits"))
    receipt = write_assay(folder / "blocks", samples, values)
    return StudyOnDisk(samples, splits, values, str(folder / "splits/receipt.json"), receipt, folder)


def write_assay(folder: Path, samples: pd.DataFrame, values: np.ndarray) -> str:
    """Write a block and the receipt of its assay; return the receipt's URI."""
    features = feature_table([f"g{column}" for column in range(values.shape[1])])
    store.write_block(
        str(folder / "expression"),
        SPEC,
        samples["sample_id"].tolist(),
        iter(values.astype(np.float32)),
        features,
        {},
    )
    receipt = folder / "expression.json"
    store.write_json(
        str(receipt),
        {"assay": "expression", "blocks": {"expression": str(folder / "expression/receipt.json")}},
    )
    return str(receipt)
