"""Write a working hypothesis to start from: one file for the claim, one line of YAML to enter it."""

import keyword
import re
import string
from pathlib import Path

from oncoarena import schema, store
from oncoarena.errors import InputError


def new_hypothesis(name: str, root: Path) -> list[Path]:
    """Write a working hypothesis to start from, and its entry, into a clone; return both paths.

    Raises InputError if a config or Python could not use the name, if it is taken, or ``root`` is no clone.
    """
    module = root / "src/oncoarena/hypotheses" / f"{name}.py"
    entry = root / "config/hypotheses" / f"{name}.yaml"
    if not module.parent.is_dir() or not entry.parent.is_dir():
        raise InputError(f"{root.resolve()}: is not a clone of oncoarena; run this at the top of your clone")
    _check_name(name, root / "workflow/schemas/config.schema.yaml")
    for path in (module, entry):
        if path.exists():
            raise InputError(f"{path}: is there already; choose another name")
    title = name.replace("_", " ").capitalize()
    templates = Path(__file__).parent / "templates"
    for path, template in ((module, "hypothesis.py.txt"), (entry, "hypothesis.yaml.txt")):
        text = string.Template((templates / template).read_text(encoding="utf-8"))
        store.write_text(str(path), text.substitute(title=title, name=name))
    return [module, entry]


def _check_name(name: str, config_schema: Path) -> None:
    """Raise InputError unless a config may list the name under ``hypotheses`` and Python may import it."""
    legal = schema.read_yaml(config_schema)["properties"]["hypotheses"]["items"]
    if not re.fullmatch(legal["pattern"], name):
        reason = "is not a lower-case name of letters a to z, digits and _, beginning with a letter"
    elif len(name) > legal["maxLength"]:
        reason = f"has {len(name)} letters, expected at most {legal['maxLength']}"
    elif keyword.iskeyword(name):
        reason = "is a word of Python's own"
    else:
        return
    raise InputError(f"{name!r} {reason}; choose another, such as enhancer_burden")
