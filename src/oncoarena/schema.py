"""Closed schemas: what a user wrote, checked, with messages that say where and what instead."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from oncoarena.errors import InputError

_KINDS = {list: "a list", str: "text", bool: "true or false"}


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, where the second would silently win."""


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.MarkedYAMLError(
                problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def read_yaml(path: Path) -> Any:
    """Read a YAML file; raise InputError naming line and column where it is not YAML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{path}: {place}{error.problem}; correct the YAML") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML ({error})") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of ``key: value`` lines; raise InputError where it holds anything else, or nothing."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        found = "is empty" if content is None else f"holds {_KINDS.get(type(content), 'a single value')}"
        raise InputError(f"{path}: {found}, expected a mapping (key: value lines); see config/README.md")
    return content


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean X?' and the legal words, for the end of a message."""
    known = sorted(known)
    # Capitals are the commonest slip, and to difflib `Age` is as far from `age` as `are` is.
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(str(word).casefold(), folded, n=1)
    hint = f"; did you mean {folded[close[0]]!r}?" if close else ""
    return f"{hint} (legal: {', '.join(known) or 'none'})"


def check(content: Any, schema: dict[str, Any], where: str) -> None:
    """Check content against a JSON schema; raise InputError with a line for every problem."""
    validator = jsonschema.Draft202012Validator(schema)
    problems = sorted(validator.iter_errors(content), key=lambda error: list(map(str, error.absolute_path)))
    if problems:
        raise InputError("\n".join(line for error in problems for line in _explain(error, where)))


def _explain(error: jsonschema.ValidationError, where: str) -> list[str]:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    key = key.removeprefix(".")
    place = f"{where}: {key}" if key else where
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        inside = f" in {key}" if key else ""
        return [
            f"{where}: unknown key {name!r}{inside}{suggestion(name, known)}"
            for name in error.instance
            if name not in known
        ]
    if error.validator == "required":
        absent = [name for name in error.validator_value if name not in error.instance]
        return [f"{place}: key {name!r} is missing; add it (see config/README.md)" for name in absent[:1]]
    if error.validator == "enum":
        return [
            f"{place}: found {error.instance!r}{suggestion(error.instance, map(str, error.validator_value))}"
        ]
    if error.validator == "type":
        return [f"{place}: found {error.instance!r}, expected {_type_name(error.validator_value)}"]
    if error.validator in ("minimum", "maximum"):
        bound = "at least" if error.validator == "minimum" else "at most"
        return [f"{place}: found {error.instance!r}, expected {bound} {error.validator_value}"]
    if error.validator == "pattern":
        return [f"{place}: found {error.instance!r}, expected a name that matches {error.validator_value}"]
    if error.validator == "uniqueItems":
        return [f"{place}: an entry is listed twice in {error.instance!r}; remove one"]
    if error.validator in ("minItems", "minProperties", "minLength"):
        return [f"{place}: is empty, expected at least {error.validator_value} entry"]
    return [f"{place}: {error.message}"]


def _type_name(names: str | list[str]) -> str:
    words = {
        "object": "a mapping (key: value lines)",
        "array": "a list",
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
    }
    names = [names] if isinstance(names, str) else names
    return " or ".join(words.get(name, name) for name in names)
