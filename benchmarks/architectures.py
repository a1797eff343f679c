"""Every decoder family that transformers registers, made small and taken through accord.

    python benchmarks/architectures.py                         all families, two at once
    python benchmarks/architectures.py --families llama,mamba  some of them

Of each family, in a process of its own with a time limit: log-probs and gradients on the chosen
path against the bare network with each row alone; sampled answers against the same; two updates by
each method; what was saved, read by plain transformers and PEFT, and merged. A family is accepted
(tree or padded), or refused with the reason. A fault is a traceback, another number than the bare
network's, or a save that computes something else. Results: benchmarks/results/architectures.json,
and the table on standard output. Exit code 1 where there is a fault.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - behind the variables
from transformers import AutoModelForCausalLM  # noqa: E402

import accord  # noqa: E402
from accord.errors import first_line  # noqa: E402
from accord.forward.choose import choose  # noqa: E402
from accord.models.load import load  # noqa: E402
from accord.runs.export import export_run  # noqa: E402
from accord.sampling.local import LocalSampler  # noqa: E402
from accord.types import AccordError, Tree  # noqa: E402
from benchmarks import small_models  # noqa: E402 - found by the line above

RESULTS = ROOT / "benchmarks" / "results" / "architectures.json"
LIMIT = 300  # seconds of a family
# Permissions of every run here: random models on raw text.
ALLOW: tuple[str, ...] = ("untrained_model",)  # every model here is random, on purpose
# nats a token, and share of the gradient: rounding of other shapes gives up to 1.5e-5 and 1.1e-6
# (Mamba); a state that leaks gave 1e-4 and more (LFM2 on the tree path)
LOGPS, GRADIENT = 5e-5, 5e-5
# share of the logits' spread between two ways to read one saved model
SAVED = 1e-3
LORA = {"rank": 2, "alpha": 4.0, "targets": "all-linear"}
METHODS: dict[str, dict] = {
    "dpo": {"method": "dpo", "lora": LORA},
    "dpo, all weights": {"method": "dpo", "lora": False},
    "kto": {"method": "kto", "lora": LORA},
    "simpo": {"method": "simpo", "lora": LORA},
    "reward model": {"method": "bradley_terry", "lora": LORA},
    "grpo": {"method": "grpo", "lora": LORA},
}
WORDS = "the cat sat on a mat and saw one red bird fly over two green hills near a house".split()


# ---------------------------------------------------------------- the rows


def trees() -> list[Tree]:
    """Make rows of several lengths: prompts of 1 to 40 tokens, answers of 1 to 20."""
    draw = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(16, small_models.VOCAB) for _ in range(count))

    shapes = [(7, (5, 11)), (1, (1, 3)), (13, (2, 4)), (2, (7, 1)), (40, (20, 9))]
    return [
        Tree(tokens(prompt), tuple(tokens(n) for n in answers), row)
        for row, (prompt, answers) in enumerate(shapes)
    ]


def write_data(folder: Path) -> None:
    """Write a file of pairs, and one of prompts."""

    def words(seed: int, count: int) -> str:
        return " ".join(WORDS[(seed * 7 + i * (seed % 5 + 1)) % len(WORDS)] for i in range(count))

    rows = [
        {
            "prompt": f"{words(i, 2 + i % 4)}?",
            "chosen": f" {words(i + 1, 1 + i % 3)}.",
            "rejected": f" {words(i + 3, 2 + i % 2)}!",
        }
        for i in range(8)
    ]
    for name, keys in (("pairs", ("prompt", "chosen", "rejected")), ("prompts", ("prompt",))):
        lines = [json.dumps({key: row[key] for key in keys}) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- one family


class Fault(Exception):
    """Something that must not be: other numbers, or a save that is not what was trained."""


def of_row(network, prompt: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
    """Compute the log-probs of an answer by the bare network, alone, without mask or cache."""
    ids = torch.tensor([[*prompt, *answer]])
    logits = network(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None]).squeeze(1)


def bare(network, rows: list[Tree]) -> torch.Tensor:
    return torch.cat([of_row(network, row.prompt, one) for row in rows for one in row.completions])


def gradient(network, values: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad(set_to_none=True)
    (values * torch.linspace(-1, 2, len(values))).sum().backward()
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    return found


def numbers(folder: Path) -> dict:
    """Compare log-probs, gradients and sampled answers with the bare network's.

    Raises:
      Fault: they differ.
    """
    model = load(str(folder), dtype="float32", device="cpu")
    own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    forward = choose(model, trees())
    record = {"path": forward.path, "reason": forward.reason}
    with torch.no_grad():
        apart = (forward(trees()).values - bare(own, trees())).abs().max().item()
    found, wanted = (
        gradient(model.network, forward(trees()).values),
        gradient(own, bare(own, trees())),
    )
    norm = sum(g.square().sum() for g in wanted.values()) ** 0.5
    gap = sum((found.get(n, 0) - g).square().sum() for n, g in wanted.items()) ** 0.5 / norm
    record |= {"nats": apart, "gradient": float(gap), "sampled": sampled(model, own)}
    if not (apart <= LOGPS and gap <= GRADIENT and record["sampled"] <= LOGPS):
        raise Fault(f"other numbers than the bare network's: {record}")
    return record


def sampled(model, own) -> float:
    """Compute the largest difference of sampled answers' log-probs to the bare network's."""
    prompts = [row.prompt for row in trees()] + [trees()[2].prompt]
    answers = LocalSampler.of(model).sample(prompts, max_new_tokens=12, seed=1)
    with torch.no_grad():
        gaps = [
            (of_row(own, prompt, answer.tokens) - torch.tensor(answer.logps)).abs().max().item()
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
    return max(gaps)


def train(folder: Path, data: Path, name: str) -> Path:
    """Train two updates by a method; return the run's folder."""
    options = dict(METHODS[name])
    settings: dict = {"monitor.audit_rows": 0, "monitor.samples": int(name == "dpo")}
    settings |= {"monitor.sample_tokens": 4}
    if name == "grpo":
        settings |= {"rollouts.rewards": ["length"], "rollouts.num_generations": 2}
        settings |= {"rollouts.max_new_tokens": 4}
    output = folder.parent / name.replace(" ", "_").replace(",", "")
    accord.train(
        model=str(folder),
        data=str(data / ("prompts.jsonl" if name == "grpo" else "pairs.jsonl")),
        steps=2,
        batch_size=4,
        learning_rate=1e-3,
        dtype="float32",
        template="raw",
        output=str(output),
        set=settings,
        allow=ALLOW,
        **options,
    )
    return output


@torch.no_grad()
def read_back(folder: Path, run: Path, name: str) -> None:
    """Read what was saved by plain transformers and PEFT; merge an adapter, and read that.

    Raises:
      Fault: the ways to read it differ, or nothing was trained.
    """
    from peft import PeftModel

    ids = torch.tensor([trees()[4].prompt])
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = base(input_ids=ids, use_cache=False).logits
    if name == "dpo, all weights":
        final = AutoModelForCausalLM.from_pretrained(run / "final", dtype=torch.float32).eval()
        after = final(input_ids=ids, use_cache=False).logits
    else:
        adapted = PeftModel.from_pretrained(base, run / "adapter").eval()
        after = adapted(input_ids=ids, use_cache=False).logits
        merged_run = export_run(str(run), None, merge=True, which="latest", dtype="float32")
        merged = AutoModelForCausalLM.from_pretrained(merged_run.folder, dtype=torch.float32).eval()
        logits = merged(input_ids=ids, use_cache=False).logits
        apart = ((logits - after).square().mean().sqrt() / after.std()).item()
        if not apart <= SAVED:
            raise Fault(f"merged and unmerged differ by {apart:.2g} of their spread")
    if torch.equal(before, after):
        raise Fault("the saved model is the one that training began with")


def stage(record: dict, name: str, work: Callable[[], object]) -> object:
    """Do one stage; record ok, refused with its reason, or a fault."""
    begun = time.time()
    try:
        found = work()
        entry = {"is": "ok"} | (found if isinstance(found, dict) else {})
    except AccordError as error:
        found, entry = None, {"is": "refused", "why": first_line(error), "text": str(error)[:600]}
    except Exception as error:  # whatever escapes as another class is what is searched for
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        why = f"{type(error).__name__}: {str(error)[:300]} ({place})"
        found, entry = None, {"is": "fault", "why": why, "differs": isinstance(error, Fault)}
    record[name] = entry | {"seconds": round(time.time() - begun, 1)}
    return found


def family(name: str, scratch: Path) -> dict:
    """Take one family through every stage."""
    folder, data = scratch / "model", scratch
    try:
        network = small_models.small_model(name)
        network.save_pretrained(folder)
        tokenizer = small_models.save_tokenizer(folder)
    except Exception as error:  # a configuration that wants more than is known here
        return {"made": f"cannot be made small: {type(error).__name__}: {str(error)[:200]}"}
    assert len(tokenizer) == small_models.VOCAB
    write_data(data)
    record: dict = {"made": type(network).__name__, "parameters": network.num_parameters()}
    stage(record, "numbers", lambda: numbers(folder))
    for method in METHODS:
        run = stage(record, method, partial(train, folder, data, method))
        if isinstance(run, Path) and method.startswith("dpo"):
            again = partial(read_back, folder, run, method)
            stage(record, f"{method}, read back", again)
    return record


def verdict(record: dict) -> str:
    """Say what happened to a family: tree, padded, refused, fault, not made."""
    stages = [entry for entry in record.values() if isinstance(entry, dict)]
    if not stages:
        return "time" if record["made"].startswith("took") else "not made"
    trained = [record[method]["is"] for method in METHODS if method in record]
    # numbers of a model that no method accepts (one that is not causal, say) mislead nobody
    turned_away = bool(trained) and all(found == "refused" for found in trained)
    if any(e["is"] == "fault" and not (turned_away and e.get("differs")) for e in stages):
        return "fault"
    if record["numbers"]["is"] == "ok" and record["dpo"]["is"] == "ok":
        return record["numbers"]["path"]
    return "refused"


# ---------------------------------------------------------------- all of them


def work(name: str, scratch: str) -> None:
    """Do a family in a process of its own; its record is a file."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(scratch)
    (folder / "record.json").write_text(json.dumps(family(name, folder)), encoding="utf-8")


def run_all(names: list[str], workers: int, write: Callable[[dict], None]) -> dict[str, dict]:
    """Take every family through, some at once; one that takes too long is ended. What is known is
    written after each.
    """
    context = multiprocessing.get_context("fork")
    waiting, records, running = list(reversed(names)), {}, {}
    while waiting or running:
        while waiting and len(running) < workers:
            name, scratch = waiting.pop(), tempfile.mkdtemp(prefix="family-")
            process = context.Process(target=work, args=(name, scratch))
            process.start()
            running[name] = (process, Path(scratch), time.time())
        time.sleep(0.05)
        for name, (process, scratch, begun) in list(running.items()):
            if process.is_alive() and time.time() - begun < LIMIT:
                continue
            process.kill() if process.is_alive() else process.join()
            file = scratch / "record.json"
            over = {"made": f"took over {LIMIT} s or ended with code {process.exitcode}"}
            records[name] = json.loads(file.read_text("utf-8")) if file.is_file() else over
            del running[name]
            shutil.rmtree(scratch, ignore_errors=True)
            print(line(name, records[name]), flush=True)
            write(records)
    return {name: records[name] for name in names}


def line(name: str, record: dict) -> str:
    """Format a family's row: the verdict, and the first reason of what is not ok."""
    stages = {n: entry for n, entry in record.items() if isinstance(entry, dict)}
    wrong = [f"{n}: {e['is']}: {e['why']}" for n, e in stages.items() if e["is"] != "ok"]
    if verdict(record) == "refused":  # the reason that a user is told
        told = [e.get("text") or e["why"] for e in stages.values() if e["is"] == "refused"]
        wrong = [" ".join(text.split()) for text in told] or wrong
    shown = wrong if verdict(record) == "fault" else wrong[:1]
    rest = "; ".join(shown) if stages else record["made"]
    seconds = sum(entry["seconds"] for entry in stages.values())
    return f"{name:<26}{verdict(record):<10}{seconds:>6.1f} s  {rest[:400]}"


def summary(records: dict[str, dict], begun: float) -> dict[str, int]:
    """Count the verdicts."""
    counts = Counter(verdict(record) for record in records.values())
    return {"families": len(records), "seconds": round(time.time() - begun), **counts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", help="names of families, separated by commas")
    parser.add_argument("--workers", type=int, default=2, help="families at once")
    parser.add_argument("--output", type=Path, help="file of the result")
    options = parser.parse_args()
    names = options.families.split(",") if options.families else small_models.families()
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    file = options.output or (None if options.families else RESULTS)
    begun = time.time()

    def write(records: dict) -> None:
        if file is not None:
            result = {"summary": summary(records, begun), "families": dict(sorted(records.items()))}
            file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    records = run_all(names, options.workers, write)
    counts = summary(records, begun)
    print(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return 1 if counts.get("fault") or counts.get("time") else 0


if __name__ == "__main__":
    sys.exit(main())
