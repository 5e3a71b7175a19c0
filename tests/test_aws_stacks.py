"""Updates and failures of a CloudFormation stack, as AWS answers them: botocore checks each request and answer
against its model of the service."""

import datetime

import pytest
from botocore.stub import ANY, Stubber

from aws_account import KEYS, REGION, environment
from oncoarena.aws import stacks
from oncoarena.aws.account import Account
from oncoarena.errors import InputError

ID = f"arn:aws:cloudformation:{REGION}:111122223333:stack/oncoarena/1"
NOW = datetime.datetime(2026, 1, 1, 12, 30, 5)


class Script:
    """What CloudFormation will answer, in order."""

    def __init__(self, stubber):
        self.stubber = stubber

    def stack(self, status, **more):
        found = {"StackName": "oncoarena", "StackId": ID, "CreationTime": NOW, "StackStatus": status}
        self.stubber.add_response("describe_stacks", {"Stacks": [found | more]}, {"StackName": ANY})

    def no_stack(self):
        message = "Stack with id oncoarena does not exist"
        self.stubber.add_client_error("describe_stacks", "ValidationError", message)

    def events(self, *lines):
        """Each line: name, status, reason; CloudFormation gives the newest first."""
        found = [
            {
                "StackId": ID,
                "StackName": "oncoarena",
                "EventId": f"{name}-{status}",
                "LogicalResourceId": name,
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
                "Timestamp": NOW,
            }
            for name, status, reason in lines
        ]
        self.stubber.add_response("describe_stack_events", {"StackEvents": found[::-1]}, {"StackName": ID})

    def answer(self, operation, content=None, **expected):
        self.stubber.add_response(operation, content or {}, expected or None)


@pytest.fixture
def account():
    with environment(KEYS):
        yield Account(REGION)


@pytest.fixture
def script(account):
    with Stubber(account.client("cloudformation")) as stubber:
        yield Script(stubber)
        stubber.assert_no_pending_responses()


GIVEN = [{"ParameterKey": "Email", "ParameterValue": "a@example.org"}]


def test_create__tells_each_resource_and_returns_the_stack(account, script):
    script.no_stack()
    script.answer(
        "create_stack",
        {"StackId": ID},
        StackName="oncoarena",
        TemplateBody="text",
        Parameters=GIVEN,
        Capabilities=["CAPABILITY_IAM"],
        TimeoutInMinutes=60,
    )
    script.stack("CREATE_IN_PROGRESS")
    first = [("DataKey", "CREATE_IN_PROGRESS", ""), ("DataKey", "CREATE_COMPLETE", "")]
    script.events(*first)
    script.stack("CREATE_COMPLETE", Outputs=[{"OutputKey": "Region", "OutputValue": REGION}])
    script.events(*first, ("oncoarena", "CREATE_COMPLETE", ""))
    lines = []
    made = stacks.create(account, "oncoarena", "text", {"Email": "a@example.org"}, poll_s=0, say=lines.append)
    assert made["Outputs"] == [{"OutputKey": "Region", "OutputValue": REGION}]
    assert lines[1:] == ["  12:30:05 DataKey create complete", "  12:30:05 oncoarena create complete"]


def test_create__a_failure_names_the_resource_that_caused_it(account, script):
    script.no_stack()
    script.answer("create_stack", {"StackId": ID})
    script.stack("ROLLBACK_COMPLETE")
    script.events(
        ("GpuSpot", "CREATE_FAILED", "Instance type p5 is not offered"),
        ("JobRole", "CREATE_FAILED", "Resource creation cancelled"),
        ("oncoarena", "ROLLBACK_COMPLETE", ""),
    )
    with pytest.raises(InputError) as caught:
        stacks.create(account, "oncoarena", "text", {}, poll_s=0, say=lambda line: None)
    assert str(caught.value) == (
        "stack oncoarena: the deployment failed (ROLLBACK_COMPLETE):\nGpuSpot: Instance type p5 is not offered"
    )


def test_create__removes_what_is_left_of_a_failed_one_first(account, script):
    old = ("oncoarena", "ROLLBACK_COMPLETE", "")
    script.stack(stacks.FAILED_AT_FIRST)
    script.events(old)
    script.answer("delete_stack", StackName="oncoarena")
    script.stack("DELETE_COMPLETE")
    script.events(old, ("oncoarena", "DELETE_COMPLETE", ""))
    script.answer("create_stack", {"StackId": ID})
    script.stack("CREATE_COMPLETE")
    script.events(("oncoarena", "CREATE_COMPLETE", ""))
    made = stacks.create(account, "oncoarena", "text", {}, poll_s=0, say=lambda line: None)
    assert made["StackStatus"] == "CREATE_COMPLETE"


KNOWN = {
    "StackName": "oncoarena",
    "StackId": ID,
    "StackStatus": "CREATE_COMPLETE",
    "Parameters": [
        {"ParameterKey": "ImageTag", "ParameterValue": "v1"},
        {"ParameterKey": "Email", "ParameterValue": "a@example.org"},
    ],
}


def expect_change_set(script):
    script.answer(
        "create_change_set",
        {"Id": "1", "StackId": ID},
        StackName="oncoarena",
        ChangeSetName=ANY,
        ChangeSetType="UPDATE",
        TemplateBody="text",
        Parameters=[
            {"ParameterKey": "ImageTag", "ParameterValue": "v2"},
            {"ParameterKey": "Email", "UsePreviousValue": True},
        ],
        Capabilities=["CAPABILITY_IAM"],
    )


def test_update__tells_the_changes_and_keeps_what_was_not_given(account, script):
    expect_change_set(script)
    script.answer("describe_change_set", {"Status": "CREATE_IN_PROGRESS"})
    modified = {"Action": "Modify", "LogicalResourceId": "CpuJob", "Replacement": "True"}
    added = {"Action": "Add", "LogicalResourceId": "S3Endpoint"}
    script.answer(
        "describe_change_set",
        {"Status": "CREATE_COMPLETE", "Changes": [{"ResourceChange": modified}, {"ResourceChange": added}]},
    )
    old = ("oncoarena", "CREATE_COMPLETE", "")
    script.events(old)
    script.answer("execute_change_set", StackName="oncoarena", ChangeSetName=ANY)
    script.stack("UPDATE_COMPLETE")
    script.events(old, ("CpuJob", "UPDATE_COMPLETE", ""))
    lines = []
    made = stacks.update(account, KNOWN, "text", {"ImageTag": "v2"}, poll_s=0, say=lines.append)
    assert made["StackStatus"] == "UPDATE_COMPLETE"
    assert lines == [
        "Stack oncoarena: updating",
        "  will modify CpuJob, by a new one",
        "  will add S3Endpoint",
        "  12:30:05 CpuJob update complete",
    ]


@pytest.mark.parametrize(
    "reason",
    [
        "The submitted information didn't contain changes. Submit different information",
        "No updates are to be performed.",
    ],
)
def test_update__nothing_to_change_is_no_failure(account, script, reason):
    expect_change_set(script)
    script.answer("describe_change_set", {"Status": "FAILED", "StatusReason": reason})
    script.answer("delete_change_set", StackName="oncoarena", ChangeSetName=ANY)
    lines = []
    assert stacks.update(account, KNOWN, "text", {"ImageTag": "v2"}, poll_s=0, say=lines.append) == KNOWN
    assert lines == ["Stack oncoarena: is up to date"]


def test_update__a_change_set_that_fails_is_told(account, script):
    expect_change_set(script)
    script.answer("describe_change_set", {"Status": "FAILED", "StatusReason": "Transform is not known"})
    script.answer("delete_change_set")
    with pytest.raises(InputError, match="stack oncoarena: cannot be updated: Transform is not known"):
        stacks.update(account, KNOWN, "text", {"ImageTag": "v2"}, poll_s=0, say=lambda line: None)


def test_update__a_failure_is_told_with_the_reasons_of_this_update_only(account, script):
    expect_change_set(script)
    script.answer("describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": []})
    old = ("GpuSpot", "UPDATE_FAILED", "long ago")
    script.events(old)
    script.answer("execute_change_set")
    script.stack("UPDATE_ROLLBACK_COMPLETE")
    script.events(old, ("CpuJob", "UPDATE_FAILED", "no such image"))
    with pytest.raises(InputError, match=r"failed \(UPDATE_ROLLBACK_COMPLETE\):\nCpuJob: no such image$"):
        stacks.update(account, KNOWN, "text", {"ImageTag": "v2"}, poll_s=0, say=lambda line: None)


def test_update__waits_for_nobody_else(account, script):
    busy = KNOWN | {"StackStatus": "UPDATE_IN_PROGRESS"}
    with pytest.raises(InputError, match="is being changed"):
        stacks.update(account, busy, "text", {}, poll_s=0)


def test_ask__says_what_was_asked_and_what_aws_answered(account, script):
    script.stubber.add_client_error("create_stack", "AccessDenied", "not authorized to perform: x", 403)
    with pytest.raises(
        InputError, match="cloudformation create_stack: AWS answered AccessDenied: not authorized"
    ):
        stacks.ask(account, "cloudformation", "create_stack", StackName="oncoarena")
