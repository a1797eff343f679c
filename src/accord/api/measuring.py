"""Functions about finished models: evaluate, generate, report, export; and those that make rows of
a model's own answers: sample, score, pair.

A model is a run (its folder or its result), a model's or adapter's folder, "smollm2", or a loaded
model of transformers with its tokenizer, which is saved into a temporary folder while the function
works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import fspath
from pathlib import Path as FilePath
from typing import Any

from accord.api.given import named_model, path_or_none
from accord.api.guard import public
from accord.api.kinds import Columns, Fields, Model, Names, Path, Prompts, Rewards, Rows, Tokenizer
from accord.api.outcomes import Answers, Outcome
from accord.api.progress import sayer
from accord.api.warned import warn
from accord.assess.answers import Drawing
from accord.assess.evaluation import Request
from accord.assess.evaluation import evaluate as measure
from accord.assess.generation import Sampling, answer_lines
from accord.assess.generation import generate as answer
from accord.assess.handover import export_for
from accord.assess.judging import judging_of
from accord.assess.rollouts import pair_file, sample_file, score_file
from accord.assess.show import lines
from accord.data.containers import is_there
from accord.data.memory import as_name, is_path, require_rows
from accord.data.naming import Naming
from accord.errors import UsageError, plural, shorten
from accord.pages.run import report_notes, write_report
from accord.rollouts.pairing import Pairing

DTYPES = (None, "float32", "bfloat16")


@public
def evaluate(
    model: Model,
    data: Rows | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    reference: Path | None = None,
    beta: float | None = None,
    rows: int | None = None,
    samples: int = 64,
    max_new_tokens: int = 64,
    judge: str | None = None,
    judge_set: Fields | None = None,
    judge_model: str | None = None,
    judge_timeout: float | None = None,
    judge_max_tokens: int | None = None,
    against: Path | None = None,
    perplexity: Path | None = None,
    output: Path | None = None,
    dtype: str | None = None,
    template: str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Outcome:
    """Measure held-out accuracy, margin, calibration, KL and length, each with its interval.

    Args:
      model: a run, a folder, a name, or a loaded model (with `tokenizer`).
      data: held-out pairs or labels: a path, a list of dicts, a DataFrame, or a Dataset; default:
        the run's own.
      columns, ignore_columns: as for `accord.audit`.
      reference: a model, or "adapter_off"; default: what the run started from.
      beta: β of the implicit reward of a model that is no run, per nat; default .1.
      rows: evaluate on so many rows, drawn by the seed.
      samples: prompts that get a fresh answer; 0: none.
      max_new_tokens: longest fresh answer, in tokens.
      judge: win rate of fresh answers: "vader", a reward model's folder, "module:function", or an
        address. judge_set: its options, {"NAME.KEY": value}.
      judge_model, judge_timeout, judge_max_tokens: of an address: the model that it serves, seconds
        (default 60) and tokens (default 1024) of a reply.
      against: a model or run whose answers are the other side; default: the reference.
      perplexity: texts (.txt) or rows that should not be forgotten.
      output: folder for evaluation.json and examples.parquet; default: in the run.
      dtype: "float32" or "bfloat16"; default: the run's, or what the machine computes in.
      template: "auto", "raw", or a Jinja file; default: the run's.
      seed: seed of every draw.
      verbose: print lines of progress on standard error.

    Returns:
      The figures; `folder` is where they were written, None if nowhere. A judge that fails is a
      warning, and the other figures stand.
    """
    _require_dtype(dtype)
    judging = judging_of(
        judge,
        judge_model,
        timeout=judge_timeout,
        max_tokens=judge_max_tokens,
        against=path_or_none(against),
        options=reward_options(judge_set, "judge_set"),
    )
    with ExitStack() as stack:
        name = stack.enter_context(named_model(model, tokenizer))
        request = Request(
            None if data is None else stack.enter_context(as_name(data, "data")),
            path_or_none(reference),
            beta,
            rows,
            Drawing(samples, max_new_tokens, seed),
            path_or_none(output),
            dtype,
            template,
            judging,
            path_or_none(perplexity),
            Naming.of(columns, ignore_columns),
        )
        found, folder = measure(name, request, sayer(verbose))
    if failed := found.get("win_rate", {}).get("failed"):
        warn(
            f"{failed}\nThe other figures stand. The same call asks for the missing verdicts alone."
        )
    return Outcome(f"accord evaluation of {_title(model)}", found, lines(found), folder=folder)


@public
def generate(
    model: Model,
    prompts: Prompts | None = None,
    *,
    prompt: str | None = None,
    tokenizer: Tokenizer | None = None,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    k: int = 8,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    limit: int | None = None,
    output: Path | None = None,
    dtype: str | None = None,
    template: str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Answers:
    """Draw K answers to each prompt; the same seed gives the same answers.

    Args:
      model: a run, a folder, a name, or a loaded model (with `tokenizer`).
      prompts: a file, a list of texts or of dicts, a DataFrame, or a Dataset.
      prompt: one prompt as a text, instead.
      columns, ignore_columns: as for `accord.audit`.
      k: answers to each prompt; the prompt is computed once.
      max_new_tokens: longest answer, in tokens.
      temperature: 0 takes the likeliest token.
      top_p: sample from the smallest set of tokens with this probability.
      limit: answer the first so many prompts.
      output: JSONL file to write; must not exist. Without it, the answers are returned.
      dtype, template, seed, verbose: as for `accord.evaluate`.

    Returns:
      The figures; `texts` has the answers, `["rows"]` each with its log-prob (nats).
    """
    _require_dtype(dtype)
    if prompts is not None and prompt is not None:
        raise UsageError("prompts and prompt are both given. Leave one of the two out.")
    if prompts is None and prompt is None:
        raise UsageError("Give prompts=… (a file, or a list) or prompt='…' (one text).")
    with ExitStack() as stack:
        if prompts is not None:
            _require_prompts(prompts, "A prompt itself is prompt=…, several are prompts=[…].")
        name = stack.enter_context(named_model(model, tokenizer))
        figures, rows = answer(
            name,
            prompts=None if prompts is None else stack.enter_context(as_name(prompts, "prompts")),
            prompt=prompt,
            naming=Naming.of(columns, ignore_columns),
            sampling=Sampling(k, max_new_tokens, temperature, top_p, seed),
            output=path_or_none(output),
            limit=limit,
            dtype=dtype,
            template=template,
            say=sayer(verbose),
        )
    said = [line for row in rows for line in answer_lines(row)]
    said += [f"{output}: {plural(figures['prompts'], 'row')}"] if output is not None else []
    record = {**figures, "rows": rows} if rows else figures
    return Answers(f"accord answers of {_title(model)}", record, said)


@public
def report(*runs: Path | Sequence[Path], output: Path | None = None) -> FilePath:
    """Write one self-contained HTML page about runs: the verdict, curves, flags, pairs token by
    token, samples.

    Args:
      runs: folders or results of runs, or a list of them; several stand side by side.
      output: the HTML file (.html), in a folder that is there; default: report.html in the run's
        folder.
    """
    if not runs:
        raise UsageError("report: give a run, such as accord.report(result).")
    # a list of them is spread already
    paths = [fspath(run) for run in runs if not isinstance(run, Sequence) or isinstance(run, str)]
    for note in report_notes(paths):
        warn(note)
    return write_report(paths, path_or_none(output))


@public
def export(
    run: Path,
    output: Path | None = None,
    *,
    merge: bool = False,
    checkpoint: str = "latest",
    dtype: str | None = None,
    merge_into: str | None = None,
    harness: str | None = None,
    push: str | None = None,
) -> FilePath:
    """Write a run's model as a folder that transformers, PEFT and vLLM load.

    Args:
      run: the run's folder, or its result.
      output: the folder to write; must not exist. Default: in the run's folder.
      merge: one model, the adapters merged into it.
      checkpoint: "latest", or "best" by held-out score.
      dtype: what `merge` rounds to, "float32" or "bfloat16"; default: the run's own, or float32
        where that would change more than 5 % of what the adapter does.
      merge_into: of a quantised base, "dequantised" (as it was trained on, the default), or
        "original" (as it was saved).
      harness: "lm-eval" or "inspect-ai": refuse an export that it could not load.
      push: "hub:org/name": send it to a hub too, with its card. The token is in the environment
        variable HF_TOKEN alone.

    Returns:
      The folder, read back from disk and compared.
    """
    made = export_for(
        fspath(run),
        path_or_none(output),
        merge=merge,
        which=checkpoint,
        dtype=dtype,
        harness=harness,
        push=push,
        into=merge_into,
    )
    for note in made.done.notes:
        warn(note)
    return made.done.folder


@public
def sample(
    model: Model,
    prompts: Prompts,
    output: Path,
    *,
    tokenizer: Tokenizer | None = None,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    k: int = 4,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    limit: int | None = None,
    dtype: str | None = None,
    template: str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Outcome:
    """Draw K answers to each prompt, to be scored; if it is stopped, the same call continues it.

    Args:
      output: JSONL file to write; must not exist.
      model, prompts, k, …: as for `accord.generate`.
    """
    _require_dtype(dtype)
    _require_prompts(prompts, "Prompts themselves are a list: prompts=[…].")
    with named_model(model, tokenizer) as name, as_name(prompts, "prompts") as asked:
        done = sample_file(
            name,
            asked,
            fspath(output),
            Sampling(k, max_new_tokens, temperature, top_p, seed),
            naming=Naming.of(columns, ignore_columns),
            limit=limit,
            dtype=dtype,
            template=template,
            say=sayer(verbose),
        )
    said = f"{fspath(output)}: {plural(done['answers'], 'answer')} to {done['prompts']:,} prompts"
    return Outcome("accord sample", done, [said])


@public
def score(
    answers: Rows,
    output: Path,
    reward: Rewards,
    *,
    set: Fields | None = None,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    verbose: bool = False,
) -> Outcome:
    """Score every answer with the weighted sum of rewards. An answer without a reward is counted
    with the reason; it does not become 0.

    Args:
      answers: what `accord.sample` wrote: a path, or its rows.
      output: JSONL file to write; must not exist.
      reward: one or several of NAME or NAME=WEIGHT: "vader", "length=-0.001", "module:function", a
        reward model's folder; or their weights: {"vader": 1, "length": -0.001}.
      set: options of a reward: {"NAME.KEY": value}.
      columns, ignore_columns: as for `accord.audit`.
      verbose: print lines of progress on standard error.
    """
    naming = Naming.of(columns, ignore_columns)
    with as_name(answers, "answers") as name:
        options = reward_options(set, "set")
        done = score_file(name, fspath(output), list(reward), options, sayer(verbose), naming)
    said = (
        f"{fspath(output)}: {plural(done['answers'], 'answer')} = {done['rewarded']:,} with a"
        " reward +"
        f" {done['missing']:,} without"
    )
    return Outcome("accord score", done, [said])


@public
def pair(
    scored: Rows,
    output: Path,
    *,
    policy: str = "best_worst",
    margin: float = 0.0,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Outcome:
    """Pair scored answers into rows that `accord.train` reads; ties make no pair, and are counted.

    Args:
      scored: what `accord.score` wrote: a path, or its rows.
      output: JSONL file to write; must not exist.
      policy: "best_worst", "best_random", "hard" (the best of the worse ones), or "margin" (every
        two).
      margin: least difference of two rewards.
      columns, ignore_columns: as for `accord.audit`.
      seed: seed of every draw.
      verbose: print lines of progress on standard error.
    """
    naming = Naming.of(columns, ignore_columns)
    with as_name(scored, "scored") as name:
        pairing = Pairing(policy, margin, seed)
        done = pair_file(name, fspath(output), pairing, sayer(verbose), naming)
    said = f"{fspath(output)}: {plural(done['pairs'], 'pair')} of {done['prompts']:,} prompts"
    return Outcome("accord pair", done, [said])


def _require_prompts(prompts: Any, otherwise: str) -> None:
    """Require prompts that can be read, before the model is loaded.

    Raises:
      UsageError: a text that names no file, or no prompt in memory.
    """
    if isinstance(prompts, str) and not is_there(prompts):
        raise UsageError(f"prompts={shorten(prompts, 60)!r} is no file. {otherwise}")
    require_rows(prompts, "prompts")


def _require_dtype(dtype: str | None) -> None:
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r}: expected float32 or bfloat16.")


def reward_options(given: Mapping[str, object] | None, what: str) -> dict[str, dict[str, object]]:
    """Return options by the name of a reward, which may hold dots itself."""
    found: dict[str, dict[str, object]] = {}
    for path, value in (given or {}).items():
        name, dot, key = path.rpartition(".")
        if not dot:
            raise UsageError(
                f"{what}={{{path!r}: …}}: expected {{'NAME.KEY': value}}, such as"
                " {'format.pattern': '<a>.*</a>'}."
            )
        found.setdefault(name, {})[key] = value
    return found


def _title(model: Any) -> str:
    return fspath(model) if is_path(model) else f"a loaded {type(model).__name__}"
