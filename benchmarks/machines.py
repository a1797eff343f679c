"""No sound run is refused, and the faults that bounds are for are found, whatever the processor.

    python benchmarks/machines.py --data DIR                       real files, the embedded model
    python benchmarks/machines.py --data DIR --dtypes bfloat16 --layers 4     its first layers alone

Five methods × two files × the dtypes, under settings that make this processor's libraries take
other kernels: fewer instructions, one thread, other orders of sums. Each setting is a process of
its own. Of every dry run: whether it was refused, and of each bound that rounding meets what was
found, what was measured and what was allowed. Then the same runs with a fault in the code; each
must be refused. Results: benchmarks/results/machines.json, and the table on standard output. Exit
code 1 where a sound run was refused or a fault was not found.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "machines.json"
METHODS = ("dpo", "ipo", "kto", "simpo", "orpo")
FILES = ("truthfulqa/pairs_train.jsonl", "hh_helpful/train.jsonl.gz")
# Of each file: rows among its shorter ones, since the proofs compute whole logits of a few rows ten
# times over. The longest of these has some 200 tokens.
ROWS = 64

# name -> environment. What a processor does not have is left out, see `available`.
SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "one thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    "ATen without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "ATen AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATen AVX-512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "oneDNN SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL SSE4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "MKL compatible": {"MKL_CBWR": "COMPATIBLE"},
    "the least of all, one thread": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "1",
    },
}
# check -> (what was found, what was allowed) in its evidence
BOUNDS = {
    "step0.micro_batches": ("relative", "allowed"),
    "step0.gradient": ("relative", "allowed"),
    "step0.moved": ("path_nats_mean", "allowed_mean"),
    "step0.noise_floor": ("nats", "allowed"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with the real files")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--files", default=",".join(FILES), help="below the folder of the data")
    parser.add_argument("--settings", default="", help="words; settings that hold one of them")
    parser.add_argument("--layers", type=int, help="the model's first so many layers alone")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        for line in _work(asked):
            print("RESULT " + json.dumps(line), flush=True)
        return
    words = [word for word in asked.settings.split(",") if word]
    chosen = {
        name: env
        for name, env in available().items()
        if not words or any(word in name for word in words)
    }
    record = _former(asked.output)
    for name, env in chosen.items():
        began = time.monotonic()
        for line in _one(asked, name, env):
            _put(record, line)
            asked.output.write_text(json.dumps(record, indent=1) + "\n")
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(table(record))
    sys.exit(any(_wrong(line) for line in record["runs"]))


def available() -> dict[str, dict[str, str]]:
    """The settings that this processor can take."""
    import torch

    has = torch.backends.cpu.get_cpu_capability()
    missing = {"ATen AVX-512"} if has != "AVX512" else set()
    missing |= {"ATen AVX2", "oneDNN AVX2"} if has == "DEFAULT" else set()
    return {name: env for name, env in SETTINGS.items() if name not in missing}


def _former(file: Path) -> dict:
    machine = {"processor": processor(), "cores": os.cpu_count()}
    if file.exists():
        return json.loads(file.read_text()) | {"machine": machine}
    return {"machine": machine, "runs": []}


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    }
    return (
        f"{found.get('model name')} (family {found.get('cpu family')}, model {found.get('model')})"
    )


KEY = ("setting", "dtype", "layers", "method", "file", "fault")


def _put(record: dict, line: dict) -> None:
    """A result in the place of the former one of the same case."""
    same = [old for old in record["runs"] if all(old[k] == line[k] for k in KEY)]
    for old in same:
        record["runs"].remove(old)
    record["runs"].append(line)


def _one(asked: argparse.Namespace, name: str, env: dict[str, str]) -> Iterator[dict]:
    words = ["--data", str(asked.data), "--dtypes", asked.dtypes, "--methods", asked.methods]
    words += ["--files", asked.files]
    words += ["--layers", str(asked.layers)] if asked.layers else []
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    with subprocess.Popen(
        [sys.executable, str(Path(__file__)), *words, "--worker"],
        env=os.environ | {"PYTHONPATH": path} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("RESULT "):
                yield {"setting": name, **json.loads(line.removeprefix("RESULT "))}
    if process.returncode:
        raise SystemExit(f"{name}: the worker ended with {process.returncode}")


# ---------------------------------------------------------------- one process, one setting


def _work(asked: argparse.Namespace) -> Iterator[dict]:
    from accord.environment.settings import apply_env_defaults

    apply_env_defaults()
    with tempfile.TemporaryDirectory() as folder:
        model = _model(Path(folder), asked.layers)
        data = {name: _rows(asked.data / name, Path(folder)) for name in asked.files.split(",")}
        first = next(iter(data))
        for dtype in asked.dtypes.split(","):
            for name, file in data.items():
                for method in asked.methods.split(","):
                    case = {"dtype": dtype, "layers": asked.layers, "method": method, "file": name}
                    yield case | {"fault": None} | _dry_run(model, file, method, dtype)
            for fault, inject in FAULTS.items():
                with ExitStack() as stack:
                    inject(stack)
                    found = _dry_run(model, data[first], "dpo", dtype)
                case = {"dtype": dtype, "layers": asked.layers, "method": "dpo", "file": first}
                yield case | {"fault": fault} | found


def _model(folder: Path, layers: int | None) -> str:
    """The embedded model, or a copy of it with its first layers alone."""
    from accord.models.embedded import embedded_folder

    whole = embedded_folder()
    if layers is None:
        return str(whole)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(whole, num_hidden_layers=layers)
    model.save_pretrained(folder / "cut")
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder / "cut")
    return str(folder / "cut")


def _rows(source: Path, folder: Path) -> str:
    """Rows of a file as they are: those that follow its shortest tenth in length."""
    import gzip

    text = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    file = folder / f"{source.parent.name}.jsonl"
    lines = sorted(text.splitlines(), key=len)
    file.write_bytes(b"\n".join(lines[len(lines) // 10 :][:ROWS]) + b"\n")
    return str(file)


def _dry_run(model: str, file: str, method: str, dtype: str) -> dict:
    from accord.config.build import build
    from accord.errors import AccordError
    from accord.runs.display import SilentDisplay
    from accord.runs.signals import Stop
    from accord.training.setup.prepare import prepare

    config = build(
        model=model, data=file, method=method, dtype=dtype, steps=8, batch_size=8, seed=0
    )
    began = time.monotonic()
    try:
        ready = prepare(config, SilentDisplay(), Stop(), dry_run=True)
    except AccordError as error:
        return {"refused": str(error), "bounds": {}, "seconds": time.monotonic() - began}
    evidence = {finding.check: finding.evidence for finding in ready.findings}
    bounds = {
        check: [evidence[check][found], evidence[check][allowed]]
        for check, (found, allowed) in BOUNDS.items()
        if check in evidence
    }
    return {"refused": None, "bounds": bounds, "seconds": time.monotonic() - began}


# ---------------------------------------------------------------- faults


@contextmanager
def _patched(owner: object, name: str, value: object) -> Iterator[None]:
    with mock.patch.object(owner, name, value):
        yield


def mean_per_micro_batch(stack: ExitStack) -> None:
    """Each micro-batch is divided by its own rows (TRL #2617)."""
    from accord.engine import step

    stack.enter_context(_patched(step, "denominator", lambda objective, trees: 1))


def lost_micro_batch(stack: ExitStack) -> None:
    """The last micro-batch never reaches the masters."""
    from accord.engine import gradients

    right = gradients.accumulate

    def lose(learner, batch, masters, **options):
        if learner.micro_tokens > 1:
            return right(learner, batch, masters, **options)
        return right(learner, replace(batch, trees=batch.trees[:-1]), masters, **options)

    stack.enter_context(_patched(gradients, "accumulate", lose))


def dropout_in_the_path(stack: ExitStack) -> None:
    """A layer drops units whenever it has a gradient to give."""
    import torch

    from accord.forward import head, logps

    right = head.token_logps

    def drop(hidden, targets, spec, chunk=None):
        if hidden.requires_grad:
            hidden = torch.nn.functional.dropout(hidden, 0.05)
        return right(hidden, targets, spec, chunk)

    stack.enter_context(_patched(logps, "token_logps", drop))


def a_token_without_gradient(stack: ExitStack) -> None:
    """The first half of the scored tokens of a pass is cut off from the gradient."""
    from accord.forward import head, logps

    right = head.token_logps

    def cut(hidden, targets, spec, chunk=None):
        half = len(hidden) // 2
        import torch

        return right(torch.cat([hidden[:half].detach(), hidden[half:]]), targets, spec, chunk)

    stack.enter_context(_patched(logps, "token_logps", cut))


def neighbours_seen(stack: ExitStack) -> None:
    """A pass' hidden states lean a little towards the mean of all its tokens."""
    from accord.forward import head, logps

    right = head.token_logps

    def lean(hidden, targets, spec, chunk=None):
        return right(hidden + 0.1 * hidden.mean(0, keepdim=True), targets, spec, chunk)

    stack.enter_context(_patched(logps, "token_logps", lean))


FAULTS: dict[str, Callable[[ExitStack], None]] = {
    "a mean per micro-batch": mean_per_micro_batch,
    "a lost micro-batch": lost_micro_batch,
    "dropout in the path": dropout_in_the_path,
    "half of the tokens without gradient": a_token_without_gradient,
    "neighbours are seen": neighbours_seen,
}


# ---------------------------------------------------------------- what came out


def _wrong(line: dict) -> bool:
    return (line["refused"] is None) == (line["fault"] is not None)


def table(record: dict) -> str:
    """One line a setting and dtype: sound runs, the nearest approach to each bound, faults."""
    groups: dict[tuple, list[dict]] = {}
    for line in record["runs"]:
        groups.setdefault((line["dtype"], line["layers"], line["setting"]), []).append(line)
    head = "| dtype | layers | setting | sound runs | " + " | ".join(
        f"{check.removeprefix('step0.')}: most found, share of its bound" for check in BOUNDS
    )
    lines = [f"{record['machine']['processor']}, {record['machine']['cores']} cores", ""]
    lines += [f"{head} | faults found |", "|---" * (5 + len(BOUNDS)) + "|"]
    for (dtype, layers, setting), runs in sorted(
        groups.items(), key=lambda g: (g[0][0], str(g[0][1]))
    ):
        sound = [run for run in runs if run["fault"] is None]
        faults = [run for run in runs if run["fault"] is not None]
        accepted = sum(run["refused"] is None for run in sound)
        found = sum(run["refused"] is not None for run in faults)
        cells = [dtype, str(layers or "all"), setting, f"{accepted} of {len(sound)}"]
        for check in BOUNDS:
            pairs = [run["bounds"][check] for run in sound if check in run["bounds"]]
            worst = max(pairs, key=lambda pair: pair[0] / pair[1], default=None)
            cells.append(f"{worst[0]:.1e}, {worst[0] / worst[1]:.0%}" if worst else "-")
        lines.append("| " + " | ".join([*cells, f"{found} of {len(faults)}"]) + " |")
    wrong = [line for line in record["runs"] if _wrong(line)]
    for line in wrong:
        what = "not found" if line["fault"] else "refused"
        lines.append(
            f"{line['setting']}, {line['dtype']}, {line['method']}, {line['file']}:"
            f" {line['fault'] or 'sound'} {what}: {(line['refused'] or '')[:300]}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
