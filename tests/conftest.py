"""Fixtures that several test files ask for by name."""

import os

import pytest

from conformance import shared_fits
from oncoarena import compute

# TensorFlow reads this when it is first imported, maybe by a test file that is collected before the conformance
# suite; a model must then predict here what it predicts in a process of its own.
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
os.environ[ONEDNN] = compute.training_environment("tensorflow", threads=1, gpu=0)[ONEDNN]

# What its asserts compared is then shown, as in test files.
pytest.register_assert_rewrite("expression_tables")


@pytest.fixture(scope="module")
def fitted():
    """Hypotheses fitted with their defaults; the environment that a framework wants ends with the file."""
    environment = dict(os.environ)
    yield shared_fits()
    os.environ.clear()
    os.environ.update(environment)
