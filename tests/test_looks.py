"""The log of looks at the test samples only grows, and tells configurations apart."""

import pytest

from oncoarena.looks import COLUMNS, configuration_digest, record_look

RUN = {
    "hypothesis": "l2_logistic",
    "code_digest": "sha256:1",
    "config": {"c": 1},
    "seed": 1,
    "digests": {"splits": "sha256:2", "blocks": {"expression": "sha256:3"}},
    "seconds": 3.5,
    "title": "L2",
}


def test_record_look__every_look_is_a_line_and_none_is_lost(tmp_path):
    first = record_look(str(tmp_path), [RUN], "endpoint-1")
    second = record_look(str(tmp_path), [RUN, {"hypothesis": "external"}], "endpoint-2")
    assert list(first.columns) == list(COLUMNS)
    assert second["endpoint"].tolist() == ["endpoint-1", "endpoint-2"]
    assert second["hypotheses"].tolist() == ["l2_logistic", "l2_logistic,external"]
    assert second.iloc[0].equals(first.iloc[0])
    assert len((tmp_path / "looks.tsv").read_text().splitlines()) == 3


def test_configuration_digest__does_not_change_with_cost_or_title():
    assert configuration_digest([RUN]) == configuration_digest([{**RUN, "seconds": 9.0, "title": "other"}])


@pytest.mark.parametrize(
    "change",
    [
        {"code_digest": "sha256:9"},
        {"config": {"c": 2}},
        {"seed": 2},
        {"digests": {}},
        {"hypothesis": "other"},
    ],
)
def test_configuration_digest__changes_with_what_decides_predictions(change):
    assert configuration_digest([RUN]) != configuration_digest([{**RUN, **change}])
