"""The command line.

Heavy imports wait until a command needs them, so that --help answers at once.

Exit codes: 0 done · 1 a bug of accord · 2 usage or config, or a package that does not work · 3 data
unfit · 4 preflight refused · 5 diverged · 6 checkpoint unusable or disk full · 75 stopped by a
signal and saved · 141 nobody reads standard output any more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from accord import __version__
from accord.cli.chat import add_chat_command
from accord.cli.compare import add_compare_commands
from accord.cli.data import add_data_commands
from accord.cli.evaluate import add_evaluate_commands
from accord.cli.given import method_name, named_files, recipe_or_data, runs_to_show
from accord.cli.group import AccordGroup, Application
from accord.cli.import_recipe import add_import_command
from accord.cli.options import Allow, Columns, IgnoreColumns, Json, Set, columns_of
from accord.cli.play import add_play_command
from accord.cli.recipes import add_recipes_command
from accord.cli.rlhf import add_rlhf_commands
from accord.cli.rollouts import add_online_commands
from accord.cli.serve_policy import add_serve_command
from accord.cli.tasks import add_tasks_command
from accord.cli.tools import add_tool_commands
from accord.cli.train_flags import DEFAULT_METHOD, TrainCommand
from accord.environment.faults import end, fail, run_guarded
from accord.environment.installing import install_line
from accord.environment.settings import apply_env_defaults, ranks, warnings_of_command
from accord.environment.variables import require_known
from accord.environment.wrapping import fit, width_of
from accord.errors import AccordError, Interrupted, UsageError

app = Application(
    name="accord",
    cls=AccordGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Preference alignment that is never silently wrong: DPO, IPO, KTO, SimPO, ORPO and kin.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit()


@app.callback()
def root(
    _: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


Output = Annotated[str | None, typer.Option("--output", help="Folder to write; must not exist.")]
Checks = Annotated[
    bool, typer.Option("--checks", help="A line for every check, in place of a count.")
]


@app.command(cls=TrainCommand)
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="YAML recipe, which the options below override; or a file of preferences, as"
            " --data."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="smollm2 (embedded), a folder, or hub:org/name.", show_default="smollm2"),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Preferences: JSONL, JSON, CSV, Parquet, …; - for standard input. Several files"
            " are mixed: --data a.jsonl=2 --data b.jsonl takes the rows of a twice.",
        ),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", metavar="FILE", help="File to evaluate on, or several."),
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            metavar="SHARE",
            help="Cut this share of --data off by prompt and evaluate on it, such as 0.1.",
        ),
    ] = None,
    columns: Columns = None,
    ignore_columns: IgnoreColumns = None,
    method: Annotated[
        str | None,
        typer.Option(
            help=(
                "dpo, ipo, kto, simpo, orpo, cdpo, robust, hinge, cpo, sft, bradley_terry (a reward"
                " model); ppo, grpo, dr_grpo, dapo, gspo, cispo, reinforce_plus_plus,"
                " reinforce_plus_plus_baseline, rloo, reinforce (with a section rollouts); or"
                " module:function."
            ),
            show_default=DEFAULT_METHOD,
        ),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            help="objective.beta: how strongly to stay near the reference.",
            show_default="the method's own; accord methods",
        ),
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="A LoRA adapter to go on from.")] = None,
    all_weights: Annotated[
        bool, typer.Option("--all-weights", help="Train all weights instead of LoRA.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(help="Updates to make.", show_default="one epoch")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, instead of steps.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Rows per update.", show_default="16")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            "--lr",
            help="Peak learning rate.",
            show_default="the method's own, for the model's width",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Order of rows, initial adapters, dropout.", show_default="0")
    ] = None,
    on_flag: Annotated[
        str | None,
        typer.Option(
            "--on-flag", help="Action on a red flag: warn, stop or adapt.", show_default="warn"
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", help="Folder to write; must not exist.", show_default="a new one in runs/"
        ),
    ] = None,
    set_: Set = None,
    allow: Allow = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Two rows as the model sees them, every check, no update."),
    ] = False,
    checks: Checks = False,
    as_json: Json = False,
) -> None:
    """Train a model on preferences."""
    short: dict[str, Any] = dict(
        model=model,
        held_out=named_files(held_out),
        hold_out=hold_out,
        adapter=adapter,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        on_flag=on_flag,
        output=output,
    )
    if all_weights:
        short["lora"] = False

    def work():
        from accord.config.build import build
        from accord.config.schema import parse_assignment

        for assignment in set_ or ():  # before the recipe: --set KEY VALUE makes one of the value
            parse_assignment(assignment)
        settings, short["data"] = recipe_or_data(recipe, named_files(data, weights=True))
        if settings is None and short["data"] is None and not set_:
            raise UsageError(
                "Nothing to train on. Give a file of preferences, or a recipe:\n"
                "  accord train --data FILE --held-out FILE\n"
                "  accord train recipe.yaml"
            )
        short["method"] = method_name(method)
        short.update(columns_of(columns, ignore_columns))
        options = {} if beta is None else {"beta": beta}
        config = build(
            settings, assignments=set_ or (), options=options, allow=allow or (), **short
        )
        apply_env_defaults()
        from accord.runs.display import make_display
        from accord.training.run import dry_run as check
        from accord.training.run import start

        display = make_display(as_json)
        if dry_run:
            if checks:
                raise UsageError("--checks: a dry run shows every check as it is. Leave it out.")
            from accord.training.dry_run import show

            return show(check(config, display), sys.stderr if as_json else sys.stdout)
        result = start(config, display, _command(), every_check=checks)
        return _end_of_run(result, as_json)

    _run(work, as_json, many=True)


@app.command()
def resume(
    run: Annotated[str, typer.Argument(help="Folder of the run.")],
    checks: Checks = False,
    as_json: Json = False,
) -> None:
    """Continue a run that was stopped."""

    def work():
        apply_env_defaults()
        from accord.runs.display import make_display
        from accord.training.run import resume as go_on

        result = go_on(run, make_display(as_json), _command(), every_check=checks)
        return _end_of_run(result, as_json)

    _run(work, as_json, many=True)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Folder of the run.")],
    output: Output = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="One model, the adapters merged into it.")
    ] = False,
    checkpoint: Annotated[str, typer.Option(help="latest, or best by held-out score.")] = "latest",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Dtype that --merge rounds to: float32 or bfloat16. By default the run's own, or"
            " float32 where that would change more than 5 % of what the adapter does."
        ),
    ] = None,
    merge_into: Annotated[
        str | None,
        typer.Option(
            help="Of a quantised base: dequantised (as it was trained on, the default), or"
            " original (as it was saved)."
        ),
    ] = None,
    harness: Annotated[
        str | None,
        typer.Option("--for", help="Also the command that evaluates it: lm-eval or inspect-ai."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="hub:ORG/NAME",
            help="Send it to a hub too, with its card; the token is in HF_TOKEN alone.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run's model for transformers, PEFT and vLLM."""

    def work():
        apply_env_defaults()
        from accord.assess.handover import export_for

        made = export_for(
            run,
            output,
            merge=merge,
            which=checkpoint,
            dtype=dtype,
            harness=harness,
            push=push,
            into=merge_into,
        )
        done = made.done
        for note in done.notes:
            _say(as_json, f"! {note}")
        _say(as_json, f"{done.folder}: read back from disk, {done.says}")
        how = {} if made.evaluate is None else {"evaluate": made.evaluate}
        for line in how.values():
            _say(as_json, f"evaluate it there: {line}")
        if made.pushed is not None:
            _say(as_json, f"{made.pushed}: sent, and compared with what the hub lists")
            how["pushed"] = made.pushed
        saved = {"saved": str(done.folder), "read_back": done.says, "notes": [*done.notes]}
        return saved | how

    _run(work, as_json)


@app.command()
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of runs; several stand side by side. A folder of runs gives its newest.",
            show_default="the newest in runs/",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", help="The HTML file; report.html in the run's folder by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one HTML page about runs: verdict, curves, flags, samples. It is one file, with pairs
    token by token, and how to make the run again.
    """

    def work():
        from accord.pages.run import report_notes, write_report

        shown = runs_to_show(runs or [], lambda line: _say(as_json, line))
        file, notes = write_report(shown, output), report_notes(shown)
        for note in notes:
            _say(as_json, f"! {note}")
        _say(as_json, f"{file} ({file.stat().st_size / 1000:,.0f} kB)")
        return {"report": str(file), "notes": notes}

    _run(work, as_json)


@app.command()
def watch(
    runs: Annotated[
        str | None, typer.Argument(help="A run, or a folder of runs; runs/ by default.")
    ] = None,
    port: Annotated[
        int, typer.Option(help="Port of the loopback address 127.0.0.1.", min=1, max=65535)
    ] = 7373,
) -> None:
    """Serve a live local page of all runs. It shows curves, flags with their meaning, samples, and
    differences of configuration.
    """

    def work():
        try:
            from accord.pages.watch import serve
        except ImportError as error:
            raise UsageError(
                f"accord watch needs {error.name}: {install_line('accord[watch]')}"
            ) from error
        serve(runs, port, print)

    _run(work, False)


# ---------------------------------------------------------------- around every command


def _end_of_run(result: Any, as_json: bool) -> dict:
    """Print how a run ended and what comes next; return the same for a machine."""
    if ranks()[0]:  # the first rank has the records
        return result.as_dict()
    from accord.cli.ending import ending, ending_lines

    names = {
        str(one.name or getattr(one.callback, "__name__", "")) for one in app.registered_commands
    }
    found = ending(result.folder, names)
    _say(as_json, f"done: {result.saved}")
    for line in ending_lines(found, width_of(sys.stderr if as_json else sys.stdout)):
        _say(as_json, line)
    return result.as_dict() | found


def _run(work: Callable[[], Any], as_json: bool, many: bool = False) -> None:
    """Do the work; turn a failure into words and an exit code, never a traceback.

    Args:
      many: whether several processes can share this work.
    """
    try:
        require_known()
        from accord.runs.signals import stop_on_signals

        if ranks()[1] > 1 and not many:
            alone = UsageError(
                "Only train, resume, iterate and rlhf share their work among processes. Leave out"
                " torchrun."
            )
            alone.on_all_ranks = True
            raise alone
        with warnings_of_command(), stop_on_signals() as stop, stop.at_once():
            result = work()
        # a command that has printed objects of its own returns None
        if as_json and result is not None and ranks()[0] == 0:
            print(json.dumps({"ok": True, "result": result}, default=str), flush=True)
    except AccordError as error:
        fail(error, as_json)
    except KeyboardInterrupt:
        fail(Interrupted("stopped."), as_json)
    except Exception as error:
        end(error, as_json)


def _say(as_json: bool, text: str) -> None:
    if ranks()[0] == 0:
        stream = sys.stderr if as_json else sys.stdout
        print(fit(text, stream), file=stream)


def _command() -> list[str]:
    """Return the command as it was typed, for the run's records.

    A recipe's path may hold a token, as a config's values may not.
    """
    from accord.environment.redaction import redact

    return ["accord", *map(redact, sys.argv[1:])]


add_data_commands(app, _run, _say)
add_evaluate_commands(app, _run, _say)
add_compare_commands(app, _run, _say, _command)
add_online_commands(app, _run, _say)
add_rlhf_commands(app, _run, _say, _command)
add_import_command(app, _run, _say)
add_play_command(app, _run, _say)
add_serve_command(app, _run, _say)
add_tool_commands(app, _run, _say, _command)
add_chat_command(app, _run)
add_recipes_command(app, _run, _say)
add_tasks_command(app, _run, _say)


def main() -> None:
    """Run the command line from its first argument to an exit code; see `accord.__main__`."""
    run_guarded(app)


if __name__ == "__main__":
    main()
