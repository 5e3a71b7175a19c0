"""Digests of code: an edit re-runs exactly what depends on it."""

import textwrap

import pytest

from oncoarena import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    files = {
        "lab/__init__.py": "",
        "lab/base.py": "BASE = 1\n",
        "lab/middle.py": "from lab import base\nfrom .deep.inner import x\n",
        "lab/deep/__init__.py": "",
        "lab/deep/inner.py": "x = 1\n",
        "lab/idea.py": "import lab.middle\nimport json\n",
        "lab/other.py": "y = 2\n",
        "alone.py": "import neighbour\n",
        "neighbour.py": "z = 3\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def digest_after(path, *modules, text="changed = True\n"):
    provenance.code_digest.cache_clear()
    before = provenance.code_digest(*modules)
    original = path.read_text()
    path.write_text(original + text)
    provenance.code_digest.cache_clear()
    after = provenance.code_digest(*modules)
    path.write_text(original)
    return before, after


@pytest.mark.parametrize("name", ["lab/idea.py", "lab/middle.py", "lab/base.py", "lab/deep/inner.py"])
def test_code_digest__changes_with_every_module_that_is_imported(package, name):
    before, after = digest_after(package / name, "lab.idea")
    assert before != after


def test_code_digest__does_not_change_with_what_is_not_imported(package):
    before, after = digest_after(package / "lab/other.py", "lab.idea")
    assert before == after


def test_code_digest__follows_the_neighbours_of_a_file(package):
    before, after = digest_after(package / "neighbour.py", str(package / "alone.py"))
    assert before != after


def test_code_digest__does_not_depend_on_where_the_clone_is(package, tmp_path_factory):
    copy = tmp_path_factory.mktemp("elsewhere") / "alone.py"
    copy.write_text((package / "alone.py").read_text())
    (copy.parent / "neighbour.py").write_text((package / "neighbour.py").read_text())
    assert provenance.code_digest(str(package / "alone.py")) == provenance.code_digest(str(copy))


def test_module_file__finds_without_importing(package):
    (package / "lab/explosive.py").write_text("raise RuntimeError('imported')\n")
    assert provenance.module_file("lab.explosive") == package / "lab/explosive.py"
    assert provenance.module_file("lab.deep") == package / "lab/deep/__init__.py"
    with pytest.raises(FileNotFoundError):
        provenance.module_file("lab.nothing")


def test_framework_versions__leave_the_build_tag_out():
    assert provenance.framework_versions("torch") == {"torch": "2.13.0"}
