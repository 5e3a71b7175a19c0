"""What containers/Dockerfile promises, read from its text: no docker is needed, and none was at hand."""

import re
import shlex
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from dockerfile import read_targets
from oncoarena import __version__, resources, specs
from studies import ROOT, entered_hypotheses

TARGETS = read_targets()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def installs(target):
    """What each `pip install` of a target is told."""
    commands = [part for text in TARGETS[target].all("RUN") for part in text.split("&&")]
    return [shlex.split(text)[2:] for text in commands if re.match(r"\s*(python -m )?pip install", text)]


def packages(target):
    """Requirements that a target installs, its extras of oncoarena as (".", extras)."""
    return [item for words in installs(target) for item in words if item not in ("-c", "constraints.txt")]


@pytest.mark.parametrize("spec", entered_hypotheses(), ids=lambda spec: spec.id)
def test_targets__each_hypothesis_has_one_that_brings_its_framework(spec):
    image = resources.training_need(spec).image
    assert image in TARGETS
    extras = {extra for text in packages(image) for extra in re.findall(r"\w+", text.partition("[")[2])}
    if spec.training.framework in ("tensorflow", "torch"):
        assert spec.training.framework in extras
    elif spec.resources.gpu:
        assert "cuda" in extras


def test_targets__are_those_that_jobs_ask_for():
    asked = {resources.Need().image, "cuda"} | (set(specs.FRAMEWORKS) - {"numpy", "sklearn"})
    assert set(TARGETS) == asked


@pytest.mark.parametrize("target", TARGETS)
def test_install__obeys_the_constraints_and_asks_for_nothing_undeclared(target):
    assert installs(target)
    declared = {text.partition("==")[0] for texts in EXTRAS.values() for text in texts}
    for words in installs(target):
        assert words[:2] == ["-c", "constraints.txt"]
        assert words[2].startswith(".[")
        assert {"aws"} <= set(words[2][2:-1].split(",")) <= set(EXTRAS)
        assert set(words[3:]) <= declared
        assert not any(Requirement(text).specifier for text in words[3:]), "versions are in constraints.txt"


def test_targets__never_hold_two_builds_of_cuda_libraries():
    for target in TARGETS:
        text = " ".join(packages(target))
        assert ("tensorflow" in text) + ("torch" in text) + ("numba-cuda" in text) <= 1


@pytest.mark.parametrize("target", TARGETS)
def test_image__runs_snakemake_as_an_ordinary_user(target):
    stage = TARGETS[target]
    assert re.fullmatch(r"python:3\.1[123]-slim", stage.image)
    names = [name for name, _ in stage.steps]
    assert stage.all("USER") == ["oncoarena"]
    # The last steps, as the user that jobs have: what jobs import is there, and pip finds no conflict.
    checks = stage.all("RUN")[-1]
    assert names.index("USER") < len(names) - 1 - names[::-1].index("RUN")
    assert "pip check" in checks
    assert re.search(r'python -c "import oncoarena, snakemake_storage_plugin_s3', checks)
    assert "python -m snakemake --version" in checks
    assert stage.all("CMD") == ['["bash"]']
    assert not stage.all("ENTRYPOINT"), "Batch gives the whole command"
    assert "PYTHONDONTWRITEBYTECODE=1" in stage.all("ENV")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_image__holds_only_what_is_copied_by_name(target):
    copied = [word for text in TARGETS[target].all("COPY") for word in text.split()[:-1]]
    assert {"pyproject.toml", "constraints.txt", "src"} <= set(copied)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)
    assert not TARGETS[target].all("ADD")


def workflow(name):
    # YAML reads the key `on` as True.
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())


def test_workflow__builds_every_target_and_pushes_tags_only():
    job = workflow("containers")["jobs"]["build"]
    assert job["strategy"]["matrix"]["target"] == list(TARGETS)
    steps = {step.get("name", step.get("uses")): step for step in job["steps"]}
    assert "--file containers/Dockerfile --target ${{ matrix.target }}" in steps["Build"]["run"]
    for name in ("aws-actions/configure-aws-credentials@v4", "Push"):
        assert steps[name]["if"] == "github.ref_type == 'tag'"
    # The tag that `oncoarena aws init` gives to the job definitions.
    assert "$TARGET-$GITHUB_REF_NAME" in steps["Push"]["run"]
    assert f'__version__ = "{__version__}"' in (ROOT / "src/oncoarena/__init__.py").read_text().splitlines()
    assert "aws-access-key-id" not in (ROOT / ".github/workflows/containers.yml").read_text()


def test_workflow__ci_runs_what_a_developer_runs():
    steps = workflow("ci")["jobs"]["test"]["steps"]
    assert {"run": ".ci/run"} in steps
