"""The files for spot machines: whole, fit for AWS's interface and this engine's, and free of secrets."""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from botocore.validate import ParamValidator

from engine import cli

FOLDER = Path(__file__).parents[3] / "configs" / "aws"
FILES = sorted(path for path in FOLDER.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".sh"]
README = (FOLDER / "README.md").read_text(encoding="utf-8")
BUCKET = "a-bucket"


def filled(name: str) -> str:
    """One of the files as the README's `sed` commands leave it."""
    return (FOLDER / name).read_text(encoding="utf-8").replace("BUCKET", BUCKET)


def service() -> dict[str, str]:
    """Section `Service` of the unit; of a key that stands twice, the last value."""
    unit = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((FOLDER / "cxr-train.service").read_text(encoding="utf-8").replace("\\\n", " "))
    return dict(unit["Service"])


def errors_of(client: str, operation: str, parameters: dict) -> str:
    """What AWS's interface description, as boto3 ships it, has against these parameters."""
    model = botocore.session.Session().get_service_model(client)
    return (
        ParamValidator().validate(parameters, model.operation_model(operation).input_shape).generate_report()
    )


def readme_commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text(encoding="utf-8").startswith("#!/bin/bash\n# ")


def test_the_launch_template_is_one_that_ec2_takes() -> None:
    user_data = filled("user_data.sh")
    encoded = base64.b64encode(user_data.encode()).decode()
    assert len(user_data.encode()) < 16_384, "more than EC2 takes"
    template = json.loads(filled("launch_template.json").replace("USER_DATA", encoded))
    assert errors_of("ec2", "CreateLaunchTemplate", template) == ""
    data = template["LaunchTemplateData"]
    assert base64.b64decode(data["UserData"]).decode() == user_data
    assert (data["MetadataOptions"]["HttpTokens"], data["MetadataOptions"]["HttpPutResponseHopLimit"]) == (
        "required",
        1,
    )


def test_the_group_keeps_one_spot_instance_of_several_sizes() -> None:
    group = json.loads(filled("auto_scaling_group.json").replace("SUBNETS", "subnet-1,subnet-2"))
    assert errors_of("autoscaling", "CreateAutoScalingGroup", group) == ""
    assert (group["MinSize"], group["DesiredCapacity"], group["MaxSize"]) == (0, 1, 1)
    assert not group["CapacityRebalance"]
    mixed = group["MixedInstancesPolicy"]
    assert mixed["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 0
    sizes = [override["InstanceType"] for override in mixed["LaunchTemplate"]["Overrides"]]
    assert len(set(sizes)) > 1
    assert all(size.startswith("g5.") for size in sizes)
    template = json.loads(filled("launch_template.json"))
    named = mixed["LaunchTemplate"]["LaunchTemplateSpecification"]["LaunchTemplateName"]
    assert named == template["LaunchTemplateName"]


def test_the_role_may_use_its_prefixes_and_end_its_own_group_and_nothing_else() -> None:
    trust, policy = json.loads(filled("iam_trust.json")), json.loads(filled("iam_policy.json"))
    assert [statement["Principal"] for statement in trust["Statement"]] == [{"Service": "ec2.amazonaws.com"}]
    group = json.loads(filled("auto_scaling_group.json"))["AutoScalingGroupName"]
    for statement in policy["Statement"]:
        actions, resources = (
            [value] if isinstance(value, str) else value
            for value in (statement["Action"], statement["Resource"])
        )
        assert not [action for action in actions if "*" in action]
        for resource in resources:
            assert resource.startswith(f"arn:aws:s3:::{BUCKET}") or resource.endswith(
                f":autoScalingGroupName/{group}"
            )


def test_every_place_that_the_machine_uses_is_one_that_the_role_may_use() -> None:
    places = set(re.findall(rf"s3://{BUCKET}/(\w+)", filled("user_data.sh")))
    allowed = set(re.findall(rf"arn:aws:s3:::{BUCKET}/(\w+)/\*", filled("iam_policy.json")))
    assert places == allowed == {"setup", "shards", "runs", "logs"}


def test_the_unit_calls_the_engine_with_flags_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    command = shlex.split(service()["ExecStart"])
    assert [Path(command[0]).name, command[1]] == ["engine", "train"]
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {word for word in command if word.startswith("--")} <= known


def test_the_unit_takes_a_notice_for_success_and_never_starts_again_by_itself() -> None:
    unit = service()
    assert (unit["SuccessExitStatus"], unit["Restart"]) == ("75", "no")
    assert int(unit["TimeoutStopSec"]) < 120


def test_every_variable_of_the_unit_is_written_by_user_data() -> None:
    _, written = re.search(r"<<(END)\n(.*?)\nEND\n", filled("user_data.sh"), flags=re.DOTALL).groups()
    names = {line.partition("=")[0] for line in written.splitlines()}
    assert set(re.findall(r"\$\{?([A-Z_]+)", service()["ExecStart"])) | {"LOGS"} <= names


def test_every_file_that_the_unit_and_user_data_call_is_put_into_the_bucket() -> None:
    called = set(
        re.findall(r"/opt/cxr/setup/([\w.-]+)", filled("cxr-train.service") + filled("user_data.sh"))
    )
    shipped = {path.name for path in FILES if path.suffix in (".sh", ".service")}
    assert called - {"cxr_engine-"} <= shipped | {"train.yaml"}


@pytest.mark.parametrize(
    ("status", "system", "ends", "keeps_journal"),
    [
        ("0", "running", True, False),
        ("0", "degraded", True, False),
        ("1", "running", True, True),
        ("KILL", "running", True, True),
        ("", "running", True, True),
        ("75", "running", False, False),
        ("TERM", "running", False, False),
        ("1", "stopping", False, False),
    ],
)
def test_what_becomes_of_the_machine_after_training(
    tmp_path: Path, status: str, system: str, ends: bool, keeps_journal: bool
) -> None:
    programs = {
        "aws": f'echo "$*" >> {tmp_path}/calls; [ "$2" != cp ] || cat >> {tmp_path}/kept',
        "systemctl": f"echo {system}; [ {system} = running ]",
        "journalctl": "echo the journal",
        "cloud-init": "echo i-0123",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", FOLDER / "after_training.sh"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "EXIT_STATUS": status, "LOGS": "s3://a-bucket/logs"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    calls = (tmp_path / "calls").read_text().splitlines() if ends else []
    assert (tmp_path / "calls").exists() == ends
    assert ("s3 cp - s3://a-bucket/logs/i-0123-failed.log" in calls) == keeps_journal
    assert (tmp_path / "kept").exists() == keeps_journal
    if ends:
        assert calls[-1] == (
            "autoscaling terminate-instance-in-auto-scaling-group --instance-id i-0123 "
            "--should-decrement-desired-capacity"
        )


def test_the_readmes_commands_are_ones_that_aws_has() -> None:
    commands = [command for command in readme_commands() if command[:1] == ["aws"] and command[1] != "s3"]
    assert len(commands) > 12
    general = {"--cli-input-json", "--query", "--output", "--max-items"}
    for _, client, operation, *rest in commands:
        model = botocore.session.Session().get_service_model(client)
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        assert operation in operations
        members = model.operation_model(operations[operation]).input_shape.members
        flags = {word for word in rest if word.startswith("--")}
        assert flags <= general | {f"--{xform_name(member, '-')}" for member in members}


def test_the_readme_names_every_file_and_no_other() -> None:
    named = set(re.findall(r"`([\w-]+\.(?:sh|json|service))`", README))
    assert named == {path.name for path in FILES} - {"README.md"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_credential_stands_in_a_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|secret_?access_?key|PRIVATE KEY|session_?token", text, re.I
    )
    assert not re.search(r"\b\d{12}\b", text), "an account's number"
