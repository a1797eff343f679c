"""`accord eval`: a model on held-out rows and on fresh answers, every figure with its interval.

open ─▶ rows ─▶ forward path, reference ─▶ records ─▶ figures of rows ─▶ fresh answers ─▶ judge ─▶
perplexity ─▶ file
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from accord.assess import rows as measured
from accord.assess.anchor import EvalReference, choose_eval_forward, choose_eval_reference
from accord.assess.answers import Drawing, Side, divergence, questions, sample_figures, sides
from accord.assess.forgetting import perplexity
from accord.assess.judging import Judging, contests_of, judged_figures, make_judge
from accord.assess.opened import OpenModel, open_model
from accord.assess.soundness import few_rows, growth, language, lengths
from accord.auditing.trained import seen_by
from accord.config.schema import Config
from accord.data.joined import joined
from accord.data.naming import PLAIN, Naming
from accord.data.prompts import Question
from accord.data.rows import Rows, reading_record
from accord.data.token_digest import trees_digest
from accord.evaluate.held_out import HeldOut
from accord.evaluate.records import Records
from accord.models import fingerprint
from accord.objectives import BoundObjective, resolve
from accord.objectives.configured import resolve_objective
from accord.rewards.judges.verdict import Judge
from accord.runs import held_out_rows
from accord.runs.display import SilentDisplay
from accord.runs.files import write_json, writing
from accord.runs.identity import OTHER_TOKENS
from accord.runs.lineage import held_out_file, held_out_tokens
from accord.sampling.sampler import Sample
from accord.training.setup.rows import held_out_of, load_evaluated, load_rows
from accord.types import DataError, UsageError
from accord.verify.reward_rows import take_margins

NAME = "evaluation.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """The options of an evaluation; None leaves a value to the run."""

    data: str | None = None
    reference: str | None = None
    beta: float | None = None
    rows: int | None = None
    drawing: Drawing = field(default_factory=Drawing)
    output: str | None = None
    dtype: str | None = None
    template: str | None = None
    judging: Judging | None = None
    perplexity: str | None = None
    naming: Naming = PLAIN  # of the columns; without names, the run's apply where the file has them


@dataclass
class Session:
    """A model and its rows, ready to be measured."""

    opened: OpenModel
    rows: Rows
    ruler: measured.RowMeasurer
    anchor: EvalReference | None
    kind: str  # "pairs" or "labelled"


def evaluate(name: str, request: Request, say: Say = lambda text: None) -> tuple[dict, Path | None]:
    """Measure a model. Return the evaluation, and the folder that it was written to (None if it was
    not written).

    Raises:
      AccordError: no such model, unusable rows, options that do not fit together.
    """
    # refuse a bad judge before the work begins, and one whose replies cannot be read
    judge = make_judge(request.judging) if request.judging is not None else None
    for line in judge.try_out() if judge is not None else ():
        say(line)
    opened = open_model(name, dtype=request.dtype, template=request.template)
    target = folder_of(opened, request.output)
    say(f"{name}: {opened.weights}")
    session = prepare(opened, request, say)
    bound = binding(session, request)
    found, records, held_out = row_evaluation(session, request)
    found["source"] = _source(session, request)
    found["binding"] = bound
    say(f"{len(held_out.trees):,} {session.kind} measured")
    if request.drawing.prompts:
        found |= fresh(session, request, judge, say)
    if request.perplexity is not None:
        found["perplexity"] = perplexity(
            request.perplexity, opened, session.ruler.forward, session.anchor
        )
    if target is not None:
        _write(target, found, records, held_out, session.rows)
    return found, target


def prepare(opened: OpenModel, request: Request, say: Say) -> Session:
    """Prepare rows, forward path, objective and reference.

    Raises:
      UsageError: options that do not fit together. DataError: no usable row.
    """
    if request.judging is not None and not request.drawing.prompts:
        raise UsageError("--judge reads fresh answers, and --samples 0 draws none.")
    objective = objective_of(opened, request)
    rows, kind = load(opened, request)
    for line in rows.dataset.ledger.lines():
        say(line)
    for reason, count in rows.encoding.reasons.items():
        say(f"  {count:>7,}  not encoded: {reason}")
    if objective is not None:
        found = take_margins(rows, objective, "rows")
        opened.warnings += tuple(each.says for each in found if each.refused)
    opened.learn(language(opened.model, rows.trees))
    opened.warnings += lengths(opened.model, rows.trees)
    if request.drawing.prompts:
        ids = [tree.prompt for tree in rows.trees]
        opened.warnings += growth(opened.model, ids, request.drawing.max_new_tokens)
    policy = choose_eval_forward(opened.model, rows.trees, opened.config.model.forward)
    if objective is not None:
        policy = replace(policy, columns=objective.columns)
    anchor = choose_eval_reference(opened, request.reference, policy, rows.trees)
    # a bare model with a reference: DPO's implicit reward
    if anchor is not None and objective is None:
        objective = resolve("dpo", {"beta": 0.1 if request.beta is None else request.beta})
    elif objective is None:
        if request.beta is not None:
            raise UsageError(
                "--beta scales a log-ratio, and there is no reference. Name one: --reference MODEL."
            )
        objective = resolve("sft", {})
    if (
        request.reference is not None
        and not objective.objective.reference
        and not request.drawing.prompts
        and request.perplexity is None
    ):
        raise UsageError(
            f"--reference: {objective.name} uses none, and with --samples 0 nothing else is"
            " measured against it. Leave it out."
        )
    if anchor is not None and objective.objective.reference:
        say(f"measured against {anchor.says}")
    reference = anchor.reference if anchor is not None and objective.objective.reference else None
    return Session(opened, rows, measured.RowMeasurer(policy, objective, reference), anchor, kind)


def binding(session: Session, request: Request) -> dict:
    """Compare the rows with those that the model was trained on, and with those that its run was
    evaluated on: what differs is part of the evaluation.
    """
    opened, dataset = session.opened, session.rows.dataset
    trained = seen_by(opened.name, dataset.examples, dataset.digest)
    warnings = list(opened.warnings)
    if trained.total:
        warnings.append(trained.says())
    then = held_out_file(opened.run) if opened.run is not None else None
    if request.data is None and then not in (None, dataset.digest):
        warnings.append(
            f"{dataset.path} is not as it was when the run was evaluated on it (sha256 {then[:16]}"
            f" then, {dataset.digest[:16]} now): figures do not compare with the run's own"
        )
    elif then == dataset.digest and _other_tokens(session, request):
        warnings.append(
            f"the rows of {dataset.path} give other tokens than when the run was evaluated on them:"
            f" {OTHER_TOKENS}, or another tokenizer"
        )
    warnings += few_rows(session.rows.trees)
    notes = list(opened.notes)
    if request.data is not None and then not in (None, dataset.digest):
        notes.append(_other_file(session, then))
    return {
        "trained_on": trained.as_dict(),
        "says": trained.says(),
        "warnings": warnings,
        "notes": notes,
    }


def _other_file(session: Session, then: str) -> str:
    """Say that the rows are of another file than the run's own held-out ones. A run keeps the
    file's sha256 and that of its tokens in order, so a file of some of the rows, or of another
    order, cannot be told from one of others.
    """
    path, run = session.rows.dataset.path, session.opened.run
    assert run is not None, "only a run has a held-out file of its own"
    if held_out_tokens(run) == trees_digest(session.rows.trees):
        return f"{path} is another file than the run was evaluated on, and holds the same rows"
    return (
        f"{path} is another file than the one that the run was evaluated on (sha256 {then[:16]}):"
        " its rows may be others, fewer or in another order, and figures of other rows do not"
        " compare with the run's own"
    )


def _other_tokens(session: Session, request: Request) -> bool:
    """Tell whether the run's own held-out rows give other tokens than in the run. Where tokenizer
    or template were named already, or the run read the rows otherwise, there is nothing to tell.
    """
    opened = session.opened
    alike = session.ruler.objective.objective.rows != "demonstrations" and not opened.other_text
    if opened.run is None or opened.config.rollouts is not None or request.naming != PLAIN:
        return False
    then = held_out_tokens(opened.run)
    return alike and then not in (None, trees_digest(session.rows.trees))


def objective_of(opened: OpenModel, request: Request) -> BoundObjective | None:
    """Return the run's own objective; None for a bare model.

    Raises:
      UsageError: --beta for a run, which has its own.
    """
    if opened.run is None:
        return None
    if request.beta is not None:
        raise UsageError(
            f"--beta: {opened.name} was trained with {opened.config.objective}, and is measured"
            " with that. Leave it out."
        )
    return resolve_objective(opened.config)


def load(opened: OpenModel, request: Request) -> tuple[Rows, str]:
    """Read the rows as pairs, or as labelled rows if they are not pairs.

    Raises:
      UsageError: no file is named. DataError: neither kind can be read.
    """
    path, several = request.data, opened.config.data.held_out_files
    if path is None and not several:
        path = opened.config.held_out_file
    if path is None and not several:
        raise UsageError(
            f"Nothing to evaluate on: {opened.name} names no held-out file. Give one: --data FILE."
        )
    config = _with_rows(opened.config, request.rows)
    naming = request.naming
    if path is None and naming != PLAIN:
        raise UsageError(
            "--columns, --ignore-columns and --format are of one file, and this run has several"
            " held-out files with columns of their own. Name the one: --data FILE."
        )
    if naming == PLAIN:
        naming = Naming(config.data.columns, config.data.ignore_columns, lenient=True)

    def rows(kind: str) -> Rows:
        if path is None:
            return joined(load_evaluated(config, kind, opened.template, SilentDisplay()))
        return load_rows(config, path, kind, opened.template, SilentDisplay(), naming=naming)

    try:
        return rows("pairs"), "pairs"
    except DataError as no_pairs:
        try:
            return rows("labelled"), "labelled"
        except DataError as no_labels:
            # rows that are labelled have a reason of their own, and are no pairs either
            labelled = "labelled, not paired" in str(no_pairs)
            raise (no_labels if labelled else no_pairs) from None


def _with_rows(config: Config, rows: int | None) -> Config:
    """Return the config with the requested number of held-out rows, or with all of them. The number
    that training used does not matter.
    """
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"rows": rows})})


def row_evaluation(session: Session, request: Request) -> tuple[dict, Records, HeldOut]:
    """Compute the records of every row, and the figures that follow from them."""
    objective = session.ruler.objective
    held_out = held_out_of(_with_rows(session.opened.config, request.rows), session.rows, objective)
    held_out.kind = session.kind
    records = session.ruler.records(held_out)
    width = measured.tie_width(session.ruler, held_out, records) if session.kind == "pairs" else 0.0
    if session.kind == "labelled":
        return (
            {"labelled": measured.label_figures(records, held_out, objective, width)},
            records,
            held_out,
        )
    figures = measured.pair_figures(records, held_out, objective, width)
    table = held_out_rows.table(0, records, held_out, session.rows)
    figures["slices"] = measured.slice_figures(
        table, measured.margins_of(records), held_out.prompts, width
    )
    return {"pairs": figures}, records, held_out


def fresh(session: Session, request: Request, judge: Judge | None, say: Say) -> dict:
    """Draw answers of the model and of its reference to the same prompts. Add a judge's verdicts if
    there is a judge.
    """
    drawing, policy = request.drawing, session.ruler.forward
    asked, ids, columns = questions(session.rows, session.opened, drawing)
    turns = [one.turns for one in asked]
    if not asked:
        return {
            "answers": {
                "prompts": 0,
                "says": "no prompt leaves room for an answer in the model's positions",
            }
        }
    own_side, other_side = sides(session.opened, session.anchor, policy)
    say(f"{len(turns):,} fresh answers of at most {drawing.max_new_tokens} tokens")
    own = own_side.answer(asked, drawing)
    other = other_side.answer(asked, drawing) if other_side is not None else None
    found = sample_figures(own, other, drawing.max_new_tokens) | {
        "max_new_tokens": drawing.max_new_tokens,
        "seed": drawing.seed,
    }
    if session.anchor is not None:
        found |= {"kl": divergence(policy, session.anchor, ids, own), "kl_to": session.anchor.says}
    if judge is None:
        return {"answers": found}
    assert request.judging is not None, "a judge was asked for"
    against, theirs = _opponent(request.judging, drawing, other_side, other, asked)
    say(f"judged by {judge.name}, against {against}")
    return {
        "answers": found,
        "win_rate": judged_figures(
            judge, against, contests_of(turns, own, theirs, columns), drawing.seed
        ),
    }


def _opponent(
    judging: Judging,
    drawing: Drawing,
    side: Side | None,
    answers: list[Sample] | None,
    asked: list[Question],
) -> tuple[str, list[Sample]]:
    """Choose the opponent for the judge: the model of --against, else the reference.

    Raises:
      UsageError: there is neither.
    """
    name = judging.against
    if name is not None:
        other = open_model(name)
        return name, Side(name, other.model, nullcontext, other.template).answer(asked, drawing)
    if side is None or answers is None:
        raise UsageError(
            "--judge compares answers with another model's, and there is no reference. Name one:"
            " --against MODEL."
        )
    return side.name, answers


def folder_of(opened: OpenModel, output: str | None) -> Path | None:
    """Choose the folder of the evaluation: --output, else the first free name in the run's folder.
    A bare model has none.

    Raises:
      UsageError: it exists.
    """
    if output is not None:
        target = Path(output).expanduser()
        if target.exists():
            raise UsageError(f"{output} exists already. Choose another: --output DIR.")
        return target
    if opened.run is None:
        return None
    number = 1
    while (
        target := opened.run.path / ("evaluation" if number == 1 else f"evaluation-{number}")
    ).exists():
        number += 1
    return target


def _write(target: Path, found: dict, records: Records, held_out, rows: Rows) -> None:
    with writing(target):
        target.mkdir(parents=True)
    held_out_rows.write(target, 0, records, held_out, rows)
    write_json(target / NAME, found)


def _source(session: Session, request: Request) -> dict:
    """Record the model, the data and the reference of the evaluation."""
    opened, dataset = session.opened, session.rows.dataset
    return {
        "model": fingerprint.weights(opened.model.network),
        "weights": opened.weights,
        "dtype": str(opened.model.dtype).removeprefix("torch."),
        "data": {
            "sha256": dataset.digest,
            "rows": dataset.ledger.rows,
            "used": len(session.rows.trees),
            "formats": dict(dataset.formats),
            "columns": reading_record(dataset.ledger)["columns"],
        },
        "objective": {"name": session.ruler.objective.name, **session.ruler.objective.options},
        "convention": session.ruler.objective.convention,
        "reference": (
            session.anchor.says
            if session.anchor is not None and session.ruler.reference is not None
            else None
        ),
        "forward": session.ruler.forward.path,
    }
