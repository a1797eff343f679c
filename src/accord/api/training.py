"""Train a run, go on with it, or only check it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from os import fspath
from typing import Any

from accord.api.arguments import checked
from accord.api.given import MODEL, filler, model_name, named_model
from accord.api.guard import public, unknown_keyword
from accord.api.kinds import Columns, Fields, Lora, Model, Names, Path, Recipe, Rows, Tokenizer
from accord.api.outcomes import Outcome
from accord.api.progress import display_for
from accord.api.run_result import Result
from accord.api.words import RENAMED_FLAGS
from accord.config.build import SHORT, build
from accord.config.renamed import TRL_NAMES
from accord.config.schema import DEFAULT_OBJECTIVE, Config, load_recipe
from accord.data.memory import as_name, as_named, require_rows
from accord.errors import UsageError
from accord.migrate.run import place_of
from accord.objectives import OBJECTIVES, POLICY_OBJECTIVES
from accord.objectives.table import other_methods_option
from accord.training.dry_run import lines, record
from accord.training.run import dry_run as check
from accord.training.run import resume as resume_run
from accord.training.run import start

PENDING = "train.jsonl"  # rows in memory, until the run has a folder


@public
def train(
    recipe: Recipe | None = None,
    *,
    model: Model | None = None,
    tokenizer: Tokenizer | None = None,
    data: Rows | None = None,
    held_out: Rows | None = None,
    hold_out: float | None = None,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    method: str | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    output: Path | None = None,
    lora: Lora | None = None,
    adapter: Path | None = None,
    reference: str | None = None,
    max_tokens: int | None = None,
    template: str | None = None,
    dtype: str | None = None,
    on_flag: str | None = None,
    set: Fields | None = None,
    allow: Names = (),
    verbose: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> Result:
    """Train a model on preferences and return the finished run.

        result = accord.train(model="smollm2", data="pairs.jsonl", held_out="test.jsonl",
                              method="dpo", beta=0.1, steps=100)

    None leaves a value to the recipe, and where there is none to the default that is given here.

    Args:
      recipe: a YAML file, or a mapping of the same shape; every other argument wins over it.
      model: "smollm2" (default), a folder in save_pretrained layout, a hub name
        ("hub:org/name@revision"), or a loaded model of transformers together with `tokenizer`. A
        loaded model is saved into the run's folder (its size on disk) and trained from there: your
        object keeps its weights and settings, and the trained weights are in `result.saved`. With
        adapters or quantised weights it is refused.
      tokenizer: the tokenizer of a loaded model.
      data: the preferences: a file or folder of any format, a hub name
        ("hub:org/name@revision#split"), a list of dicts, a DataFrame of pandas, or a Dataset of
        datasets. Rows in memory are saved as data/train.jsonl in the run's folder and read from
        there. Several files: [{"path": "a.jsonl", "weight": 2}, {"path": "b.jsonl"}].
      held_out: rows to evaluate on, never trained on; as `data`, and several files without weights.
        Without them nothing tells whether it worked.
      hold_out: share of the rows to cut off by prompt and evaluate on, in place of `held_out`.
      columns: names of your columns: {"prompt": "question", "chosen": "good"}.
      ignore_columns: columns, or keys of messages, that hold no content.
      method: the objective: "dpo" (default), "ipo", "kto", "simpo", "orpo", … or
        "my_module:my_loss".
      steps: updates to make. epochs: passes over the rows, instead. Default: 1 epoch.
      batch_size: rows per update. Default: 16.
      learning_rate: the peak, per update. Default: the method's own, scaled to the model's width.
      seed: order of the rows, initial adapters, dropout. Default: 0.
      output: the run's folder, which must not exist. Default: a new one under runs/.
      lora: adapters: True (default, rank 16), False trains all weights, a rank, or their
        settings: {"rank": 8}.
      adapter: a LoRA adapter to go on from.
      reference: what the policy is measured against: "auto" (default), "none", "frozen",
        "adapter_off", "cached", "moving", "base".
      max_tokens: longest prompt and answer together, in tokens. Default: 1024.
      template: "auto" (default: the model's chat template), "raw", or a Jinja file.
      dtype: "auto" (default), "float32" or "bfloat16".
      on_flag: what a red flag does: "warn" (default), "stop" or "adapt".
      set: further fields of a recipe by their path: {"train.warmup": 0.2}.
      allow: permissions for what is refused otherwise; the error names them.
      verbose: print every line that the command prints, on standard error.
      progress: one updating line. Default: in a notebook and on a terminal.
      options: the method's own, such as beta (per nat; default 0.1 for dpo), gamma,
        label_smoothing.

    Returns:
      The run. Red flags and warnings are raised through `warnings` (accord.RedFlag,
      accord.DataWarning) as they come, and stand in `result.flags` and `result.warnings`.

    Raises:
      accord.errors.AccordError: of the class of its cause; it says what to change.
    """
    config = config_of(
        recipe,
        dict(
            model=model,
            data=data,
            held_out=held_out,
            hold_out=hold_out,
            columns=columns,
            ignore_columns=ignore_columns,
            method=method,
            steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            output=output,
            lora=lora,
            adapter=adapter,
            reference=reference,
            max_tokens=max_tokens,
            template=template,
            dtype=dtype,
            on_flag=on_flag,
            tokenizer=tokenizer,
            set=set,
            allow=allow,
            **options,
        ),
        "train",
    )
    display = display_for(verbose, progress)
    fill = filler(model, tokenizer, data, held_out)
    return Result.of(start(config, display, fill=fill))


@public
def dry_run(recipe: Recipe | None = None, **keywords: Any) -> Outcome:
    """Make every check of `accord.train` without training or writing anything.

    Args:
      recipe, keywords: as for `accord.train`.

    Returns:
      The checks, the settings as they would run, and two rows as token ids; `lines` has them as the
      model sees them.
    """
    known = checked(train, keywords)
    display = display_for(known.pop("verbose", False), known.pop("progress", None))
    with ExitStack() as stack:
        for name in ("data", "held_out"):
            if known.get(name) is not None and as_named(known[name]) is None:
                known[name] = stack.enter_context(as_name(known[name], name))
        if known.get("model") is not None:
            tokenizer = known.pop("tokenizer", None)
            known["model"] = stack.enter_context(named_model(known["model"], tokenizer))
        ready = check(config_of(recipe, known, "dry_run"), display)
        display.prepared(ready.findings)
        return Outcome("accord dry run", record(ready), lines(ready))


@public
def resume(run: Path, *, verbose: bool = False, progress: bool | None = None) -> Result:
    """Resume a run that was stopped; bit for bit what the uninterrupted run would have done (on a
    CPU). A finished run is left as it is.

    Args:
      run: the run's folder, or its result.
      verbose: print every line that the command prints, on standard error.
      progress: one updating line. Default: in a notebook and on a terminal.

    Raises:
      accord.errors.AccordError: of the class of its cause; it says what to change.
    """
    return Result.of(resume_run(fspath(run), display_for(verbose, progress)))


def config_of(
    recipe: Recipe | None, keywords: Mapping[str, Any], function: str, also: Iterable[str] = ()
) -> Config:
    """Build the config of keywords as `train` has them; what is in memory has a name in it that the
    run's folder will replace.

    Args:
      function: the name of the public function, for messages; `also` are its own keywords.

    Raises:
      UsageError: lists every problem; names the nearest keyword for one that does not exist.
    """
    keywords = checked(train, keywords)
    named_recipe = recipe if recipe is None or isinstance(recipe, Mapping) else fspath(recipe)
    raw = load_recipe(named_recipe) if isinstance(named_recipe, str) else named_recipe
    short = {name: keywords[name] for name in SHORT if keywords.get(name) is not None}
    options = {name: value for name, value in keywords.items() if name not in SIGNATURE}
    _require_known(options, short, short.get("method") or _method_of(raw), function, also)
    named = model_name(short.get("model"), keywords.get("tokenizer"))
    if "model" in short:
        short["model"] = named or MODEL
    for name in ("data", "held_out"):
        if name in short:
            named_data = as_named(short[name])
            if named_data is None:
                require_rows(short[name], name)
            short[name] = PENDING if named_data is None else named_data
    for name in ("output", "adapter"):
        if name in short:
            short[name] = fspath(short[name])
    return build(
        named_recipe,
        options=options,
        fields=keywords.get("set"),
        allow=keywords.get("allow") or (),
        **short,
    )


def _method_of(raw: Mapping | None) -> str:
    """Return the method that a recipe names."""
    named = (raw or {}).get("objective", DEFAULT_OBJECTIVE)
    return str(named.get("name", DEFAULT_OBJECTIVE) if isinstance(named, Mapping) else named)


def _require_known(
    options: Mapping[str, Any],
    given: Iterable[str],
    method: str,
    function: str,
    also: Iterable[str],
) -> None:
    """Require that each further keyword is an option of the method.

    An objective of one's own is asked itself, since its options are not known here.

    Args:
      given: keywords of `train` that are given already.

    Raises:
      UsageError: one is not; names the nearest keyword, or the field of a recipe that it means.
    """
    methods = OBJECTIVES | POLICY_OBJECTIVES
    row = methods.get(method)
    for name, value in options.items():
        if row is None or name in row.kinds:
            continue
        if said := _otherwise_called(name, value):
            raise UsageError(said)
        if path := _fields().get(name):
            raise UsageError(f"{name} is a field of a recipe: set={{{path!r}: …}}.")
        if said := other_methods_option(name, row):
            raise UsageError(f"accord.{function}: {said}")
        known = {*SIGNATURE, *also, *row.kinds}
        raise UsageError(unknown_keyword(function, name, known, [*given, *options]))


def _otherwise_called(name: str, value: object) -> str | None:
    """Say what a keyword is called here that has its name from the command line or another tool."""
    if name in RENAMED_FLAGS:
        return f"{name} is the command line's short form; here it is {RENAMED_FLAGS[name]}=…."
    if name in TRL_NAMES:
        return f"{name} is TRL's name; here it is {_keyword(TRL_NAMES[name])}."
    if (place := place_of(name, value)) is not None:
        return f"{name} is {place[0]}'s name; here it is {_keyword(place[1])}."
    return None


def _keyword(path: str) -> str:
    """Write a field of a recipe as a keyword of `train`, where it has one."""
    short = {long: name for name, long in SHORT.items()}
    name, _, note = path.partition(" ")
    if name.startswith("objective.") and name != "objective.name":
        return f"{name.removeprefix('objective.')}=…"
    return f"{short[name]}=… {note}".rstrip() if name in short else f"set={{{name!r}: …}}"


def _fields() -> dict[str, str]:
    """Map the last name of every field of a recipe to its path."""
    return {
        field: f"{section}.{field}"
        for section, part in Config.model_fields.items()
        for kind in (part.annotation, *getattr(part.annotation, "__args__", ()))
        for field in getattr(kind, "model_fields", {})
    }


SIGNATURE = [name for name in inspect.signature(train).parameters if name != "options"]
