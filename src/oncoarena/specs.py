"""What a hypothesis declares, read without importing it, so that planning never loads a framework."""

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from oncoarena import provenance, schema
from oncoarena.errors import InputError

FRAMEWORKS = ("numpy", "sklearn", "tensorflow", "torch")


@dataclass(frozen=True)
class Resources:
    """What one training job asks of its machine."""

    threads: int = 1
    mem_mb: int = 4000
    gpu: int = 0
    runtime: int = 120
    """Minutes."""


@dataclass(frozen=True)
class TrainingSpec:
    """What decides a hypothesis's result: a change of any field trains it again."""

    id: str
    module: str
    """Dotted name, or a path ending in .py."""
    framework: str
    blocks: tuple[str, ...] | None = None
    """Names of the blocks it sees; None means all that the study has."""
    sets: tuple[str, ...] = ()
    """Names of the sets (see ``BlockSpec.is_set``) that it sees beside features, where the study has them."""
    config: dict[str, Any] = field(default_factory=dict)
    """Overrides of the defaults of the module's Config."""
    file_keys: tuple[str, ...] = ()
    """Keys of the config that name a file (path or URI) to read while training."""
    permute_labels: bool = False
    precision: str = "float32"
    """Of the layers of TensorFlow and PyTorch while training: "float32" or "mixed", see compute.training_scope."""

    def sees(self, block: str, is_set: bool) -> bool:
        """Tell whether it sees a block of the study."""
        return (not is_set or block in self.sets) and (self.blocks is None or block in self.blocks)

    def files(self) -> dict[str, str]:
        """Files that it reads beside the blocks, by the key of the config that names them."""
        return {key: self.config[key] for key in self.file_keys if self.config.get(key)}


@dataclass(frozen=True)
class HypothesisSpec:
    """A hypothesis as entered in a study: its YAML and the literals of its module."""

    training: TrainingSpec
    title: str
    role: str
    resources: Resources
    claim: str
    """The module's docstring."""

    @property
    def id(self) -> str:
        return self.training.id


def read_spec(path: Path, hypothesis_schema: dict[str, Any]) -> HypothesisSpec:
    """Read ``config/hypotheses/<id>.yaml`` and the literals of the module it names.

    Raises InputError if the YAML breaks the schema, the module does not exist, is not Python, lacks
    FRAMEWORK, BLOCKS or Config, or the YAML overrides what Config does not have.
    """
    content = schema.read_yaml(path)
    schema.check(content, hypothesis_schema, str(path))
    try:
        file = provenance.module_file(content["module"])
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: module {content['module']!r} was not found; expected a dotted name that Python can "
            "import or the path of a .py file"
        ) from error
    literals = read_literals(file)
    unknown = sorted(set(content.get("config", {})) - set(literals.config_fields))
    if unknown:
        raise InputError(
            f"{path}: config: unknown key {unknown[0]!r}"
            f"{schema.suggestion(unknown[0], literals.config_fields)}; {file.name} defines them in its Config"
        )
    for key in literals.files:
        uri = content.get("config", {}).get(key, "")
        if not isinstance(uri, str):
            raise InputError(f"{path}: config: {key} is {uri!r}; expected the path or URI of a file")
    blocks = content.get("blocks")
    if blocks is None and literals.blocks != "all":
        blocks = literals.blocks
    # Written among the resources, but part of what decides the result.
    resources = {"precision": "float32"} | content.get("resources", {})
    precision = resources.pop("precision")
    if precision == "mixed" and literals.framework not in ("tensorflow", "torch"):
        raise InputError(
            f"{path}: resources: precision: mixed is for tensorflow and torch; {file.name} uses {literals.framework}; "
            "remove the key"
        )
    return HypothesisSpec(
        training=TrainingSpec(
            id=path.stem,
            module=content["module"],
            framework=literals.framework,
            blocks=tuple(blocks) if blocks is not None else None,
            sets=literals.sets,
            config=dict(content.get("config", {})),
            file_keys=literals.files,
            permute_labels=content.get("permute_labels", False),
            precision=precision,
        ),
        title=content["title"],
        role=content.get("role", "claim"),
        resources=Resources(**resources),
        claim=literals.docstring,
    )


@dataclass(frozen=True)
class Literals:
    """What the source of a hypothesis says of itself."""

    docstring: str
    framework: str
    blocks: str | tuple[str, ...]
    sets: tuple[str, ...]
    files: tuple[str, ...]
    config_fields: tuple[str, ...]


def read_literals(file: Path) -> Literals:
    """Read docstring, FRAMEWORK, BLOCKS, SETS, FILES and the fields of Config from source, without importing it."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise InputError(f"{file}: line {error.lineno}: is not Python: {error.msg}") from error
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("FRAMEWORK", "BLOCKS", "SETS", "FILES"):
                try:
                    values[name] = ast.literal_eval(node.value)
                except ValueError as error:
                    raise InputError(
                        f"{file}: line {node.lineno}: {name} must be a literal, so that planning can read it "
                        "without importing the file"
                    ) from error
    config_fields = _class_fields(tree, "Config")
    if values.get("FRAMEWORK") not in FRAMEWORKS:
        raise InputError(
            f'{file}: FRAMEWORK is {values.get("FRAMEWORK")!r}; expected a line such as FRAMEWORK = "numpy"'
            f"{schema.suggestion(values.get('FRAMEWORK'), FRAMEWORKS)}"
        )
    blocks, sets, files = values.get("BLOCKS"), values.get("SETS", ()), values.get("FILES", ())
    if blocks != "all" and not _is_names(blocks):
        raise InputError(
            f'{file}: BLOCKS is {blocks!r}; expected BLOCKS = "all" or a tuple of block names such as '
            '("expression",)'
        )
    if not _is_names(sets):
        raise InputError(f'{file}: SETS is {sets!r}; expected a tuple of names such as ("mutation_tokens",)')
    if config_fields is None:
        raise InputError(f"{file}: has no class Config; expected a frozen dataclass of its hyper-parameters")
    if not _is_names(files) or not set(files) <= set(config_fields):
        raise InputError(
            f'{file}: FILES is {files!r}; expected a tuple of keys of its Config that name a file, such as ("gmt",)'
        )
    return Literals(ast.get_docstring(tree) or "", values["FRAMEWORK"], blocks, sets, files, config_fields)


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _class_fields(tree: ast.Module, name: str) -> tuple[str, ...] | None:
    """Names of the annotated fields of a class and of those it inherits; None if there is no such class."""
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        return None
    inherited = [
        _class_fields(*_definition(tree, base.id)) or () for base in found.bases if isinstance(base, ast.Name)
    ]
    own = [
        item.target.id
        for item in found.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    return tuple(dict.fromkeys([*(name for names in inherited for name in names), *own]))


def _definition(tree: ast.Module, name: str) -> tuple[ast.Module, str]:
    """Where a class is defined: the module that it is imported from, or this one."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return ast.parse(provenance.module_file(node.module).read_bytes()), alias.name
    return tree, name


def load_module(spec: TrainingSpec) -> ModuleType:
    """Import a hypothesis's module, by name or from its path."""
    if not spec.module.endswith(".py"):
        return importlib.import_module(spec.module)
    file = provenance.module_file(spec.module)
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))  # so that it may import its neighbours
    found = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(found)
    sys.modules[file.stem] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


def spec_from_dict(content: dict[str, Any]) -> TrainingSpec:
    """Rebuild a spec from ``dataclasses.asdict``, as it is passed to a training process."""
    blocks = tuple(content["blocks"]) if content["blocks"] is not None else None
    names = {key: tuple(content[key]) for key in ("sets", "file_keys")}
    return TrainingSpec(**{**content, "blocks": blocks, **names})
