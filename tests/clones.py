"""A copy of what a clone of the repository holds, and Snakemake run in it as a user does."""

import os
import shutil
import subprocess
import sys

from studies import ROOT

PARTS = ("Snakefile", "workflow", "config", "src", "pyproject.toml")


def copy_clone(folder):
    """Copy the repository's own files into a folder and return it."""
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def run_snakemake(folder, *arguments, configfile, cores=2):
    """Run Snakemake in a clone, with its code and a cache of its own; return the ended process."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "XDG_CACHE_HOME": str(folder / ".cache")}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, "--cores", str(cores), "--configfile", configfile],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
