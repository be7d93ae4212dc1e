"""`engine ensemble`: several runs become one run directory, by what they say of the validation split.

The test split is never opened. What is asked for again is recognised by the members' models and the settings.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine import backend, metrics
from engine.ensemble import combine, folder, guard, members, results, views
from engine.ensemble import weights as weighting
from engine.ensemble.members import Member
from engine.evaluation import gain, models, predictions
from engine.evaluation.predictions import Predictions
from engine.input.cache import CacheSettings, default_folder
from engine.metrics.bootstrap import check_draws, paired_macro_gain, ranking_intervals
from engine.training.run_directory import CHECKPOINT_NAME, CONFIG_NAME, RUN_NAME
from records import json_text, storage
from records.errors import ConfigError, RunError
from records.manifest import Manifest

_SEED = 0
_VALIDATION_NAME = "validation.csv"


def run(
    run_dirs: Sequence[str],
    output: str,
    *,
    rule: str = combine.PROBABILITIES,
    weights: str = weighting.FITTED,
    soup: bool = False,
    tta: str = views.NONE,
    data: str | None = None,
    overwrite: bool = False,
    draws: int = 1000,
) -> int:
    """Make an ensemble, or a soup, of trained runs.

    Args:
        run_dirs: of the members, two or more.
        output: folder of the result, a run directory.
        rule: of `combine.RULES`: what is averaged.
        weights: of `weights.METHODS`; others than equal ones stand only if they pass `guard`.
        soup: average the weights of the networks instead, which gives one model.
        tta: of `views.VIEWS`: views of each picture that are averaged.
        data: location of the manifest, where it isn't where the members found it.
        overwrite: replace another ensemble in `output`.
        draws: of patients, for the intervals.

    Returns:
        0.

    Raises:
        CxrError: a setting, a member, the data set or the output folder is at fault.
    """
    _check(rule, weights, tta, draws, soup=soup)
    found = members.find(run_dirs)
    place = Path(output)
    folder.check_place(place, found)
    data_set = members.data_set_of(found, data)
    request = _request(found, data_set, draws, soup=soup, rule=rule, weights=weights, tta=tta)
    print_values = results.print_soup if soup else results.print_ensemble
    if folder.is_done(place, request, overwrite=overwrite):
        print(f"{place}: made of these members already; nothing to do", file=sys.stderr)
        print_values(_stored(place, soup=soup), data_set, place)
        return 0
    backend.load()
    with folder.put_in_place(place) as scratch:
        make = _make_soup if soup else _make_ensemble
        values = make(scratch, found, data_set, request)
    print_values(values, data_set, place)
    return 0


def _make_ensemble(
    scratch: Path, found: list[Member], data_set: Manifest, request: dict[str, Any]
) -> dict[str, Any]:
    """Fill the folder of an ensemble; returns its `ensemble.json`."""
    copied = _copied(scratch, found)
    rule, tta, draws = request["rule"], request["tta"], request["draws"]
    said = members.predict(copied, data_set, rule=rule, shown=views.named(tta))
    for member, each in zip(found, said, strict=True):
        predictions.write(scratch / models.MEMBERS_NAME / member.name / _VALIDATION_NAME, each)
    choice = guard.choose(
        np.stack([each.logits for each in said]),
        said[0].labels,
        said[0].patient_ids,
        rule=rule,
        method=request["weights"],
        draws=draws,
    )
    gained = _gain(found, said, choice.chosen.held_out, draws)
    values = results.of_ensemble(found, choice, gained, rule=rule, tta=tta, draws=draws)
    folder.write_json(scratch / models.ENSEMBLE_NAME, values)
    folder.write_note(scratch, data_set, request)
    return values


def _make_soup(
    scratch: Path, found: list[Member], data_set: Manifest, request: dict[str, Any]
) -> dict[str, Any]:
    """Fill the folder of a soup; returns what its `run.json` says of it."""
    from engine.ensemble import soup
    from engine.input.reader import ShardReader
    from engine.model.save import save_model

    model = soup.average([member.model for member in found])
    cached = CacheSettings(default_folder(), found[0].cache_bytes)
    print("reading training pictures for batch normalisation ...", file=sys.stderr, flush=True)
    with ShardReader(data_set, "train", cache_settings=cached) as reader:
        pictures = soup.renew_batch_norm(model, reader)
    save_model(model, scratch / CHECKPOINT_NAME)
    storage.write_bytes(str(scratch / CONFIG_NAME), (found[0].run_dir / CONFIG_NAME).read_bytes())
    values = _judge_soup(scratch / CHECKPOINT_NAME, found, data_set, pictures, request["draws"])
    folder.write_note(scratch, data_set, request, soup=values)
    return values


def _judge_soup(
    path: Path, found: list[Member], data_set: Manifest, pictures: int, draws: int
) -> dict[str, Any]:
    """Compare a soup with its members and with their ensemble, on validation."""
    stirred = dataclasses.replace(
        found[0], name="", run_dir=path.parent, model=path, sha256=models.hash_file(path)
    )
    *said, own = members.predict([*found, stirred], data_set, rule=combine.PROBABILITIES)
    together = combine.combine([each.logits for each in said], combine.PROBABILITIES)
    judged = [
        ranking_intervals(own.labels, logits, own.patient_ids, draws=draws).macro_auroc
        for logits in (own.logits, together)
    ]
    return results.of_soup(
        found,
        _gain(found, said, own.logits, draws),
        macro_auroc=judged[0],
        ensemble=judged[1],
        gain_over_ensemble=paired_macro_gain(own.labels, own.logits, together, own.patient_ids, draws=draws),
        pictures=pictures,
        draws=draws,
    )


def _gain(
    found: Sequence[Member], said: Sequence[Predictions], logits: np.ndarray, draws: int
) -> dict[str, Any]:
    """Hold (N, F) logits against the best and the mean member."""
    of_members = {member.name: each.logits for member, each in zip(found, said, strict=True)}
    values = [metrics.macro(metrics.auroc(each.labels, each.logits)) for each in said]
    # Where nothing is defined, the first one stands in.
    best = found[int(np.argmax(np.nan_to_num(values)))].name
    own = dataclasses.replace(said[0], logits=logits)
    return gain.judge(own, of_members, best, draws=draws, seed=_SEED)


def _copied(scratch: Path, found: Sequence[Member]) -> list[Member]:
    """Copy the members; returns them with the copies' models, which are what is predicted with."""
    copied = []
    for member in found:
        into = scratch / models.MEMBERS_NAME / member.name
        folder.copy_member(member, into)
        model = into / CHECKPOINT_NAME
        if models.hash_file(model) != member.sha256:
            raise RunError(
                f"{member.run_dir}: its model changed meanwhile; wait until its training has ended"
            )
        copied.append(dataclasses.replace(member, model=model))
    return copied


def _request(
    found: Sequence[Member], data_set: Manifest, draws: int, *, soup: bool, rule: str, weights: str, tta: str
) -> dict[str, Any]:
    """What decides on the result; of a soup, rule, weights and views don't."""
    settings = {} if soup else {"rule": rule, "weights": weights, "tta": tta}
    return {
        "kind": folder.SOUP if soup else folder.ENSEMBLE,
        "members": [[member.name, member.sha256] for member in found],
        "manifest_sha256": data_set.sha256,
        "draws": draws,
        **settings,
    }


def _stored(place: Path, *, soup: bool) -> dict[str, Any]:
    values = json_text.parse((place / (RUN_NAME if soup else models.ENSEMBLE_NAME)).read_bytes())
    return values["soup"] if soup else values


def _check(rule: str, weights: str, tta: str, draws: int, *, soup: bool) -> None:
    for flag, value, known in (("--rule", rule, combine.RULES), ("--weights", weights, weighting.METHODS)):
        if value not in known:
            raise ConfigError(f"{flag} is `{value}`; expected one of {', '.join(known)}")
    views.named(tta)
    check_draws(draws)
    if soup and tta != views.NONE:
        raise ConfigError(f"--tta {tta} is an ensemble's; a soup is one model of its own")
