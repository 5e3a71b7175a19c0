"""Tables of the page that count samples and patients."""

import pandas as pd

from judged import make_study
from oncoarena.reporting import datatable


def test_class_table__counts_each_sample_once_however_often_it_plays_a_role():
    study = make_study(classes=("a", "b"), n_test=4)
    splits = pd.concat([study["splits"], study["splits"].assign(fold=1)], ignore_index=True)
    splits.loc[0, "role"] = "train"
    study["samples"]["patient_id"] = [f"p{i // 4}" for i in range(16)]
    table = datatable.class_table(study["samples"], splits, ["a", "b", "c"])
    assert table.headings == ["Class", "Samples", "Patients", "Ever in train", "Ever in test"]
    assert table.rows == [["a", "8", "4", "7", "2"], ["b", "8", "4", "6", "2"], ["c", "0", "0", "0", "0"]]
