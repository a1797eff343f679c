"""The first hour with the clock: in a fresh clone, by the commands of the README alone, from a file
of one's own with odd column names to a model that transformers loads; then the same from Python.

    python benchmarks/first_hour.py --data DIR/truthfulqa/pairs_train.jsonl
    python benchmarks/first_hour.py --only shell --work tried --results tried

Without --data the file is made of the pairs that accord ships. A kept --work has the clone in it.

The file has the columns question, better, worse and notes; of the notes accord is told nothing, so
that its first answer is a refusal, which must name the line to type next. Each command is run as a
person types it into bash, each Python cell in one process, as in a notebook. What does not exist in
this version (`needs`) is left out and recorded so. The clock counts the commands alone.

Results: first_hour.json, and first_hour.txt with the end of what each one printed. Exit 1: a step
failed, or the shell's steps took more than 12 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
SHIPPED = ROOT / "src/accord/demo/train.jsonl"
MOST_MINUTES = 12  # of the shell's commands, on 2 idle cores
LAST_LINES = 24  # of each command's output, in the log
LIMIT = 3_000  # seconds of one command
CODE = "accord"  # the folder of the clone
SOURCE = "…"  # stands for what is cloned: this tree
ACTIVATE = "source .venv/bin/activate"
QUESTION = "What happens to you if you eat watermelon seeds?"
LOADS = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer;"
    ' t = AutoTokenizer.from_pretrained("{0}"); m = AutoModelForCausalLM.from_pretrained("{0}");'
    ' i = t("The sky is", return_tensors="pt");'
    " print(t.decode(m.generate(**i, max_new_tokens=8)[0]))"
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command line, or one Python cell."""

    typed: str
    code: int = 0  # the exit code that is right
    says: str = ""  # words that its output must hold: the line that the reader types next
    needs: str = ""  # a command, or an expression in Python: without it the step is left out


SHELL = (
    Step(f"git clone {SOURCE} {CODE}"),
    Step("make setup"),
    Step(ACTIVATE),
    Step("accord audit mine.jsonl", 3, "accord audit mine.jsonl --ignore-columns notes"),
    Step("accord audit mine.jsonl --ignore-columns notes", 0, "FIT"),
    Step("accord split mine.jsonl --ignore-columns notes --share 0.2 --output split"),
    Step(
        "accord train --data split/train.jsonl --held-out split/held_out.jsonl"
        " --ignore-columns notes --method dpo --output runs/first",
        0,
        "runs/first",
    ),
    Step(f'echo "{QUESTION}" | accord chat runs/first'),
    Step("accord report runs/first", 0, "runs/first/report.html"),
    Step("accord export runs/first --merge --output merged", 0, "read back"),
    Step(f"python -c '{LOADS.format('merged')}'", 0, "The sky is"),
)
CELLS = (
    Step("import accord"),
    Step('audit = accord.audit("mine.jsonl", ignore_columns=["notes"])\nprint(audit.verdict)'),
    Step('accord.split("mine.jsonl", share=0.2, output="parts", ignore_columns=["notes"])'),
    Step(
        "result = accord.train(\n"
        '    model="smollm2", data="parts/train.jsonl", held_out="parts/held_out.jsonl",\n'
        '    ignore_columns=["notes"], method="dpo", output="runs/python",\n'
        ")\n"
        'print(result.after["eval_rewards/accuracies"], result.saved)'
    ),
    Step(f'print(result.generate("{QUESTION}"))'),
    Step('accord.report("runs/python")'),
    Step('accord.export("runs/python", output="merged-python", merge=True)'),
    Step(
        "from peft import AutoPeftModelForCausalLM\n"
        "model = AutoPeftModelForCausalLM.from_pretrained(result.saved)\n"
        "print(type(model).__name__)",
        0,
        "Peft",
    ),
)
# Runs cells one after the other in one process; a line of JSON a cell, on standard error's twin.
NOTEBOOK = """
import contextlib, inspect, io, json, sys, time, traceback
cells, space = json.load(sys.stdin), {"inspect": inspect}
for typed, needs in cells:
    heard, began, code = io.StringIO(), time.monotonic(), 0
    if needs and not eval(needs, space):
        code = None
    else:
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            try:
                exec(typed, space)
            except BaseException:
                code = 1
                traceback.print_exc()
    record = {"exit": code, "seconds": time.monotonic() - began, "output": heard.getvalue()}
    print("\\x1e" + json.dumps(record), flush=True)
    if code:
        break
"""


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(options.work or scratch).resolve()
        work.mkdir(parents=True, exist_ok=True)
        record = {"machine": _machine(), "limit_minutes": MOST_MINUTES, "shell": [], "python": []}
        heard: list[tuple[dict, str]] = []
        parts = {"shell": _shell(work, options.data), "python": _python(work)}
        for name in ("shell", "python") if options.only is None else (options.only,):
            if not all(step["ok"] for step in record["shell"]):
                break  # Python has no files without the shell's steps
            for step, output in parts[name]:
                print(f"{_mark(step)} {step['seconds']:7.1f} s  {step['typed']}", flush=True)
                record[name].append(step)
                heard.append((step, output))
        record["seconds"] = {
            name: round(sum(step["seconds"] for step in record[name]), 1) for name in parts
        }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "first_hour.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.results / "first_hour.txt").write_text(log(heard), encoding="utf-8")
    print(table(record))
    return bool(faults(record))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHIPPED, help="prompt, chosen, rejected")
    parser.add_argument("--work", help="a folder to keep; by default one that is deleted")
    parser.add_argument("--only", choices=("shell", "python"), help="python: in a kept --work")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def _machine() -> dict:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
        "load_at_start": round(os.getloadavg()[0], 1),
    }


# ---------------------------------------------------------------- one's own file


def own_file(source: Path, rows: int = 400) -> str:
    """Write pairs as somebody's own file: other names, and notes that differ in every row."""
    remarks = (
        "The better answer is to the point.",
        "Both are short; the worse one repeats a common mistake.",
        "A second reader saw it in the same way.",
    )
    lines = []
    with source.open(encoding="utf-8") as file:
        for number, line in zip(range(rows), file, strict=False):  # a short file is taken whole
            row = json.loads(line)
            note = f"Row {number + 1}, asked: {row['prompt']} {remarks[number % len(remarks)]}"
            own = {"question": row["prompt"], "better": row["chosen"], "worse": row["rejected"]}
            lines.append(json.dumps(own | {"notes": note}, ensure_ascii=False) + "\n")
    return "".join(lines)


# ---------------------------------------------------------------- running


def _environment(work: Path) -> dict[str, str]:
    """Return an environment without anything of the tree at work."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME", "OMP_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"ACCORD_CACHE": str(work / "cache")}


def _shell(work: Path, data: Path) -> Iterator[tuple[dict, str]]:
    """Run the shell's steps until one fails; the user's file appears once there is a clone."""
    place, before = work, ""
    for step in SHELL:
        if step.needs and not _has_command(work, step.needs):
            yield _record(step, None, 0.0, ""), "this version has no such command"
            continue
        typed = step.typed.replace(SOURCE, str(ROOT))
        began = time.monotonic()
        code, output = _bash(before + typed, place, _environment(work))
        record = _record(step, code, time.monotonic() - began, output)
        yield record, output.replace(str(work), "…").replace(str(ROOT), "…")
        if not record["ok"]:
            return
        if step.typed == ACTIVATE:
            before = f"{ACTIVATE} && "
        if step.typed.startswith("git clone"):
            place = work / CODE
            (place / "mine.jsonl").write_text(own_file(data), encoding="utf-8")


def _bash(typed: str, place: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a line as bash reads it; its exit code, and all that it printed."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as heard:
        process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", f"set -o pipefail; {typed}"],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=heard,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        heard.seek(0)
        return process.returncode, heard.read()


def _has_command(work: Path, name: str) -> bool:
    place = work / CODE
    done = subprocess.run(
        [place / ".venv/bin/accord", name, "--help"], cwd=place, capture_output=True, check=False
    )
    return done.returncode == 0


def _python(work: Path) -> Iterator[tuple[dict, str]]:
    """Run the cells in one process of the clone's own Python, which the shell's steps set up."""
    place = work / CODE
    done = subprocess.run(
        [place / ".venv/bin/python", "-c", NOTEBOOK],
        input=json.dumps([(cell.typed, cell.needs) for cell in CELLS]),
        cwd=place,
        env=_environment(work),
        capture_output=True,
        text=True,
        check=False,
    )
    records = [json.loads(each) for each in done.stdout.split("\x1e")[1:]]
    for cell, made in zip(CELLS, records, strict=False):  # a cell that failed is the last
        record = _record(cell, made["exit"], made["seconds"], made["output"])
        yield record, made["output"].replace(str(work), "…")
    if not records:
        yield _record(CELLS[0], done.returncode, 0.0, ""), done.stderr


def _record(step: Step, code: int | None, seconds: float, output: str) -> dict:
    """Say what became of a step. `exit` is None where it was left out."""
    ok = code is None or (code == step.code and step.says in output and "Traceback" not in output)
    return {"typed": step.typed, "exit": code, "seconds": round(seconds, 1), "ok": ok}


# ---------------------------------------------------------------- what is shown


def _mark(step: dict) -> str:
    return "–" if step["exit"] is None else "✓" if step["ok"] else "✗"


def faults(record: dict) -> list[str]:
    """List what went wrong: a step, a part that never ran to its end, or the clock."""
    steps = [*record["shell"], *record["python"]]
    found = [f"exit {step['exit']}: {step['typed']}" for step in steps if not step["ok"]]
    if record["seconds"]["shell"] > 60 * record["limit_minutes"]:
        found.append(f"more than {record['limit_minutes']} minutes of commands")
    return found


def table(record: dict) -> str:
    """Show every step with its seconds, and the two totals, as markdown."""
    lines = []
    for name in ("shell", "python"):
        lines += [f"| {name} | seconds | exit |", "|---|---|---|"]
        for step in record[name]:
            shown = " ⏎ ".join(step["typed"].splitlines()).replace("|", "\\|")
            code = "left out" if step["exit"] is None else step["exit"]
            lines.append(f"| `{shown}` | {step['seconds']:.1f} | {code} |")
        minutes, seconds = divmod(round(record["seconds"][name]), 60)
        lines += [f"| in all | {minutes}:{seconds:02d} minutes | |", ""]
    return "\n".join([*lines, *(f"✗ {fault}" for fault in faults(record))])


def log(heard: list[tuple[dict, str]]) -> str:
    """Show every step as typed, with the end of its output."""
    out, seconds = [], 0.0
    for step, output in heard:
        seconds += step["seconds"]
        typed = step["typed"].replace("\n", "\n... ")
        # pip's words on the places of a machine's own index name that machine
        lines = [line for line in output.splitlines() if not line.startswith("WARNING: Location")]
        dropped = [f"[{len(lines) - LAST_LINES} lines]"] * (len(lines) > LAST_LINES)
        code = "left out" if step["exit"] is None else f"exit {step['exit']}"
        end = f"[{code}, {step['seconds']:.0f} s; {seconds:.0f} s since the beginning]"
        out += [f"$ {typed}", *dropped, *lines[-LAST_LINES:], end, ""]
    return "\n".join(out)


if __name__ == "__main__":
    sys.exit(main())
