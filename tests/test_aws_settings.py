"""config/aws.yaml and the variables that overrule it: what is missing or wrong is one line that says what to do."""

import pytest
import yaml

from oncoarena.aws.settings import VARIABLES, active, read_settings
from oncoarena.errors import InputError
from studies import ROOT

FILLED = {
    "region": "eu-central-1",
    "results": "s3://onco-results/team",
    "raw_buckets": ["onco-raw"],
    "queues": {"memory": "m", "gpu": "g", "small": "s"},
    "job_definitions": {"cpu": "c", "tensorflow": "tf", "torch": "t", "cuda": "u:3"},
}


@pytest.fixture
def read(tmp_path):
    def read(environ=None, **changes):
        path = tmp_path / "aws.yaml"
        path.write_text(yaml.safe_dump(FILLED | changes))
        return read_settings(path, environ or {}, schemas=ROOT / "workflow/schemas")

    return read


def test_read_settings__file_alone_says_all(read):
    settings = read()
    assert settings.results == "s3://onco-results/team"
    assert settings.results_bucket == "onco-results"
    assert settings.allowed_regions == ("eu-central-1",)
    assert settings.queues == {"memory": "m", "gpu": "g", "small": "s"}
    assert settings.job_definitions["cuda"] == "u:3"


def test_read_settings__environment_overrules_the_file_key_by_key(read):
    environ = {variable: f"v{number}" for number, variable in enumerate(VARIABLES.values())}
    environ |= {"ONCOARENA_REGION": "eu-west-1", "ONCOARENA_RESULTS": "s3://mine/"}
    settings = read(environ)
    assert (settings.region, settings.results) == ("eu-west-1", "s3://mine")
    assert settings.queues == {"memory": "v2", "gpu": "v3", "small": "v4"}
    assert settings.job_definitions == {"cpu": "v5", "tensorflow": "v6", "torch": "v7", "cuda": "v8"}
    assert settings.raw_buckets == ("onco-raw",)
    assert read_settings(None, environ, schemas=ROOT / "workflow/schemas").queues == settings.queues
    assert read({"ONCOARENA_QUEUE_GPU": ""}).queues["gpu"] == "g"


def test_read_settings__shipped_file_names_every_key_variable_and_the_command():
    with pytest.raises(InputError) as caught:
        read_settings(ROOT / "config/aws.yaml", {}, schemas=ROOT / "workflow/schemas")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(VARIABLES)
    for line, (key, variable) in zip(lines, VARIABLES.items(), strict=True):
        assert f"{key} is empty" in line
        assert f"export {variable}=" in line
        assert "oncoarena aws init" in line
        assert variable in (ROOT / "config/aws.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"regoin": "x"}, r"unknown key 'regoin'; did you mean 'region'\?"),
        (
            {"queues": {**FILLED["queues"], "gpus": "x"}},
            r"unknown key 'gpus' in queues; did you mean 'gpu'\?",
        ),
        ({"job_definitions": {**FILLED["job_definitions"], "pytorch": "x"}}, r"did you mean 'torch'\?"),
        ({"queues": ["m"]}, r"queues: found \['m'\], expected a mapping"),
        ({"raw_buckets": "onco-raw"}, r"raw_buckets: found 'onco-raw', expected a list"),
        (
            {"raw_buckets": ["s3://onco-raw"]},
            r"found 's3://onco-raw', expected the name of a bucket, without s3://",
        ),
        ({"results": "onco-results"}, r"results: found 'onco-results', expected s3://bucket/prefix"),
        ({"results": "s3://Onco_Results/x"}, r"expected s3://bucket/prefix"),
        ({"results": None}, r"results is empty; run: oncoarena aws init   or: export ONCOARENA_RESULTS="),
        ({"region": "Frankfurt"}, r"region: found 'Frankfurt', expected a region such as eu-central-1"),
        ({"allowed_regions": ["eu"], "region": "eu"}, r"found 'eu', expected a region"),
        (
            {"allowed_regions": ["eu-west-1"]},
            r"region: eu-central-1 is not among allowed_regions \(eu-west-1\)",
        ),
    ],
)
def test_read_settings__mistake_in_the_file_is_told(read, changes, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        read(**changes)
    assert "aws.yaml" in str(caught.value)


def test_read_settings__mistake_in_a_variable_names_the_variable(read):
    with pytest.raises(
        InputError, match=r"^ONCOARENA_RESULTS: found 'bucket/x', expected s3://bucket/prefix$"
    ):
        read({"ONCOARENA_RESULTS": "bucket/x"})


def test_active__profile_says_so():
    assert active({"ONCOARENA_AWS": "1"})
    assert not active({})
