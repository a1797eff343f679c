"""Time and memory of encoding 10,000, 100,000 and 1,000,000 synthetic pairs, made from real ones;
and TRL's preparation of the same rows beside it.

    python benchmarks/scale.py --data DIR/permissive_mix/train.jsonl.gz
    python benchmarks/scale.py --data FILE --sizes 100000 --trl 100000 --no-runs

For each size, each in a process of its own: the file is encoded and every row checked; it is opened
again; a run of one update begins on it (the second start of the run: its own checks have been made
by a first). Memory is the process' own (anonymous pages), above what it has with the model loaded:
pages of the store are the system's, and go when they are wanted elsewhere.

TRL (--trl, 1.16.0 must be installed) prepares its data set as its trainer does, with
dataset_num_proc=2 and an empty cache, and a second time from its cache; the two take turns.

Results: benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.audit_scale import make

RESULT = Path(__file__).parent / "results/scale.json"
SIZES = (10_000, 100_000, 1_000_000)
LIMIT = 1024  # tokens of a row
UPDATES = 200
KILLS = 10


class Memory:
    """The largest anonymous memory of this process, looked at twenty times a second."""

    def __init__(self) -> None:
        self.peak = self.now()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    @staticmethod
    def now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

    def _look(self) -> None:
        while not self.stop.wait(0.05):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> Memory:
        self.before = self.peak = self.now()
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join()

    @property
    def megabytes(self) -> int:
        return round((self.peak - self.before) / 1e6)


# ---------------------------------------------------------------- each in a process of its own


def encode(path: str) -> dict:
    """Encode a file, or open what was encoded."""
    from accord.data.naming import PLAIN
    from accord.data.store.encode import Wanted, encoded_file
    from accord.data.templates import make_template
    from accord.data.tokenizer_digest import tokenizer_digest
    from accord.data.trees import Limits
    from accord.models.load import load

    model = load("smollm2")
    template = make_template(model.tokenizer, "auto", generation_eos=model.stop_ids)
    digest = tokenizer_digest(model.tokenizer)
    with Memory() as memory:
        start, cpu = time.perf_counter(), time.process_time()
        found = encoded_file(
            Wanted(path, "pairs", PLAIN, template, Limits(LIMIT), digest),
            lambda done, total: None,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        tokens = int(found.encoding.trees.lengths.sum())
    return {
        "rows": found.dataset.ledger.rows,
        "trees": len(found.encoding.trees),
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "megabytes": memory.megabytes,
    }


def begin(path: str) -> dict:
    """Begin a run of one update; the clock runs from before the model is loaded."""
    import accord

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        updated: list[float] = []  # when the first update was there
        watch = threading.Thread(
            target=_wait_for, args=(Path(f"{folder}/run/timings.jsonl"), updated), daemon=True
        )
        watch.start()
        done = accord.train(
            model="smollm2", data=path, output=f"{folder}/run", steps=1, batch_size=8
        )
        seconds = time.perf_counter() - start
        watch.join(1)
        timings = json.loads((done.folder / "timings.jsonl").read_text().splitlines()[0])
    return {
        "seconds": round(seconds, 1),
        "first_update_seconds": round(updated[0] - start, 1),
        "timings": timings,
        "megabytes": memory.megabytes,
    }


def _wait_for(file: Path, found: list[float]) -> None:
    """Write down when a file holds something."""
    while not (file.exists() and file.stat().st_size):
        time.sleep(0.05)
    found.append(time.perf_counter())


def trl(path: str) -> dict:
    """Prepare a data set as TRL's trainer of DPO does."""
    import datasets
    from trl import DPOConfig, DPOTrainer

    from accord.models.load import load

    tokenizer = load("smollm2").tokenizer

    def spoken(row: dict) -> dict:
        return {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }

    conversations = Path(path).with_suffix(".trl.jsonl")  # its own form, made before the clock
    if not conversations.exists():
        with open(path, encoding="utf-8") as rows, open(conversations, "w", encoding="utf-8") as to:
            to.writelines(json.dumps(spoken(json.loads(row))) + "\n" for row in rows)
    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer._tokenizer = tokenizer
    with Memory() as memory, tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        loaded = datasets.load_dataset("json", data_files=str(conversations), split="train")
        arguments = DPOConfig(folder, dataset_num_proc=2, bf16=False, report_to=[])
        done = trainer._prepare_dataset(loaded, tokenizer, arguments, "train")
        seconds = time.perf_counter() - start
    return {"rows": len(done), "seconds": round(seconds, 2), "megabytes": memory.megabytes}


def updates(path: str) -> dict:
    """Make UPDATES updates of a small random model with the tokenizer of the embedded one."""
    import statistics
    import warnings

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import accord
    from accord.models.load import load

    warnings.simplefilter("ignore")
    embedded = load("smollm2")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    vocabulary = embedded.network.config.vocab_size
    network = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **shape, **heads))
    network.generation_config = embedded.network.generation_config
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(f"{folder}/model")
        embedded.tokenizer.save_pretrained(f"{folder}/model")
        del embedded
        start = time.perf_counter()
        done = accord.train(
            # 800 rows: none of either file comes twice, so that each update computes its reference
            model=f"{folder}/model",
            data=path,
            output=f"{folder}/run",
            steps=UPDATES,
            batch_size=4,
        )
        seconds = time.perf_counter() - start
        lines = (done.folder / "timings.jsonl").read_text().splitlines()
    steps = [each for line in lines if "seconds" in (each := json.loads(line))]
    later = [each["rss"] / 1e6 for each in steps]
    return {
        "updates": len(steps),
        "seconds": round(seconds, 1),
        "median_update_seconds": round(statistics.median(each["seconds"] for each in steps), 4),
        "rss_mb_at_50": round(later[49]),
        "rss_mb_at_the_end": round(later[-1]),
    }


TASKS = {"encode": encode, "begin": begin, "trl": trl, "updates": updates}


# ---------------------------------------------------------------- the table


def child(task: str, path: Path, cache: Path) -> dict:
    """Run one task in a process of its own; its whole wall clock counts too."""
    environment = {**os.environ, "ACCORD_CACHE": str(cache), "HF_DATASETS_CACHE": f"{cache}/hf"}
    _with_models(cache)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--task", task, "--path", str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found | {"process_seconds": round(time.perf_counter() - start, 1)}


def _with_models(cache: Path) -> None:
    """Let a cache of its own have the embedded model, which is not made again."""
    models = Path(os.environ.get("ACCORD_CACHE") or Path.home() / ".cache/accord")
    cache.mkdir(parents=True, exist_ok=True)
    for model in models.glob("smollm2*"):  # the embedded model is not made again
        if not (cache / model.name).exists():
            (cache / model.name).symlink_to(model)


def killed(file: Path, work: Path) -> dict:
    """Kill the encoding at random times; compare the store with an uninterrupted one, byte by
    byte.
    """
    child("encode", file, work / "whole")
    stores = []
    chosen, times = random.Random(0), []
    command = [sys.executable, __file__, "--task", "encode", "--path", str(file)]
    environment = {**os.environ, "ACCORD_CACHE": str(work / "killed")}
    _with_models(work / "killed")
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:  # until the work begins
            if line.startswith("encoding"):
                break
        times.append(chosen.uniform(0.0, 4.0))
        time.sleep(times[-1])
        process.kill()
        process.wait()
    child("encode", file, work / "killed")
    for name in ("whole", "killed"):
        (place,) = (each for each in (work / name / "tokens").iterdir() if each.is_dir())
        stores.append({each.name: each.read_bytes() for each in place.iterdir() if each.is_file()})
    return {
        "kills": KILLS,
        "seconds": [round(t, 2) for t in times],
        "equal": stores[0] == stores[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--trl", type=int, default=0, help="rows that TRL prepares as well")
    parser.add_argument("--no-runs", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(TASKS[options.task](options.path)))
        return
    record = {"machine": platform.processor() or platform.machine(), "sizes": [], "trl": None}
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for size in options.sizes:
            file, cache = work / f"{size}.jsonl", work / f"cache-{size}"
            if not file.exists():
                make(options.data, size, file)
            row = {"pairs": size, "bytes": file.stat().st_size}
            row["first"] = child("encode", file, cache)
            row["second"] = child("encode", file, cache)
            if not options.no_runs:
                row["first_run"] = child("begin", file, cache)
                row["second_run"] = child("begin", file, cache)
            record["sizes"].append(row)
            print(json.dumps(row), flush=True)
        if not options.no_runs:
            large, file = work / f"cache-{max(options.sizes)}", work / "1000.jsonl"
            make(options.data, 1_000, file)
            record["updates"] = {
                "1000": child("updates", file, large),
                str(max(options.sizes)): child(
                    "updates", work / f"{max(options.sizes)}.jsonl", large
                ),
            }
            record["killed"] = killed(work / f"{min(options.sizes)}.jsonl", work / "kills")
            print(json.dumps([record["updates"], record["killed"]]), flush=True)
        if options.trl:
            file, cache = work / f"{options.trl}.jsonl", work / "cache-trl"
            if not file.exists():
                make(options.data, options.trl, file)
            theirs = child("trl", file, cache)
            again = child("trl", file, cache)
            ours = child("encode", file, work / "cache-beside")
            record["trl"] = {"first": theirs, "second": again, "accord": ours}
            print(json.dumps(record["trl"]), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
