"""Reads a Dockerfile into its stages: what is run, copied and set in each, with all that it inherits."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from studies import ROOT

DOCKERFILE = ROOT / "containers/Dockerfile"


@dataclass
class Stage:
    """A stage of a Dockerfile: (instruction, arguments) in order, those of the stages below it first."""

    image: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Arguments of every instruction of a kind."""
        return [arguments for name, arguments in self.steps if name == instruction]


def read_stages(path: Path = DOCKERFILE) -> dict[str, Stage]:
    """Return the stages of a Dockerfile by name."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    stages: dict[str, Stage] = {}
    stage = None
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        instruction, arguments = line.split(maxsplit=1)
        if instruction == "FROM":
            parent, name = re.fullmatch(r"(\S+) AS (\w+)", arguments).groups()
            below = stages.get(parent)
            stage = Stage(below.image, list(below.steps)) if below else Stage(parent)
            stages[name] = stage
        else:
            stage.steps.append((instruction, arguments))
    return stages


def read_targets(path: Path = DOCKERFILE) -> dict[str, Stage]:
    """Return the stages that are images of their own."""
    return {name: stage for name, stage in read_stages(path).items() if name != "base"}
