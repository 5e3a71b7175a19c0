"""Create or update a CloudFormation stack and tell how it goes."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from oncoarena.aws.account import Account
from oncoarena.errors import InputError

FAILED_AT_FIRST = "ROLLBACK_COMPLETE"
"""State of a stack whose first deployment failed: it holds nothing and cannot be updated."""

CREATION_MINUTES = 60
"""After this CloudFormation gives up a creation and takes back what it made."""

Say = Callable[[str], None]


def ask(account: Account, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
    """Call an operation of AWS; raise InputError with AWS's own words where it refuses."""
    from botocore.exceptions import ClientError

    try:
        return account.call(service, operation, **arguments)
    except ClientError as error:
        said = error.response.get("Error", {})
        raise InputError(
            f"{service} {operation}: AWS answered {said.get('Code', '')}: {said.get('Message', 'no reason given')}; "
            "docs/aws.md lists what the one who sets up must be allowed"
        ) from error


def describe(account: Account, stack: str) -> dict[str, Any] | None:
    """Return a stack as CloudFormation describes it, or None where there is none."""
    from botocore.exceptions import ClientError

    try:
        found = account.call("cloudformation", "describe_stacks", StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise InputError(f"stack {stack}: {error}") from error
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def create(
    account: Account,
    stack: str,
    template: str,
    parameters: Mapping[str, str],
    *,
    poll_s: float = 5.0,
    say: Say = print,
) -> dict[str, Any]:
    """Create a stack and return its description; remains of a first deployment that failed are removed before.

    Parameters: ``parameters`` of the template by name; ``poll_s``, seconds between two looks; ``say`` is given a
    line for each resource that is done. Raises InputError with CloudFormation's reasons where it fails; it has
    then taken back what it made.
    """
    remains = describe(account, stack)
    if remains is not None:
        say(f"Stack {stack}: removing the remains of a deployment that failed")
        seen = _events_so_far(account, remains)
        ask(account, "cloudformation", "delete_stack", StackName=stack)
        _wait(account, remains["StackId"], seen, poll_s, say)
    say(f"Stack {stack}: creating; this takes some minutes")
    stack_id = ask(
        account,
        "cloudformation",
        "create_stack",
        StackName=stack,
        TemplateBody=template,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
        TimeoutInMinutes=CREATION_MINUTES,
    )["StackId"]
    return _finish(account, stack_id, set(), "CREATE_COMPLETE", poll_s, say)


def update(
    account: Account,
    known: Mapping[str, Any],
    template: str,
    parameters: Mapping[str, str],
    *,
    poll_s: float = 5.0,
    say: Say = print,
) -> dict[str, Any]:
    """Bring a stack up to date through a change set, tell what changes, and return its description.

    Parameters as of ``create``; ``known`` is the stack's description. What ``parameters`` leave out keeps its value.
    """
    stack = known["StackName"]
    if known["StackStatus"].endswith("_IN_PROGRESS"):
        raise InputError(
            f"stack {stack}: is being changed ({known['StackStatus']}); wait, then run this again"
        )
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
    kept = {item["ParameterKey"] for item in known.get("Parameters", [])} - set(parameters)
    named = {"StackName": stack, "ChangeSetName": f"update-{time.time_ns()}"}
    ask(
        account,
        "cloudformation",
        "create_change_set",
        **named,
        ChangeSetType="UPDATE",
        TemplateBody=template,
        Parameters=given + [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept)],
        Capabilities=["CAPABILITY_IAM"],
    )
    while (found := ask(account, "cloudformation", "describe_change_set", **named))["Status"] in (
        "CREATE_PENDING",
        "CREATE_IN_PROGRESS",
    ):
        time.sleep(poll_s)
    if found["Status"] == "FAILED":
        ask(account, "cloudformation", "delete_change_set", **named)
        reason = found.get("StatusReason", "no reason given")
        # CloudFormation has two ways of saying that all is as it should be.
        if "didn't contain changes" in reason or "No updates are to be performed" in reason:
            say(f"Stack {stack}: is up to date")
            return dict(known)
        raise InputError(f"stack {stack}: cannot be updated: {reason}")
    say(f"Stack {stack}: updating")
    for change in (item["ResourceChange"] for item in found["Changes"]):
        replaced = ", by a new one" if change.get("Replacement") == "True" else ""
        say(f"  will {change['Action'].lower()} {change['LogicalResourceId']}{replaced}")
    seen = _events_so_far(account, known)
    ask(account, "cloudformation", "execute_change_set", **named)
    return _finish(account, known["StackId"], seen, "UPDATE_COMPLETE", poll_s, say)


def _finish(
    account: Account, stack_id: str, seen: set[str], good: str, poll_s: float, say: Say
) -> dict[str, Any]:
    ended, reasons = _wait(account, stack_id, seen, poll_s, say)
    if ended is None or ended["StackStatus"] != good:
        status = ended["StackStatus"] if ended else "it is gone"
        why = "\n".join(reasons) or "no reason was given; see the stack's events in the console"
        raise InputError(f"stack {stack_id.split('/')[1]}: the deployment failed ({status}):\n{why}")
    return ended


def _wait(
    account: Account, stack_id: str, seen: set[str], poll_s: float, say: Say
) -> tuple[dict[str, Any] | None, list[str]]:
    """Tell each resource that is done until the stack rests; return it, and why resources failed."""
    reasons: list[str] = []
    while True:
        stack = describe(account, stack_id)
        for event in _events(account, stack_id):
            if event["EventId"] in seen:
                continue
            seen.add(event["EventId"])
            status, name = event.get("ResourceStatus", ""), event["LogicalResourceId"]
            reason = event.get("ResourceStatusReason", "no reason given")
            # Where one resource fails, CloudFormation cancels the others.
            if status.endswith("_FAILED") and "cancelled" not in reason:
                reasons.append(f"{name}: {reason}")
            if status.endswith(("_COMPLETE", "_FAILED")):
                say(f"  {event['Timestamp']:%H:%M:%S} {name} {status.lower().replace('_', ' ')}")
        if stack is None or not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack, reasons
        time.sleep(poll_s)


def _events(account: Account, stack_id: str) -> list[dict[str, Any]]:
    """Return all events of a stack, the oldest first."""
    return ask(account, "cloudformation", "describe_stack_events", StackName=stack_id)["StackEvents"][::-1]


def _events_so_far(account: Account, stack: Mapping[str, Any]) -> set[str]:
    return {event["EventId"] for event in _events(account, stack["StackId"])}
