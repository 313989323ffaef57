"""The students of a sweep: which to try, and how finished ones are kept, however the sweep is stopped."""

import json
import math
import time
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from pipeline.atomic import write_json
from pipeline.checkpoints import input_shapes, save_network
from pipeline.evaluation.scoring import score
from pipeline.manners import Advance
from pipeline.project.class_spec import ParamsError
from pipeline.project.dependencies import class_code_digest
from pipeline.project.params import Params, specs_in
from pipeline.project.sections import PARTS, FilledStudent, Range, Student, Sweep
from pipeline.project.sweep_problems import swept
from pipeline.seeds import derive_seed
from pipeline.stores.layout import canonical, digest
from pipeline.stores.store import Store
from pipeline.sweeps.leaderboard import Record, size_of
from pipeline.tasks.task import Task
from pipeline.training.distilling import distil, stream_key
from pipeline.training.learning import Curve, quality

CANNOT = ParamsError, ValueError, RuntimeError  # from a student that cannot be built, or cannot learn from its store

Choice = dict[str, Any]  # {dotted key of a student, or seed: value}


@dataclass(frozen=True)
class Candidate:
    """A student to train; its name is the digest of all that it depends on."""

    name: str
    choice: Choice
    spec: Student  # as it would be in params
    student: FilledStudent
    seed: int


@final
@dataclass
class Trials:
    """Trains what is asked for, once: a finished student is in `scratch`, its record written last.

    stores: {reads: store}. advance: called with the number of updates done, over all networks.
    """

    params: Params
    stores: dict[str, Store]
    val: Store
    test: Store
    scratch: Path
    advance: Advance

    def __post_init__(self) -> None:
        assert self.params.sweep
        self.sweep: Sweep = self.params.sweep
        self.tasks: dict[str, Task] = self.params.build_tasks()
        self.known: dict[bytes, Record] = {}  # by choice
        self.curves: dict[str, list[float]] = {}  # of quality, by name

    def finish(self, choices: list[Choice]) -> list[Record]:
        """Records of these students, trained now if they never were. Raises ParamsError."""
        hurdles = hurdles_after(list(self.curves.values()), self.sweep.keep)
        candidates = [self.candidate(choice, hurdles) for choice in choices]
        keys = [canonical(choice) for choice in choices]  # by choice: names differ with hurdles
        new_candidates = {key: candidate for key, candidate in zip(keys, candidates, strict=True) if key not in self.known}
        missing = {candidate.name: candidate for candidate in new_candidates.values() if not self.file(candidate.name).exists()}
        asked_updates = sum(updates_of(candidate.student) for candidate in candidates)
        missing_updates = sum(updates_of(candidate.student) for candidate in missing.values())
        self.advance(asked_updates - missing_updates, skipped=True)
        for _, group in groupby(sorted(missing.values(), key=by_stream), key=by_stream):
            self.train(list(group), hurdles)
        for key, candidate in new_candidates.items():
            record = json.loads(self.file(candidate.name).read_text()) | {"choice": candidate.choice}  # not an earlier sweep's
            self.known[key], self.curves[candidate.name] = record, self.qualities(record)
        return [self.known[key] for key in keys]

    def file(self, name: str) -> Path:
        return self.scratch / name / "record.json"

    def qualities(self, record: Record) -> list[float]:
        """A student's quality at every evaluation that it reached; none if it diverged."""
        return [quality(self.tasks, point) for point in record["curve"]]

    def candidate(self, choice: Choice, hurdles: list[float]) -> Candidate:
        params, seed = self.params, choice.get("seed", 0)
        spec, student = swept(params, choice)
        student_keys = {*PARTS, "seeds", "batch_size", "learning_rate"}
        settings = params.distill.model_dump(exclude=student_keys)
        tasks = {task: params.tasks[task].as_dict() for task in student.tasks}
        splits = [store.digest for store in (self.stores[student.reads], self.val, self.test)]
        code = class_code_digest(specs_in("", student).values())
        dependencies = [as_plain(student), seed, params.seed, params.device, settings, tasks, splits, hurdles, code]
        return Candidate(digest(dependencies)[:10], choice, spec, student, seed)

    def train(self, candidates: list[Candidate], hurdles: list[float]) -> None:
        """Train candidates of one stream together."""
        first, start = candidates[0].student, time.perf_counter()
        store = self.stores[first.reads]
        students = [(candidate.student, candidate.seed) for candidate in candidates]
        try:
            networks_and_curves = distil(self.params, students, first.tasks, store, self.val, self.advance, hurdles)
        except CANNOT:
            self.name_culprit(candidates)
            raise
        seconds = (time.perf_counter() - start) / len(candidates)
        for candidate, (network, curve) in zip(candidates, networks_and_curves, strict=True):
            folder, shapes = self.scratch / candidate.name, input_shapes(store)
            about = {
                "name": candidate.name,
                "seed": candidate.seed,
                "choice": candidate.choice,
                "reads": first.reads,
                "learned_from": store.digest,
            }
            about["student"] = candidate.spec.model_dump(by_alias=True, exclude_unset=True)
            save_network(folder / "student.safetensors", network, candidate.student.encoder, self.params.tasks, shapes, **about)
            update_counts = {"updates": candidate.student.updates, "head_updates": candidate.student.head_updates}
            scores = {"curve": curve, "test": score(network, self.tasks, self.test) if curve else {}}
            outcome = {"state": state(candidate.student, curve), **update_counts, "seconds": seconds}
            write_json(self.file(candidate.name), {**about, **size_of(network, shapes), **scores, **outcome})

    def name_culprit(self, candidates: list[Candidate]) -> None:
        """Raises ValueError for the first of these that fails by itself, on one update."""
        for candidate in candidates:
            single_update = {"updates": 1, "head_updates": min(1, candidate.student.head_updates)}
            student = candidate.student.model_copy(update=single_update)
            store = self.stores[student.reads]
            try:
                distil(self.params, [(student, candidate.seed)], student.tasks, store, self.val, lambda updates: None)
            except CANNOT as error:
                raise ValueError(f"sweep, {candidate.choice}: {error}") from error


def by_stream(candidate: Candidate) -> str:
    return json.dumps(stream_key(candidate.student))


def updates_of(student: FilledStudent) -> int:
    return student.updates + student.head_updates


def state(student: FilledStudent, curve: Curve) -> str:
    """finished, diverged, or stopped by a hurdle at an evaluation."""
    if not curve:
        return "diverged"
    return "finished" if curve[-1]["update"] == updates_of(student) else "stopped"


def as_plain(student: FilledStudent) -> dict[str, Any]:
    return {key: value.as_dict() if hasattr(value, "as_dict") else value for key, value in dict(student).items()}


def hurdles_after(qualities: list[list[float]], keep: float) -> list[float]:
    """At each evaluation, the score that the best `keep` of earlier students reached: successive halving (1810.05934).

    Earlier ones, not those that train alongside: what stops must not depend on which thread is faster. qualities: of every
    student, at every evaluation that it reached.
    """
    if keep == 1:
        return []
    columns = zip_longest(*qualities)
    scores = [sorted((score for score in column if score is not None), reverse=True) for column in columns]
    return [column[math.ceil(keep * len(column)) - 1] for column in scores]


def total_updates(sweep: Sweep, start: FilledStudent) -> int:
    """Updates, as far as they can be known before: a search may vary them, and stop students."""
    if sweep.sampler == "grid":
        parts = ("updates", "head_updates")
        return sum(choice.get(part, getattr(start, part)) for choice in sweep.combinations() for part in parts)
    return (sweep.students or 0) * updates_of(start)


def run(trials: Trials) -> list[Record]:
    """All students of a sweep, each once, in the order in which they were first asked for."""
    sweep = trials.sweep
    if sweep.sampler == "grid":
        choices = sweep.combinations()
        choices.sort(key=lambda choice: by_stream(trials.candidate(choice, [])))
        for first in range(0, len(choices), sweep.together):
            trials.finish(choices[first : first + sweep.together])
    else:
        search(trials, sweep, derive_seed(trials.params.seed, "sweep") % 2**32)
    return list({record["name"]: record for record in trials.known.values()}.values())


def search(trials: Trials, sweep: Sweep, seed: int) -> None:
    """Optuna's proposals, as many at a time as train together; the same from the same seed and the same results.

    tpe: for quality (Bergstra et al. 2011). nsga2: for quality and few parameters (Deb et al. 2002), a generation at a time.
    """
    assert sweep.students
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if sweep.sampler == "tpe":
        tpe = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=tpe)
    else:
        nsga2 = optuna.samplers.NSGAIISampler(seed=seed, population_size=sweep.together)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=nsga2)
    space = {key: distribution(values) for key, values in sweep.vary.items()}
    for first in range(0, sweep.students, sweep.together):
        proposals = [study.ask(space) for _ in range(min(sweep.together, sweep.students - first))]
        records = trials.finish([chosen(sweep, trial.params) for trial in proposals])
        for trial, record in zip(proposals, records, strict=True):
            tell(study, trial, trials.qualities(record), record)


def distribution(values: list[Any] | Range) -> BaseDistribution:
    if isinstance(values, list):
        return CategoricalDistribution(range(len(values)))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def chosen(sweep: Sweep, trial_params: dict[str, Any]) -> Choice:
    """A trial's values; of a list, Optuna knows only indices."""
    return {
        key: values[trial_params[key]] if isinstance(values, list) else trial_params[key] for key, values in sweep.vary.items()
    }


def tell(study: optuna.Study, trial: optuna.Trial, qualities: list[float], record: Record) -> None:
    if not qualities:
        study.tell(trial, state=TrialState.FAIL)
    elif len(study.directions) == 2:
        study.tell(trial, [qualities[-1], record["parameters"]])
    else:
        for step, value in enumerate(qualities):
            trial.report(value, step)
        study.tell(trial, state=TrialState.PRUNED) if record["state"] == "stopped" else study.tell(trial, qualities[-1])
