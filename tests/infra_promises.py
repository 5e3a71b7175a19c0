"""Every promise of infra/oncoarena.yaml, as a function that fails where a stack made from it breaks the promise."""

import re

from cloudformation import ACCOUNT, REGION, decide, listed
from dockerfile import read_targets

EVERYTHING = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
HOLDERS = ("JobRole", "DataPolicy", "WorkflowPolicy", "ImagePushRole")


def raw_arn(stack):
    name = stack.parameters["ExistingRawBucket"]
    return f"arn:aws:s3:::{name}" if name else stack.arn("RawBucket")


def buckets_are_versioned_encrypted_and_private(stack):
    buckets = stack.of("AWS::S3::Bucket")
    assert "ResultsBucket" in buckets
    for name, bucket in buckets.items():
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": stack.arn("DataKey"),
        }
        assert rule["BucketKeyEnabled"] is True
        blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        assert bucket["PublicAccessBlockConfiguration"] == dict.fromkeys(blocks, True)
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        assert stack.resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert stack.resources[name]["UpdateReplacePolicy"] == "Retain"
    assert stack.of("AWS::KMS::Key")["DataKey"]["EnableKeyRotation"] is True
    assert stack.resources["DataKey"]["DeletionPolicy"] == "RetainExceptOnCreate"


def buckets_speak_tls_only_and_nobody_deletes_them(stack):
    policies = {item["Bucket"]: item["PolicyDocument"] for item in stack.of("AWS::S3::BucketPolicy").values()}
    for name in stack.of("AWS::S3::Bucket"):
        arn, lines = stack.arn(name), policies[stack.ref(name)]["Statement"]
        assert all(line["Effect"] == "Deny" and line["Principal"] == "*" for line in lines)
        (plain,) = [line for line in lines if line.get("Condition")]
        assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for resource in (arn, f"{arn}/sample.bam"):
            assert decide([*EVERYTHING, plain], "s3:GetObject", resource) == "deny"
        unconditional = [line for line in lines if "Condition" not in line]
        assert decide(EVERYTHING + unconditional, "s3:DeleteBucket", arn) == "deny"
        assert decide(EVERYTHING + unconditional, "s3:GetObject", f"{arn}/sample.bam") == "allow"


def jobs_only_read_raw_data(stack):
    lines, raw = stack.statements("JobRole"), raw_arn(stack)
    assert decide(lines, "s3:GetObject", f"{raw}/sample.bam") == "allow"
    assert decide(lines, "s3:ListBucket", raw) == "allow"
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert decide(lines, action, f"{raw}/sample.bam") == "deny"
        assert decide(lines + EVERYTHING, action, f"{raw}/sample.bam") == "deny"
    for action in ("s3:PutObjectAcl", "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration"):
        assert decide(lines, action, raw) == decide(lines, action, f"{raw}/sample.bam") == "nothing"


def jobs_write_results_and_nothing_else(stack):
    lines, results = stack.statements("JobRole"), stack.arn("ResultsBucket")
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"):
        assert decide(lines, action, f"{results}/study/report.html") == "allow"
    assert decide(lines + EVERYTHING, "s3:DeleteObjectVersion", f"{results}/study/report.html") == "deny"
    for resource in ("arn:aws:s3:::another", "arn:aws:s3:::another/object"):
        assert (
            decide(lines, "s3:GetObject", resource) == decide(lines, "s3:ListBucket", resource) == "nothing"
        )
    for action in ("iam:PassRole", "batch:SubmitJob", "ec2:RunInstances", "sts:AssumeRole"):
        assert decide(lines, action, "arn:aws:anything") == "nothing"
    keys = [line for line in lines if "kms:Decrypt" in listed(line["Action"])]
    assert all(
        line["Condition"]["StringEquals"] == {"kms:ViaService": f"s3.{REGION}.amazonaws.com"} for line in keys
    )


def nobody_creates_or_deletes_buckets(stack):
    for holder in ("JobRole", "DataPolicy"):
        for action in ("s3:CreateBucket", "s3:DeleteBucket"):
            for resource in ("arn:aws:s3:::a-typo", raw_arn(stack), stack.arn("ResultsBucket")):
                assert decide(stack.statements(holder) + EVERYTHING, action, resource) == "deny"


def roles_name_what_they_may_do(stack):
    # What AWS offers no narrower resource for.
    unbounded = {"ecr:GetAuthorizationToken", "batch:ListJobs"}
    for holder in (name for name in HOLDERS if name in stack.resources):
        assert stack.statements(holder)
        for line in (line for line in stack.statements(holder) if line["Effect"] == "Allow"):
            assert "NotAction" not in line
            assert "NotResource" not in line
            for action in listed(line["Action"]):
                assert "*" not in action
                if "*" in listed(line["Resource"]):
                    assert action in unbounded or action.startswith("batch:Describe")
    (key_line,) = stack.of("AWS::KMS::Key")["DataKey"]["KeyPolicy"]["Statement"]
    assert key_line["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}


def roles_are_taken_by_those_they_are_for(stack):
    trusted = {
        "InstanceRole": {"Service": "ec2.amazonaws.com"},
        "JobRole": {"Service": "ecs-tasks.amazonaws.com"},
    }
    for name, role in stack.of("AWS::IAM::Role").items():
        (line,) = role["AssumeRolePolicyDocument"]["Statement"]
        if name in trusted:
            assert line["Principal"] == trusted[name]
            continue
        assert name == "ImagePushRole"
        assert line["Principal"]["Federated"].endswith(":oidc-provider/token.actions.githubusercontent.com")
        subject = line["Condition"]["StringLike"]["token.actions.githubusercontent.com:sub"]
        assert subject == "repo:lab/oncoarena:ref:refs/tags/*"
    assert stack.of("AWS::IAM::Role")["InstanceRole"]["ManagedPolicyArns"] == [
        "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
    ]
    assert not stack.statements("InstanceRole")


def whoever_runs_the_workflow_may_do_just_that(stack):
    lines = stack.statements("WorkflowPolicy")
    batch = f"arn:aws:batch:{REGION}:{ACCOUNT}"
    for queue in ("MemoryQueue", "GpuQueue", "SmallQueue"):
        assert decide(lines, "batch:SubmitJob", stack.arn(queue)) == "allow"
    for target in read_targets():
        for revision in ("", ":3"):
            definition = f"{batch}:job-definition/oncoarena-{target}{revision}"
            assert decide(lines, "batch:SubmitJob", definition) == "allow"
    for foreign in ("job-queue/another", "job-definition/another"):
        assert decide(lines, "batch:SubmitJob", f"{batch}:{foreign}") == "nothing"
    assert (
        decide(lines, "batch:DescribeJobs", "*")
        == decide(lines, "batch:TerminateJob", f"{batch}:job/1")
        == "allow"
    )
    assert decide(lines, "logs:GetLogEvents", stack.arn("JobLogs")) == "allow"
    for action in ("s3:GetBucketVersioning", "s3:GetEncryptionConfiguration", "s3:GetBucketPolicyStatus"):
        assert (
            decide(lines, action, stack.arn("ResultsBucket"))
            == decide(lines, action, raw_arn(stack))
            == "allow"
        )
    for action in ("iam:PassRole", "batch:RegisterJobDefinition", "s3:PutBucketPolicy", "s3:PutObject"):
        assert decide(lines, action, stack.arn("ResultsBucket")) == "nothing"


def queue_machines(stack, queue):
    """Compute resources of a queue's environments in the order in which they are tried."""
    environments = stack.of("AWS::Batch::ComputeEnvironment")
    by_ref = {stack.ref(name): item["ComputeResources"] for name, item in environments.items()}
    order = stack.of("AWS::Batch::JobQueue")[queue]["ComputeEnvironmentOrder"]
    return [by_ref[item["ComputeEnvironment"]] for item in sorted(order, key=lambda item: item["Order"])]


def preprocessing_runs_on_memory_optimised_spot_first(stack):
    machines = queue_machines(stack, "MemoryQueue")
    assert [each["Type"] for each in machines] == ["SPOT", "EC2"]
    assert all(re.fullmatch(r"r\d\w*", family) for each in machines for family in each["InstanceTypes"])


def training_runs_on_gpus_spot_first(stack):
    machines = queue_machines(stack, "GpuQueue")
    assert [each["Type"] for each in machines] == ["SPOT", "EC2"]
    for each in machines:
        assert {family[0] for family in each["InstanceTypes"]} == {"g", "p"}
        assert each["Ec2Configuration"] == [{"ImageType": "ECS_AL2023_NVIDIA"}]


def the_small_queue_cannot_be_reclaimed(stack):
    assert [each["Type"] for each in queue_machines(stack, "SmallQueue")] == ["EC2"]


def machines_cost_nothing_when_idle_and_are_bounded(stack):
    for name, environment in stack.of("AWS::Batch::ComputeEnvironment").items():
        machines = environment["ComputeResources"]
        assert environment["Type"] == "MANAGED"
        assert machines["MinvCpus"] == 0
        assert 1 <= machines["MaxvCpus"] <= 256
        kind = next(kind for kind in ("Memory", "Gpu", "Small") if name.startswith(kind))
        assert machines["MaxvCpus"] == stack.parameters[f"Max{kind}Vcpus"]
        spot = machines["Type"] == "SPOT"
        # BEST_FIT would need a role of its own and can never be updated.
        assert machines["AllocationStrategy"] == (
            "SPOT_PRICE_CAPACITY_OPTIMIZED" if spot else "BEST_FIT_PROGRESSIVE"
        )
        # No family of ARM processors: the images are for x86-64.
        assert not any(re.match(r"[a-z]+\d+g", family) for family in machines["InstanceTypes"])


def machines_have_encrypted_disks_and_no_open_port(stack):
    data = stack.of("AWS::EC2::LaunchTemplate")["JobInstances"]["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpTokens": "required"}
    assert all(disk["Ebs"]["Encrypted"] is True for disk in data["BlockDeviceMappings"])
    for environment in stack.of("AWS::Batch::ComputeEnvironment").values():
        machines = environment["ComputeResources"]
        assert machines["LaunchTemplate"]["LaunchTemplateId"] == stack.ref("JobInstances")
        assert machines["SecurityGroupIds"] == [stack.ref("JobSecurityGroup")]
    assert "SecurityGroupIngress" not in stack.of("AWS::EC2::SecurityGroup")["JobSecurityGroup"]
    assert not stack.of("AWS::EC2::SecurityGroupIngress")


def bytes_from_s3_pass_no_nat(stack):
    (endpoint,) = stack.of("AWS::EC2::VPCEndpoint").values()
    assert (endpoint["VpcEndpointType"], endpoint["ServiceName"]) == ("Gateway", f"com.amazonaws.{REGION}.s3")
    assert not stack.of("AWS::EC2::NatGateway")
    used = {
        subnet
        for environment in stack.of("AWS::Batch::ComputeEnvironment").values()
        for subnet in environment["ComputeResources"]["Subnets"]
    }
    assert len(used) == 2
    if not stack.parameters["VpcId"]:
        tables = stack.of("AWS::EC2::SubnetRouteTableAssociation").values()
        assert used == {item["SubnetId"] for item in tables}
        assert {item["RouteTableId"] for item in tables} == set(endpoint["RouteTableIds"])
    else:
        assert (endpoint["VpcId"], endpoint["RouteTableIds"]) == ("vpc-1", ["rtb-1", "rtb-2"])
        assert not stack.of("AWS::EC2::Subnet")


def every_image_has_a_definition_that_leaves_retries_to_snakemake(stack):
    definitions = {item["JobDefinitionName"]: item for item in stack.of("AWS::Batch::JobDefinition").values()}
    assert set(definitions) == {f"oncoarena-{target}" for target in read_targets()}
    for target in read_targets():
        definition = definitions[f"oncoarena-{target}"]
        container = definition["ContainerProperties"]
        assert definition["RetryStrategy"] == {"Attempts": 1}
        assert definition["Timeout"]["AttemptDurationSeconds"] >= 3600
        assert definition["PlatformCapabilities"] == ["EC2"]
        assert container["Image"] == f"Images.RepositoryUri:{target}-v0.1.0"
        assert container["JobRoleArn"] == stack.arn("JobRole")
        assert not container.get("Privileged", False)
        # Batch adds a job's GPUs to these; a GPU named here could never be left out.
        assert [item["Type"] for item in container["ResourceRequirements"]] == ["VCPU", "MEMORY"]
        assert [item["Name"] for item in container["Environment"]] == ["AWS_DEFAULT_REGION"]


def jobs_write_logs_that_are_kept_for_a_while(stack):
    for item in stack.of("AWS::Batch::JobDefinition").values():
        logs = item["ContainerProperties"]["LogConfiguration"]
        target = item["JobDefinitionName"].rpartition("-")[2]
        assert logs["LogDriver"] == "awslogs"
        assert logs["Options"] == {
            "awslogs-group": stack.ref("JobLogs"),
            "awslogs-region": REGION,
            "awslogs-stream-prefix": target,
        }
    assert stack.of("AWS::Logs::LogGroup")["JobLogs"]["RetentionInDays"] == 90


def images_are_scanned_and_never_replaced(stack):
    images = stack.of("AWS::ECR::Repository")["Images"]
    assert images["ImageTagMutability"] == "IMMUTABLE"
    assert images["ImageScanningConfiguration"] == {"ScanOnPush": True}


def a_budget_alarm_reaches_the_user(stack):
    (budget,) = stack.of("AWS::Budgets::Budget").values()
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 200, "Unit": "USD"}
    assert budget["Budget"]["TimeUnit"] == "MONTHLY"
    assert "CostFilters" not in budget["Budget"]
    kinds = set()
    for alarm in budget["NotificationsWithSubscribers"]:
        assert alarm["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": "a@example.org"}]
        kinds.add((alarm["Notification"]["NotificationType"], alarm["Notification"]["Threshold"]))
    assert {("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)} <= kinds


def outputs_name_what_was_made(stack):
    queues = {item["JobQueueName"] for item in stack.of("AWS::Batch::JobQueue").values()}
    assert {stack.outputs[f"{kind}Queue"] for kind in ("Memory", "Gpu", "Small")} == queues
    definitions = {item["JobDefinitionName"] for item in stack.of("AWS::Batch::JobDefinition").values()}
    kinds = [target.capitalize() for target in read_targets()]
    assert {stack.outputs[f"{kind}Job"] for kind in kinds} == definitions
    assert stack.outputs["Region"] == REGION
    assert f"arn:aws:s3:::{stack.outputs['RawBucket']}" == raw_arn(stack)
    assert stack.outputs["ResultsBucket"] == stack.ref("ResultsBucket")
