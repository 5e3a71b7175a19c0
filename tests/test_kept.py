"""What is kept of an object until its shard is done reads back as it was found, block by block."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena import kept
from oncoarena.assays import SampleFeatures
from oncoarena.cohort import feature_table
from oncoarena.errors import InputError

FACTS = {"digest": "sha256:0", "n_bytes": 5, "seconds": 0.1}


def found_in_an_object(lengths):
    rng = np.random.default_rng(len(lengths))
    return {
        f"block{number}": SampleFeatures(
            rng.standard_normal(length).astype(np.float32),
            feature_table([f"f{i}" for i in range(length)]),
            {"n_read": length, "name": "Zürich", "share": float("nan")},
        )
        for number, length in enumerate(lengths)
    }


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4))
@settings(deadline=None, max_examples=25)
def test_kept_values__of_any_block_are_those_that_were_kept(lengths):
    found = found_in_an_object(lengths)
    with tempfile.TemporaryDirectory() as folder:
        summary = kept.keep(folder, "key", found, FACTS)
        assert summary["qc"] == {"n_read": lengths[-1], "name": "Zürich", "share": None}
        # What a later attempt reads of the file is what the first one knew.
        assert kept.kept_before(folder, ["key", "other"]) == {"key": summary}
        for name, block in found.items():
            np.testing.assert_array_equal(kept.kept_values(folder, "key", summary, name), block.values)
            assert kept.kept_features(folder, summary["features"][name]).equals(block.features)


def test_kept_values__of_a_file_that_was_cut_are_refused(tmp_path):
    summary = kept.keep(str(tmp_path), "key", found_in_an_object([30]), FACTS)
    (path,) = tmp_path.glob("*.values")
    Path(path).write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"key\.values: ends before byte"):
        kept.kept_values(str(tmp_path), "key", summary, "block0")
