"""What each command of `engine` takes; what it does is `cli`'s. Nothing here imports more than argparse."""

from __future__ import annotations

import argparse

from records.splits import SPLITS


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="engine",
        description="Train and judge chest X-ray models on TFRecord shards.",
        allow_abbrev=False,
    )
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    _add_losses(commands)
    _add_evaluate(commands)
    _add_ensemble(commands)
    _add_heatmaps(commands)
    _add_report(commands)
    _add_predict(commands)
    _add_serve(commands)
    _add_run(commands)
    _add_inspect(commands)
    _add_benchmark(commands)
    return whole


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", required=True, metavar="MANIFEST", help="manifest.json, local, s3:// or gs://"
    )


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="override one key of the config, or SECTION={...} all of one; may be repeated",
    )


def _add_train(commands) -> None:
    command = _command(commands, "train", "train a model on the shards of a manifest")
    command.add_argument(
        "--config",
        required=True,
        nargs="+",
        metavar="YAML",
        help="such as configs/baseline.yaml; several are trained in turn, into RUN/NAME each",
    )
    _add_data(command)
    command.add_argument("--run-dir", required=True, metavar="RUN", help="folder of the run")
    _add_overrides(command)
    begin = command.add_mutually_exclusive_group()
    begin.add_argument("--overwrite", action="store_true", help="replace what the run directory holds")
    begin.add_argument(
        "--resume",
        choices=["auto"],
        help="go on with the run that RUN or checkpoint.location holds; begin it if there is none",
    )


def _add_losses(commands) -> None:
    command = _command(commands, "losses", "compare losses on a small model, ranked on validation")
    command.add_argument("--config", required=True, metavar="YAML", help="such as configs/losses.yaml")
    _add_data(command)
    command.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the trainings, the table and the chart"
    )
    _add_overrides(command)
    command.add_argument(
        "--resume",
        choices=["auto"],
        default="auto",
        help="finished trainings in DIR are not done again (%(default)s)",
    )


def _add_judged(command: argparse.ArgumentParser) -> None:
    command.add_argument("--run-dir", required=True, metavar="RUN", help="folder of a run or an ensemble")
    command.add_argument("--data", metavar="MANIFEST", help="where the run's data set lies now")


def _add_draws(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--draws", type=int, default=1000, metavar="N", help="of patients, for the intervals (%(default)s)"
    )


def _add_evaluate(commands) -> None:
    command = _command(
        commands, "evaluate", "judge a run: choose thresholds on validation, then read test once"
    )
    _add_judged(command)
    command.add_argument("--split", choices=("validation", "test"), help="one alone (both)")
    _add_draws(command)
    command.add_argument(
        "--reread-test", action="store_true", help="judge another model of this run on test, on the record"
    )


def _add_ensemble(commands) -> None:
    command = _command(commands, "ensemble", "combine several runs, chosen on validation alone")
    command.add_argument("--run-dirs", required=True, nargs="+", metavar="RUN", help="folders of the members")
    command.add_argument("--output", required=True, metavar="E", help="folder of the ensemble")
    command.add_argument(
        "--rule", choices=("probabilities", "logits"), default="probabilities", help="averaged (%(default)s)"
    )
    command.add_argument(
        "--weights",
        choices=("equal", "fitted", "greedy"),
        default="fitted",
        help="of the members; equal unless others do better on patients held back (%(default)s)",
    )
    command.add_argument(
        "--soup", action="store_true", help="average the weights of one architecture into one model instead"
    )
    command.add_argument(
        "--tta",
        choices=("none", "shift", "rotate"),
        default="none",
        help="views of each picture to average (%(default)s)",
    )
    command.add_argument("--data", metavar="MANIFEST", help="where the members' data set lies now")
    _add_draws(command)
    command.add_argument("--overwrite", action="store_true", help="replace what E holds")


def _add_heatmaps(commands) -> None:
    command = _command(commands, "heatmaps", "hold Grad-CAM maps against drawn boxes")
    _add_judged(command)
    command.add_argument("--boxes", required=True, metavar="CSV", help="BBox_List_2017.csv, gzipped or plain")
    command.add_argument("--findings", nargs="+", metavar="FINDING", help="(all that boxes are drawn for)")
    command.add_argument(
        "--attention", action="store_true", help="take the features behind CBAM's attention, not before it"
    )
    command.add_argument("--cbam", action="store_true", help="show CBAM's own spatial attention, too")
    command.add_argument("--images", type=int, default=24, metavar="N", help="in the gallery (%(default)s)")
    _add_draws(command)


def _add_report(commands) -> None:
    command = _command(commands, "report", "write one self-contained HTML page on a run")
    _add_judged(command)
    command.add_argument(
        "--compare",
        nargs=2,
        metavar="RUN",
        help="two judged runs side by side, such as weighted and plain BCE",
    )


def _add_predict(commands) -> None:
    command = _command(commands, "predict", "read PNG, JPEG or DICOM files with a run's model")
    command.add_argument("--run-dir", required=True, metavar="RUN", help="folder of a run or an ensemble")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder, s3:// or gs:// object")
    command.add_argument(
        "--thresholds",
        choices=("youden", "sensitivity_0.90", "0.5"),
        default="youden",
        help="from which on a finding is called (%(default)s)",
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_serve(commands) -> None:
    command = _command(commands, "serve", "show a run's findings in the browser, and answer programs")
    command.add_argument("--run-dir", required=True, metavar="RUN", help="folder of a run or an ensemble")
    command.add_argument(
        "--data", metavar="MANIFEST", help="its data set, whose test images are shown beside their truth"
    )
    command.add_argument("--boxes", metavar="CSV", help="BBox_List_2017.csv, drawn over those images")
    command.add_argument(
        "--host", default="127.0.0.1", help="anything but loopback lets others in (%(default)s)"
    )
    command.add_argument("--port", type=int, default=8000, help="0: any that is free (%(default)s)")


def _add_run(commands) -> None:
    command = _command(commands, "run", "go from data to report, stage by stage")
    command.add_argument("--config", required=True, metavar="YAML", help="such as configs/pipeline.yaml")
    _add_overrides(command)
    command.add_argument("--dry-run", action="store_true", help="print the stages' commands alone")


def _add_inspect(commands) -> None:
    command = _command(commands, "inspect", "show a data set at a glance")
    command.add_argument("data", metavar="MANIFEST", help="manifest.json, local, s3:// or gs://")
    command.add_argument(
        "--images", type=int, default=16, metavar="N", help="on the contact sheet (%(default)s)"
    )
    command.add_argument("--png", metavar="FILE", help="write a contact sheet with labels")
    command.add_argument("--report", metavar="FILE", help="write one HTML page of plots and sample images")
    command.add_argument(
        "--augmented", metavar="FILE", help="write a contact sheet of augmented training images"
    )
    command.add_argument("--config", metavar="YAML", help="whose augmentation that shows")
    command.add_argument("--split", choices=SPLITS, help="of the contact sheet (the first that holds any)")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_step_benchmark(kinds) -> None:
    command = _command(
        kinds, "step", "how fast training steps are, and where their time goes", call="benchmark step"
    )
    command.add_argument("--config", required=True, metavar="YAML", help="such as configs/baseline.yaml")
    _add_overrides(command)
    command.add_argument("--data", metavar="MANIFEST", help="for real input beside synthetic batches")
    for name in ("precisions", "compilations", "batches"):
        command.add_argument(f"--{name}", default="", metavar="A,B", help="(the config's)")
    command.add_argument(
        "--steps", type=int, default=5, metavar="N", help="of each part in each round (%(default)s)"
    )
    command.add_argument("--whole", action="store_true", help="whole steps alone, not their parts")
    command.add_argument("--png", metavar="FILE", help="write a chart")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_benchmark(commands) -> None:
    parser = commands.add_parser("benchmark", help="measure", description="Measure.", allow_abbrev=False)
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    _add_step_benchmark(kinds)
    command = _command(
        kinds, "input", "where the training input's time goes, and what bounds it", call="benchmark input"
    )
    _add_data(command)
    command.add_argument(
        "--from",
        choices=("local", "s3"),
        default="local",
        dest="source",
        help="local copies, warm, or a store through an empty cache (%(default)s)",
    )
    command.add_argument("--seconds", type=float, default=10.0, help="for each input (%(default)s)")
    command.add_argument("--batch", type=int, default=64, help="(%(default)s)")
    command.add_argument("--step-ms", type=float, metavar="MS", help="emulate a device of so long a batch")
    command.add_argument("--threads", type=int, metavar="N", help="that gather and decode (as training does)")
    command.add_argument("--config", metavar="YAML", help="for order, augmentation and the cache's limit")
    command.add_argument("--images", metavar="SRC", help="the PNGs, where they moved since the conversion")
    command.add_argument("--png", metavar="FILE", help="write a chart")
    command.add_argument("--json", action="store_true", help="print JSON")


def _command(commands, name: str, text: str, *, call: str = "") -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    command.set_defaults(call=call or name)
    return command
