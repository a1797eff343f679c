"""SilentBench: inject one fault at a time into small real runs of accord and of TRL, and see who says so.

    python -m benchmarks.silentbench                       from the repository's root; minutes on one core
    python -m benchmarks.silentbench --only merge --parts accord    faults whose name holds a word

Caught = refused or warned of by the end of preflight or within ten updates (the save at their end included), by a
message that matches the pattern of the fault's cause. What the same tool says of a clean run does not count. Results:
benchmarks/results/silentbench.json, and the table on standard output.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import argparse
import json
import tempfile
import time
from importlib import metadata
from pathlib import Path

import torch

from accord.models.embedded import embedded_folder, quiet
from benchmarks.silentbench import accord_side, trl_side
from benchmarks.silentbench.clean import FAMILIES, RUNS
from benchmarks.silentbench.fault import Fault, Outcome
from benchmarks.silentbench.in_code import CODE
from benchmarks.silentbench.in_config import CONFIG
from benchmarks.silentbench.in_data import DATA
from benchmarks.silentbench.world import World, make_model, small_tokenizer

RESULTS = Path(__file__).parents[1] / "results" / "silentbench.json"
FAULTS = {"data": DATA, "config": CONFIG, "code": CODE}
SHORT = 300  # characters of a message that are kept in the results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="faults and clean runs whose name holds this")
    parser.add_argument("--parts", default="accord,trl,clean", help="what to run; the rest is kept from the results that are there")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, quiet():
        bench = Bench(Path(folder), asked.only, set(asked.parts.split(",")), former(asked.output))
        faults, clean = bench.faults(), bench.clean()
    record = {
        "seconds": round(time.monotonic() - began), "versions": {n: metadata.version(n) for n in ("torch", "transformers", "peft", "trl")},
        "counts": counts(faults, clean), "faults": faults, "clean": clean,
    }  # fmt: skip
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


class Bench:
    """The models, made once, and a fresh world for each case."""

    def __init__(self, folder: Path, only: str, parts: set[str], former: dict):
        self.folder, self.only, self.parts, self.former, self.number = folder, only.lower(), parts, former, 0
        tokenizer = small_tokenizer(embedded_folder(), folder / "tokenizer")
        self.models = {family: make_model(folder / f"model-{family}", tokenizer, family) for family in FAMILIES}
        self.usual = set(trl_side.run(self.world(), lambda world: None).messages) if "trl" in parts else set()

    def world(self, family: str = "llama") -> World:
        self.number += 1
        folder = self.folder / f"case-{self.number}"
        folder.mkdir()
        return World(folder, self.models[family])

    def wanted(self, part: str, name: str) -> bool:
        return part in self.parts and self.only in name.lower()

    def faults(self) -> list[dict]:
        found = []
        for kind, faults in FAULTS.items():
            for fault in faults:
                entry = {"kind": kind, "number": fault.number, "fault": fault.name, "cause": fault.cause}
                entry |= self.former["faults"].get(fault.name, {"accord": None, "trl": None})
                if self.wanted("accord", fault.name):
                    entry["accord"] = judged(fault, accord_side.run(self.world(), fault.accord))
                if self.wanted("trl", fault.name):
                    entry["trl"] = judged(fault, trl_side.run(self.world(), fault.trl), self.usual) if fault.trl else None
                found.append(entry)
                say(entry)
        return found

    def clean(self) -> list[dict]:
        found = []
        for name, (family, change) in RUNS.items():
            if not self.wanted("clean", name):
                found += [entry for entry in self.former["clean"] if entry["run"] == name]
            else:
                outcome = accord_side.run(self.world(family), change)
                alarmed = bool(outcome.messages or outcome.trace or outcome.steps < accord_side.DEFAULTS["steps"])
                found.append({"run": name, "alarmed": alarmed, "messages": [m[:SHORT] for m in outcome.messages], "trace": outcome.trace[-SHORT:]})
                print(f"clean: {name}: {'FALSE ALARM ' + str(found[-1]) if alarmed else 'silent'}", flush=True)
        return found


def former(file: Path) -> dict:
    """The results of an earlier run, for the parts that are not run again."""
    if not file.exists():
        return {"faults": {}, "clean": []}
    record = json.loads(file.read_text())
    return {"faults": {e["fault"]: {side: e[side] for side in ("accord", "trl")} for e in record["faults"]}, "clean": record["clean"]}


def judged(fault: Fault, outcome: Outcome, usual: set[str] = frozenset()) -> dict:
    """Whether what a run said names the fault's cause."""
    said = [(message, where) for message, where in zip(outcome.messages, outcome.where) if message not in usual]
    named = fault.named_in([message for message, _ in said])
    where = next((where for message, where in said if message is named), "")
    return {"caught": named is not None, "where": where, "says": (named or "")[:SHORT], "steps": outcome.steps,
            "other": [m[:SHORT] for m, _ in said if m is not named][:4], "crash": outcome.trace[-SHORT:]}  # fmt: skip


def say(entry: dict) -> None:
    sides = ", ".join(f"{side} {word(entry[side])}" for side in ("accord", "trl"))
    print(f"{entry['kind']:<6} {entry['number']:<4} {entry['fault']}: {sides}", flush=True)


def word(side: dict | None) -> str:
    if side is None:
        return "–"
    return f"caught ({side['where']})" if side["caught"] else "missed"


def counts(faults: list[dict], clean: list[dict]) -> dict:
    trl = [entry for entry in faults if entry["trl"] is not None]
    return {
        "accord": caught("accord", [entry for entry in faults if entry["accord"] is not None]),
        "accord where TRL has the path": caught("accord", [entry for entry in trl if entry["accord"] is not None]),
        "trl": caught("trl", trl),
        "clean": {"false alarms": sum(e["alarmed"] for e in clean), "runs": len(clean)},
    }


def caught(side: str, faults: list[dict]) -> dict:
    return {"caught": sum(entry[side]["caught"] for entry in faults), "injected": len(faults)}


def table(record: dict) -> str:
    lines = ["| # | fault | accord | TRL |", "|---|---|---|---|"]
    lines += [f"| {e['number']} | {e['fault']} | {word(e['accord'])} | {word(e['trl'])} |" for e in record["faults"]]
    lines += ["", *(f"- {name}: " + ", ".join(f"{value} {key}" for key, value in each.items()) for name, each in record["counts"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
