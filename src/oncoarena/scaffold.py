"""Write a working hypothesis to start from: one file for the claim, one line of YAML to enter it."""

import string
from pathlib import Path

from oncoarena import store
from oncoarena.errors import InputError


def new_hypothesis(name: str, root: Path) -> list[Path]:
    """Write a working hypothesis to start from, and its entry, into a clone; return both paths.

    Raises InputError if the name is not a lower-case Python name, is taken, or ``root`` is no clone.
    """
    if not (name.isidentifier() and name == name.lower()):
        raise InputError(f"{name!r} is not a lower-case Python name such as enhancer_burden; choose another")
    module = root / "src/oncoarena/hypotheses" / f"{name}.py"
    entry = root / "config/hypotheses" / f"{name}.yaml"
    if not module.parent.is_dir() or not entry.parent.is_dir():
        raise InputError(f"{root.resolve()}: is not a clone of oncoarena; run this at the top of your clone")
    for path in (module, entry):
        if path.exists():
            raise InputError(f"{path}: is there already; choose another name")
    title = name.replace("_", " ").capitalize()
    templates = Path(__file__).parent / "templates"
    for path, template in ((module, "hypothesis.py.txt"), (entry, "hypothesis.yaml.txt")):
        text = string.Template((templates / template).read_text(encoding="utf-8"))
        store.write_text(str(path), text.substitute(title=title, name=name))
    return [module, entry]
