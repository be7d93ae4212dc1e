"""The commands of a pipeline, and how it ends where one fails."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import yaml

from engine import cli, flags
from engine.config import pipeline as settings
from engine.ensemble import combine, views, weights
from engine.pipeline import pipeline
from engine.pipeline.stages import judged_run, stages_of
from records.errors import ConfigError, CxrError

CONFIGS = Path(__file__).parents[3] / "configs"


def commands(overrides=(), config="pipeline.yaml") -> dict[str, list[str]]:
    stages = stages_of(settings.load(str(CONFIGS / config), overrides))
    return {stage.name: [shlex.join(command) for command in stage.commands] for stage in stages}


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("pipeline*.yaml")))
def test_each_command_of_the_configs_at_hand_is_one_that_the_engine_takes(config, monkeypatch, tmp_path):
    taken = []
    monkeypatch.setattr(cli, "_CALLS", dict.fromkeys(cli._CALLS, lambda given: taken.append(given.call) or 0))
    for of_stage in commands(config=config).values():
        for command in of_stage:
            program, *arguments = shlex.split(command)
            assert program == "python" or cli.main(arguments) == 0
    assert {"train", "ensemble", "evaluate", "heatmaps", "report"} <= set(taken)


def test_stages_come_in_their_order():
    assert list(commands()) == [
        "data",
        "members/densenet",
        "members/guide",
        "comparison/guide",
        "ensemble",
        "evaluation",
        "comparison",
        "heat maps",
        "report",
    ]


def test_one_member_is_judged_without_an_ensemble():
    alone = ("members={runs: [{name: guide, config: configs/demo_guide.yaml, set: []}]}",)
    found = commands(alone)
    assert "ensemble" not in found
    assert "--run-dir build/demo/members/guide" in found["evaluation"][0]
    assert judged_run(settings.load(str(CONFIGS / "pipeline.yaml"), alone)).name == "guide"


def test_stages_with_nothing_to_do_are_left_out():
    found = commands(("data.make=[]", "heatmaps.boxes=''", "comparison={member: '', set: []}"))
    assert list(found) == ["members/densenet", "members/guide", "ensemble", "evaluation", "report"]


def test_what_a_member_is_compared_with_has_its_own_keys_behind_the_members():
    found = commands(("comparison.set=['loss={name: bce}', train.seed=3]",))
    assert found["comparison/guide"][0].endswith("--set 'loss={name: bce}' --set train.seed=3")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("members={runs: []}", "members.runs is []"),
        (
            "members={runs: [{name: a, config: x, set: []}, {name: a, config: y, set: []}]}",
            "two are called a",
        ),
        ("members={runs: [{name: ../a, config: x, set: []}]}", "expected a folder's name"),
        ("members={runs: [{name: a, config: x}]}", "no key `members.runs[0].set`"),
        ("data.make=['rm -rf build']", "data.make[0] is `rm`; expected one of python, engine"),
        ("data.manifest=''", "data.manifest is empty"),
        ("comparison.member=gide", "did you mean `guide`?"),
        ("comparison.set=[]", "comparison.set is []"),
        ("ensemble.rule=mean", "ensemble.rule is `mean`"),
        ("evaluation.draws=10", "expected at least 100"),
        ("output.folder=s3://bucket/runs", "expected a folder"),
        ("output.folders=a", "did you mean `output.folder`?"),
    ],
)
def test_what_is_wrong_in_a_config_is_named(override, said):
    with pytest.raises(ConfigError) as error:
        settings.load(str(CONFIGS / "pipeline.yaml"), [override])
    assert said in str(error.value)


def test_a_mistake_in_the_last_members_config_is_found_before_anything_is_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (CONFIGS / "pipeline.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text.replace("configs/", f"{CONFIGS}/"))
    values["members"]["runs"][-1]["set"] = ["train.epoch=3"]
    Path("wrong.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"guide: --set train.epoch=3: .*did you mean `train.epochs`"):
        pipeline.run("wrong.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.yaml"]


def test_boxes_that_are_missing_are_found_before_anything_is_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    overrides = ["data.make=[]", f"heatmaps.boxes={tmp_path}/none.csv", f"output.folder={tmp_path}/out"]
    with pytest.raises(ConfigError, match=r"heatmaps.boxes is .*none.csv, which isn't there"):
        pipeline.run(str(CONFIGS / "pipeline.yaml"), overrides)
    assert not list(tmp_path.iterdir())


def test_a_data_set_that_is_missing_is_found_before_anything_is_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    named = [f"data.manifest={tmp_path}/manifest.json", f"output.folder={tmp_path}/out", "heatmaps.boxes=''"]
    with pytest.raises(CxrError, match=r"data.manifest: .*manifest.json.*data.make is empty") as raised:
        pipeline.run(str(CONFIGS / "pipeline.yaml"), ["data.make=[]", *named])
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_the_choices_of_the_config_and_of_the_flags_are_those_that_the_ensemble_knows():
    (commands_of,) = (action for action in flags.parser()._actions if action.choices)
    taken = {action.dest: action.choices for action in commands_of.choices["ensemble"]._actions}
    assert settings.RULES == taken["rule"] == combine.RULES
    assert settings.WEIGHTS == taken["weights"] == weights.METHODS
    assert settings.VIEWS == taken["tta"] == tuple(views.VIEWS)


def test_a_command_that_fails_ends_the_pipeline_with_its_exit_code(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(CONFIGS.parent)
    make = [f"open('{tmp_path}/a', 'w')", "exit(75)", f"open('{tmp_path}/b', 'w')"]
    make = [shlex.join(("python", "-c", code)) for code in make]
    code = pipeline.run(
        str(CONFIGS / "pipeline.yaml"), [f"data.make={yaml.safe_dump(make)}", f"output.folder={tmp_path}/out"]
    )
    assert code == 75
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    said = capfd.readouterr().err
    assert "stopped in `data` (exit code 75); the same command goes on from there" in said
    assert sys.executable not in said


def test_a_dry_run_prints_commands_and_runs_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(CONFIGS.parent)
    make = yaml.safe_dump([shlex.join(("python", "-c", f"open('{tmp_path}/a', 'w')"))])
    assert pipeline.run(str(CONFIGS / "pipeline.yaml"), [f"data.make={make}"], dry_run=True) == 0
    assert "engine ensemble --run-dirs build/demo/members/densenet" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
