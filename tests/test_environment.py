"""One list of dependencies, one list of versions, used by every door."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from studies import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared():
    extras = PROJECT["optional-dependencies"].items()
    listed = [("base", text) for text in PROJECT["dependencies"]]
    return listed + [(extra, text) for extra, texts in extras for text in texts]


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        canonicalize_name(item.name): item for item in map(Requirement, filter(lambda x: x.strip(), lines))
    }


@pytest.mark.parametrize(("extra", "text"), declared())
def test_constraints__pin_every_declared_dependency_within_its_range(extra, text):
    wanted = Requirement(text)
    pinned = constraints().get(canonicalize_name(wanted.name))
    assert pinned is not None, f"{wanted.name} of {extra} has no line in constraints.txt"
    (pin,) = pinned.specifier
    assert pin.operator == "=="
    assert wanted.specifier.contains(pin.version), f"{text} excludes the tested version {pin.version}"


def test_constraints__are_what_is_installed_here():
    differing = {}
    for name, item in constraints().items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not item.specifier.contains(found.partition("+")[0]):
            differing[name] = f"{found} is installed, {item.specifier} is tested"
    assert not differing


def test_frameworks__are_the_versions_that_the_project_promises():
    assert str(constraints()["torch"].specifier) == "==2.13.0"
    assert str(constraints()["tensorflow"].specifier).startswith("==2.21.")
    # boto3 beside s3fs makes pip try every release of aiobotocore in turn.
    assert not any(Requirement(text).name in ("boto3", "botocore", "aiobotocore") for _, text in declared())


@pytest.mark.parametrize("path", ["environment.yml", "workflow/envs/oncoarena.yaml"])
def test_conda_environments__have_python_and_pip_and_point_at_the_two_lists(path):
    content = yaml.safe_load((ROOT / path).read_text())
    *conda, pip = content["dependencies"]
    assert [re.split(r"[ <>=]", item)[0] for item in conda] == ["python", "pip"]
    constraint, editable = pip["pip"]
    assert ((ROOT / path).parent / constraint.removeprefix("-c ")).samefile(ROOT / "constraints.txt")
    found = re.fullmatch(r"-e ([./]+)\[([a-z,]+)\]", editable)
    assert ((ROOT / path).parent / found.group(1)).samefile(ROOT)
    assert {"tensorflow", "torch"} <= set(found.group(2).split(",")) <= set(PROJECT["optional-dependencies"])
    assert conda[0].startswith(f"python {PROJECT['requires-python']}")


def test_makefile__installs_from_the_two_lists_only():
    text = (ROOT / "Makefile").read_text()
    installs = re.findall(r"pip install (.*)", text)
    assert installs
    for line in installs:
        assert "-c constraints.txt" in line
        assert re.search(r"-e '\.\[[a-z,]+\]'", line)


def test_import__planning_loads_no_framework():
    code = (
        "import sys, oncoarena.study, oncoarena.preflight, oncoarena.plan, oncoarena.cli, oncoarena.hypotheses;"
        "loaded = {'tensorflow', 'keras', 'torch', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme__names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert "make run" in text
    assert "make test" in text
