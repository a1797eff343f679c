"""The commands about accord itself: demo, doctor, methods, version. Heavy imports wait until one
runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from accord.cli.options import Json
from accord.environment.settings import apply_env_defaults
from accord.errors import UsageError

Output = Annotated[str | None, typer.Option("--output", help="Folder to write; must not exist.")]


def add_tool_commands(app: typer.Typer, run: Callable, say: Callable, command: Callable) -> None:
    """Put the commands into the application; `run`, `say` and `command` as for
    `add_compare_commands`.
    """
    for make in (_demo, _doctor, _methods):
        app.command()(make(run, say, command))
    app.command()(version)


def _demo(run: Callable, say: Callable, command: Callable) -> Callable:
    def demo(output: Output = None, as_json: Json = False) -> None:
        """Teach a 135M model in minutes to answer in good spirits. It runs on a laptop, and is
        measured before and after.
        """

        def work():
            apply_env_defaults()
            from accord.demo.run import run_demo
            from accord.runs.display import make_display

            return run_demo(
                output, make_display(as_json), sys.stderr if as_json else sys.stdout, command()
            )

        run(work, as_json)

    return demo


def _doctor(run: Callable, say: Callable, command: Callable) -> Callable:
    def doctor(
        device: Annotated[
            str, typer.Option(help="cpu, cuda, …; auto takes the first GPU if there is one.")
        ] = "auto",
        dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
        as_json: Json = False,
    ) -> None:
        """Check that this machine computes what accord promises. It takes under a minute; exit 4 if
        it does not.
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
                say(as_json, f"{MARKS[finding.verdict]} {finding.check:<24} {finding.says}")
                if finding.remedy and finding.verdict != "ok":
                    say(as_json, f"    {finding.remedy}")

            report = run_checks(device, dtype, tell)
            for name, value in report.machine.items():
                say(as_json, f"  {name}: {value}")
            if not report.healthy:
                bad = "\n".join(
                    f"  {f.check}: {f.says}" + f"\n    {f.remedy}" * bool(f.remedy)
                    for f in report.findings
                    if f.refused
                )
                raise Refused(f"{report.verdict}\n{bad}")
            say(as_json, report.verdict)
            return {
                "machine": report.machine,
                "verdict": report.verdict,
                "checks": [vars_of(f) for f in report.findings],
            }

        run(work, as_json)

    return doctor


def _methods(run: Callable, say: Callable, command: Callable) -> Callable:
    def methods(as_json: Json = False) -> None:
        """List the objectives by what they need, with when each is for."""

        def work():
            from accord.objectives import OBJECTIVES, POLICY_OBJECTIVES

            table: dict[str, dict[str, Any]] = {
                name: {
                    "group": o.group,
                    "rows": o.rows,
                    "reference": o.reference,
                    "when": o.when,
                    "options": o.schema,
                    "source": o.source,
                }
                for name, o in (OBJECTIVES | POLICY_OBJECTIVES).items()
            }
            group = ""
            for name, entry in table.items():
                if entry["group"] != group:
                    group = entry["group"]
                    say(as_json, f"needs {group}")
                options = ", ".join(
                    f"{k}={v.get('default', '(required)')}" for k, v in entry["options"].items()
                )
                say(as_json, f"  {name:<14} {entry['when']}")
                say(as_json, f"{'':<16} {options or '(no option)'}")
            say(
                as_json,
                "When each is for is its paper's claim; docs/methods.md has what we measured.",
            )
            return table

        run(work, as_json)

    return methods


def version() -> None:
    """Print the version of accord."""
    from accord import __version__

    print(__version__)
