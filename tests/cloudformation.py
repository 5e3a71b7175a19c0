"""Resolves a CloudFormation template as AWS would, and decides what a policy lets its holder do."""

import copy
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

from cfnlint.decode.cfn_yaml import load

REGION = "eu-central-1"
ACCOUNT = "111122223333"
PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "oncoarena",
    "AWS::NoValue": None,
}
ARNS = {
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::Batch::JobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{{name}}",
}


def read_template(path: Path) -> dict:
    """Read a template, its short forms (!Ref) written out, as plain dictionaries."""
    return json.loads(json.dumps(load(str(path))))


class Stack:
    """A template with values for its parameters: resources whose condition fails are left out."""

    def __init__(self, template: dict, **given):
        self.template = copy.deepcopy(template)
        self.parameters = {}
        for name, spec in self.template["Parameters"].items():
            value = given.get(name, spec.get("Default"))
            is_text = spec["Type"] == "CommaDelimitedList" and isinstance(value, str)
            self.parameters[name] = value.split(",") if is_text else value
        self.resources = {
            name: self._resolve(item)
            for name, item in self.template["Resources"].items()
            if "Condition" not in item or self._holds(item["Condition"])
        }
        self.outputs = {
            name: self._resolve(item)["Value"]
            for name, item in self.template["Outputs"].items()
            if "Condition" not in item or self._holds(item["Condition"])
        }

    def of(self, kind: str) -> dict[str, dict]:
        """Properties of every resource of a type, by logical name."""
        return {
            name: item.get("Properties", {}) for name, item in self.resources.items() if item["Type"] == kind
        }

    def ref(self, name: str) -> object:
        """Value of !Ref."""
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        kind = self.template["Resources"][name]["Type"]
        if kind in ("AWS::IAM::ManagedPolicy", "AWS::Batch::JobQueue"):
            return self.arn(name)
        return f"oncoarena-{name.lower()}"

    def arn(self, name: str) -> str:
        """Value of !GetAtt NAME.Arn."""
        kind = self.template["Resources"][name]["Type"]
        return ARNS.get(kind, f"arn:aws:{kind.split('::')[1].lower()}:::{{name}}").format(
            name=f"oncoarena-{name.lower()}"
        )

    def _holds(self, condition: object) -> bool:
        if isinstance(condition, str):
            return self._holds(self.template["Conditions"][condition])
        ((function, value),) = condition.items()
        if function == "Condition":
            return self._holds(value)
        if function == "Fn::Equals":
            first, second = map(self._resolve, value)
            return first == second
        return {"Fn::Not": lambda parts: not parts[0], "Fn::Or": any, "Fn::And": all}[function](
            [self._holds(part) for part in value]
        )

    def _resolve(self, value: object) -> object:
        if isinstance(value, list):
            return [found for found in map(self._resolve, value) if found is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, inner),) = value.items()
            if function == "Ref":
                return self.ref(inner)
            if function == "Fn::GetAtt":
                name, attribute = inner if isinstance(inner, list) else inner.split(".")
                return self.arn(name) if attribute == "Arn" else f"{name}.{attribute}"
            if function == "Fn::Sub":
                return re.sub(r"\$\{([\w:.]+)\}", lambda found: self._substitute(found.group(1)), inner)
            if function == "Fn::If":
                return self._resolve(inner[1] if self._holds(inner[0]) else inner[2])
            if function == "Fn::Join":
                return inner[0].join(self._resolve(inner[1]))
            if function == "Fn::Select":
                return self._resolve(inner[1])[int(inner[0])]
            if function == "Fn::GetAZs":
                return [f"{REGION}{zone}" for zone in "ab"]
            assert not function.startswith("Fn::"), f"{function} is not known here"
        return {key: self._resolve(inner) for key, inner in value.items()}

    def _substitute(self, name: str) -> str:
        whole, _, attribute = name.partition(".")
        return str(self._resolve({"Fn::GetAtt": [whole, attribute]}) if attribute else self.ref(name))

    def statements(self, role: str) -> list[dict]:
        """All statements that a role, or a managed policy of the template, carries."""
        item = self.resources[role]["Properties"]
        if "PolicyDocument" in item:
            return item["PolicyDocument"]["Statement"]
        found = [
            line for policy in item.get("Policies", []) for line in policy["PolicyDocument"]["Statement"]
        ]
        for name in self.of("AWS::IAM::ManagedPolicy"):
            if self.arn(name) in item.get("ManagedPolicyArns", []):
                found += self.statements(name)
        return found


def listed(value: object) -> list:
    """What a policy may give as one value or as a list of them."""
    return value if isinstance(value, list) else [value]


def decide(statements: list[dict], action: str, resource: str) -> str:
    """Say "allow", "deny" or "nothing" as IAM does: a denial wins. Conditions are taken to be met."""
    effects = {
        line["Effect"]
        for line in statements
        if any(fnmatchcase(action.lower(), each.lower()) for each in listed(line["Action"]))
        and any(fnmatchcase(resource, each) for each in listed(line["Resource"]))
    }
    return "deny" if "Deny" in effects else "allow" if "Allow" in effects else "nothing"
