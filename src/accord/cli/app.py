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

from accord.cli.chat import add_chat_command
from accord.cli.compare import add_compare_commands
from accord.cli.data import add_data_commands
from accord.cli.evaluate import add_evaluate_commands
from accord.cli.import_recipe import add_import_command
from accord.cli.options import Allow, Columns, IgnoreColumns, Json, Set, columns_of
from accord.cli.play import add_play_command
from accord.cli.recipes import add_recipes_command
from accord.cli.rlhf import add_rlhf_commands
from accord.cli.rollouts import add_online_commands
from accord.environment.faults import end, fail, run_guarded
from accord.environment.installing import install_line
from accord.environment.settings import apply_env_defaults, ranks, warnings_of_command
from accord.environment.variables import require_known
from accord.environment.wrapping import fit, width_of
from accord.errors import AccordError, Interrupted, UsageError

app = typer.Typer(
    name="accord",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Preference alignment that is never silently wrong: DPO, IPO, KTO, SimPO, ORPO and kin.",
)

Output = Annotated[str | None, typer.Option("--output", help="Folder to write; must not exist.")]
Checks = Annotated[
    bool, typer.Option("--checks", help="A line for every check, in place of a count.")
]


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="YAML recipe; flags below override it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="smollm2 (embedded), or a folder.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Preferences: JSONL, JSON, CSV, Parquet, …; - for standard input."),
    ] = None,
    held_out: Annotated[str | None, typer.Option("--held-out", help="File to evaluate on.")] = None,
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
                " model); ppo, grpo, dr_grpo, dapo, rloo, reinforce (with a section rollouts); or"
                " module:function."
            )
        ),
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="A LoRA adapter to go on from.")] = None,
    all_weights: Annotated[
        bool, typer.Option("--all-weights", help="Train all weights instead of LoRA.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Updates to make.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, instead of steps.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Rows per update.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Peak learning rate.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Order of rows, initial adapters, dropout.")
    ] = None,
    on_flag: Annotated[
        str | None, typer.Option("--on-flag", help="Action on a red flag: warn, stop or adapt.")
    ] = None,
    output: Output = None,
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
        data=data,
        held_out=held_out,
        hold_out=hold_out,
        method=method,
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

        if recipe is None and data is None and not set_:
            raise UsageError(
                "Nothing to train on. Give a recipe, or --data FILE (and --method, --held-out, …)."
            )
        short.update(columns_of(columns, ignore_columns))
        config = build(recipe, assignments=set_ or (), allow=allow or (), **short)
        apply_env_defaults(offline="hub" not in config.allow)
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
    harness: Annotated[
        str | None,
        typer.Option("--for", help="Also the command that evaluates it: lm-eval or inspect-ai."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run's model as a folder that transformers, PEFT and vLLM load."""

    def work():
        apply_env_defaults()
        from accord.assess.handover import export_for

        done, evaluate = export_for(
            run, output, merge=merge, which=checkpoint, dtype=dtype, harness=harness
        )
        for note in done.notes:
            _say(as_json, f"! {note}")
        _say(as_json, f"{done.folder}: read back from disk, {done.says}")
        how = {} if evaluate is None else {"evaluate": evaluate}
        for line in how.values():
            _say(as_json, f"evaluate it there: {line}")
        saved = {"saved": str(done.folder), "read_back": done.says, "notes": [*done.notes]}
        return saved | how

    _run(work, as_json)


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(help="Folders of runs; several stand side by side.")],
    output: Annotated[
        str | None,
        typer.Option("--output", help="The HTML file; report.html in the run's folder by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page about runs: the verdict, curves, flags, pairs token by
    token, samples, and how to make it again.
    """

    def work():
        from accord.pages.run import report_notes, write_report

        file, notes = write_report(runs, output), report_notes(runs)
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
    """Serve a live local page of all runs: curves, flags with their meaning, samples, differences
    of configuration.
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


@app.command()
def demo(output: Output = None, as_json: Json = False) -> None:
    """Teach a real 135M model in minutes on a laptop to answer in good spirits; measure it before
    and after.
    """

    def work():
        apply_env_defaults()
        from accord.demo.run import run_demo
        from accord.runs.display import make_display

        return run_demo(
            output, make_display(as_json), sys.stderr if as_json else sys.stdout, _command()
        )

    _run(work, as_json)


@app.command()
def doctor(
    device: Annotated[
        str, typer.Option(help="cpu, cuda, …; auto takes the first GPU if there is one.")
    ] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    as_json: Json = False,
) -> None:
    """Check in under a minute that this machine computes what accord promises; exit 4 if it does
    not.
    """

    def work():
        if dtype not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"--dtype {dtype}: expected auto, float32 or bfloat16.")
        apply_env_defaults()
        from accord.errors import Refused
        from accord.runs.display import MARKS
        from accord.runs.folder import vars_of
        from accord.verify.doctor import run_checks

        def tell(finding) -> None:
            _say(as_json, f"{MARKS[finding.verdict]} {finding.check:<24} {finding.says}")
            if finding.remedy and finding.verdict != "ok":
                _say(as_json, f"    {finding.remedy}")

        report = run_checks(device, dtype, tell)
        for name, value in report.machine.items():
            _say(as_json, f"  {name}: {value}")
        if not report.healthy:
            bad = "\n".join(
                f"  {f.check}: {f.says}" + f"\n    {f.remedy}" * bool(f.remedy)
                for f in report.findings
                if f.refused
            )
            raise Refused(f"{report.verdict}\n{bad}")
        _say(as_json, report.verdict)
        return {
            "machine": report.machine,
            "verdict": report.verdict,
            "checks": [vars_of(f) for f in report.findings],
        }

    _run(work, as_json)


@app.command()
def methods(as_json: Json = False) -> None:
    """List the objectives, what each one needs, and its options."""

    def work():
        from accord.objectives import OBJECTIVES, POLICY_OBJECTIVES

        table: dict[str, dict[str, Any]] = {
            name: {
                "rows": o.rows,
                "reference": o.reference,
                "options": o.schema,
                "source": o.source,
            }
            for name, o in (OBJECTIVES | POLICY_OBJECTIVES).items()
        }
        for name, entry in table.items():
            options = ", ".join(
                f"{k}={v.get('default', '(required)')}" for k, v in entry["options"].items()
            )
            _say(
                as_json,
                f"{name:<13} {entry['rows']:<15} {'reference' if entry['reference'] else '-':<10}"
                f" {options}",
            )
        return table

    _run(work, as_json)


@app.command()
def version() -> None:
    """Print the version of accord."""
    from accord import __version__

    print(__version__)


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
                "Only train and resume share their work among processes. Leave out torchrun."
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
add_chat_command(app, _run)
add_recipes_command(app, _run, _say)


def main() -> None:
    """Run the command line from its first argument to an exit code; see `accord.__main__`."""
    run_guarded(app)


if __name__ == "__main__":
    main()
