"""What a result came from: digests of the code that decides it, versions, the machine."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from functools import cache
from pathlib import Path

PACKAGES = ("oncoarena", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "dask", "snakemake")
FRAMEWORK_PACKAGES = {
    "numpy": ("numpy", "numba"),
    "sklearn": ("scikit-learn",),
    "tensorflow": ("tensorflow", "keras", "ydf"),
    "torch": ("torch",),
}


def module_file(module: str) -> Path:
    """Find the source file of ``package.module`` or of a path ending in .py, without importing it.

    Raises FileNotFoundError if there is none.
    """
    if module.endswith(".py"):
        return Path(module).resolve(strict=True)
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise FileNotFoundError(module)
    if not spec.submodule_search_locations:
        if rest or spec.origin is None:
            raise FileNotFoundError(module)
        return Path(spec.origin)
    for location in spec.submodule_search_locations:
        base = Path(location, *rest)
        for candidate in (base.with_name(base.name + ".py"), base / "__init__.py"):
            if (rest and candidate.is_file()) or (candidate.name == "__init__.py" and candidate.is_file()):
                return candidate
    raise FileNotFoundError(module)


@cache
def code_digest(*modules: str) -> str:
    """Return the SHA-256 over modules and all that they import from their own package or folder.

    Snakemake sees edits to a rule's script, not to what the script imports: rules carry this digest among
    their params, so that an edit re-runs exactly what depends on it. Found by reading the import
    statements, never by importing.
    """
    found: dict[str, Path] = {}
    for module in modules:
        collect_imports(module_file(module), found)
    total = hashlib.sha256()
    for name in sorted(found):
        total.update(name.encode() + b"\0" + hashlib.sha256(found[name].read_bytes()).digest())
    return "sha256:" + total.hexdigest()


def package_digest() -> str:
    """Return the SHA-256 over all modules of oncoarena: equal where the same code is installed."""
    root = Path(__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return "sha256:" + total.hexdigest()


def collect_imports(path: Path, found: dict[str, Path]) -> None:
    """Add a source file, and all that it imports from its own package or folder, to ``found``, by name."""
    root = _import_root(path)
    name = path.relative_to(root).as_posix()
    if name in found:
        return
    found[name] = path
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            imported = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = list(package[: len(package) - node.level + 1]) if node.level else []
            base = above + (node.module.split(".") if node.module else [])
            # "from a.b import c" may name a module a/b/c.py or a member of a/b.py.
            imported = [base, *([*base, alias.name] for alias in node.names)]
        else:
            continue
        for parts in imported:
            candidate = Path(root, *parts).with_suffix(".py") if parts else None
            if candidate is not None and candidate.is_file():
                collect_imports(candidate, found)


def _import_root(path: Path) -> Path:
    """The folder from which ``path`` is imported: above the outermost package that holds it."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return root


def versions(framework: str | None = None) -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result; nothing is imported."""
    names = PACKAGES + FRAMEWORK_PACKAGES.get(framework or "", ())
    found = {"python": platform.python_version()}
    for name in dict.fromkeys(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def framework_versions(framework: str) -> dict[str, str]:
    """Return public versions of a framework's packages; a build tag such as +cpu is left out."""
    found = versions(framework)
    return {name: found[name].partition("+")[0] for name in FRAMEWORK_PACKAGES[framework]}


def hardware() -> dict[str, str | int]:
    """Describe this machine: processor, cores that the process may use, memory in MB, system."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.machine()}",
        "executable": Path(sys.executable).name,
    }
