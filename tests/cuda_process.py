"""Code in a process of its own, with or without numba's CUDA simulator: that is decided when numba is imported."""

import os
import subprocess
import sys
from pathlib import Path


def in_a_process(code, *arguments, simulator):
    """Run code, which may import what the tests import, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={
            **os.environ,
            "NUMBA_ENABLE_CUDASIM": "1" if simulator else "0",
            "PYTHONPATH": str(Path(__file__).parent),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
