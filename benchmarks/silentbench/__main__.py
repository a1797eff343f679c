"""SilentBench: inject one fault at a time into small real runs of accord and of TRL, and see who
says so.

    # from the repository's root; minutes on one core
    python -m benchmarks.silentbench
    # faults whose name holds a word of these
    python -m benchmarks.silentbench --only merge --parts accord

Caught = refused or warned of by the end of preflight or within ten updates (the save at their end
included), by a message that matches the pattern of the fault's cause. What the same tool says of a
clean run does not count. A run of accord that crashes is a bug of accord or a fault that no longer
fits its code: it counts as missed, and the exit code is 1. Results:
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
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from accord.environment.versions import installed_versions
from accord.models.embedded import embedded_folder, without_progress_bars
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
    parser.add_argument(
        "--only",
        nargs="*",
        default=[""],
        help="faults and clean runs whose name holds one of these",
    )
    parser.add_argument(
        "--parts",
        default="accord,trl,clean",
        help="what to run; the rest is kept from the results that are there",
    )
    parser.add_argument("--kinds", default="data,config,code", help="of faults")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    parts, kinds = set(asked.parts.split(",")), set(asked.kinds.split(","))
    with tempfile.TemporaryDirectory() as folder, without_progress_bars():
        bench = Bench(
            Path(folder), Asked([only.lower() for only in asked.only], parts, kinds), asked.output
        )
        bench.faults(), bench.clean()
    print(table(record := bench.record()))
    sys.exit(bool(record["counts"]["accord"]["crashed"]))


@dataclass(frozen=True)
class Asked:
    """What to run; everything else is kept from the results that are there."""

    only: list[str]
    parts: set[str]
    kinds: set[str]

    def wants(self, part: str, name: str, kind: str | None = None) -> bool:
        return (
            part in self.parts
            and any(only in name.lower() for only in self.only)
            and (kind is None or kind in self.kinds)
        )


class Bench:
    """The models, made once, and a fresh world for each case."""

    def __init__(self, folder: Path, asked: Asked, output: Path):
        self.folder, self.asked, self.output, self.number = folder, asked, output, 0
        self.results = former(output)
        tokenizer = small_tokenizer(embedded_folder(), folder / "tokenizer")
        self.models = {
            family: make_model(folder / f"model-{family}", tokenizer, family) for family in FAMILIES
        }
        self.usual = (
            set(trl_side.run(self.world(), lambda world: None).messages)
            if "trl" in asked.parts
            else set()
        )

    def world(self, family: str = "llama") -> World:
        self.number += 1
        folder = self.folder / f"case-{self.number}"
        folder.mkdir()
        return World(folder, self.models[family])

    def record(self) -> dict:
        """All results in the order of the tables, these and the former ones."""
        faults = [
            self.results["faults"][f.name]
            for faults in FAULTS.values()
            for f in faults
            if f.name in self.results["faults"]
        ]
        clean = [self.results["clean"][name] for name in RUNS if name in self.results["clean"]]
        # without TRL its side is kept from the results that are there
        versions = installed_versions(("torch", "transformers", "peft", "trl"))
        return {
            "versions": versions,
            "counts": counts(faults, clean),
            "faults": faults,
            "clean": clean,
        }

    def write(self) -> None:
        self.output.write_text(json.dumps(self.record(), indent=1) + "\n")

    def faults(self) -> None:
        for kind, faults in FAULTS.items():
            for fault in faults:
                sides = [
                    side for side in ("accord", "trl") if self.asked.wants(side, fault.name, kind)
                ]
                if sides:
                    entry = {"accord": None, "trl": None} | self.results["faults"].get(
                        fault.name, {}
                    )
                    entry |= {
                        "kind": kind,
                        "number": fault.number,
                        "fault": fault.name,
                        "cause": fault.cause,
                    }
                    self.results["faults"][fault.name] = entry | {
                        side: self.tried(side, fault) for side in sides
                    }
                    say(self.results["faults"][fault.name])
                    self.write()

    def tried(self, side: str, fault: Fault) -> dict | None:
        if side == "accord":
            return judged(fault, accord_side.run(self.world(), fault.accord))
        return (
            judged(fault, trl_side.run(self.world(), fault.trl), self.usual) if fault.trl else None
        )

    def clean(self) -> None:
        for name, (family, change) in RUNS.items():
            if self.asked.wants("clean", name):
                outcome = accord_side.run(self.world(family), change)
                alarmed = bool(
                    outcome.messages
                    or outcome.trace
                    or outcome.steps < accord_side.DEFAULTS["steps"]
                )
                entry = {
                    "run": name,
                    "alarmed": alarmed,
                    "messages": [m[:SHORT] for m in outcome.messages],
                    "trace": outcome.trace[-SHORT:],
                }
                self.results["clean"][name] = entry
                print(
                    f"clean: {name}: {'FALSE ALARM ' + str(entry) if alarmed else 'silent'}",
                    flush=True,
                )
                self.write()


def former(file: Path) -> dict:
    """The results of an earlier run, for the parts that are not run again."""
    if not file.exists():
        return {"faults": {}, "clean": {}}
    record = json.loads(file.read_text())
    return {
        "faults": {e["fault"]: e for e in record["faults"]},
        "clean": {e["run"]: e for e in record["clean"]},
    }


def judged(fault: Fault, outcome: Outcome, usual: set[str] = frozenset()) -> dict:
    """Whether what a run said names the fault's cause."""
    said = [
        (message, where)
        for message, where in zip(outcome.messages, outcome.where, strict=True)
        if message not in usual
    ]
    named = fault.named_in([message for message, _ in said])
    where = next((where for message, where in said if message is named), "")
    return {
        "caught": named is not None,
        "where": where,
        "says": (named or "")[:SHORT],
        "steps": outcome.steps,
        "other": [m[:SHORT] for m, _ in said if m is not named][:4],
        "crash": outcome.trace[-SHORT:],
    }


def say(entry: dict) -> None:
    sides = ", ".join(f"{side} {word(entry[side])}" for side in ("accord", "trl"))
    print(f"{entry['kind']:<6} {entry['number']:<4} {entry['fault']}: {sides}", flush=True)


def word(side: dict | None) -> str:
    if side is None:
        return "–"
    if side["crash"] and not side["caught"]:
        return "crashed"
    return f"caught ({side['where']})" if side["caught"] else "missed"


def counts(faults: list[dict], clean: list[dict]) -> dict:
    trl = [entry for entry in faults if entry["trl"] is not None]
    accord = [entry for entry in faults if entry["accord"] is not None]
    return {
        "accord": (
            caught("accord", accord)
            | {"crashed": sum(word(entry["accord"]) == "crashed" for entry in accord)}
        ),
        "accord where TRL has the path": caught(
            "accord", [entry for entry in accord if entry["trl"] is not None]
        ),
        "trl": caught("trl", trl),
        "clean": {"false alarms": sum(e["alarmed"] for e in clean), "runs": len(clean)},
    }


def caught(side: str, faults: list[dict]) -> dict:
    return {"caught": sum(entry[side]["caught"] for entry in faults), "injected": len(faults)}


def table(record: dict) -> str:
    lines = ["| # | fault | accord | TRL |", "|---|---|---|---|"]
    lines += [
        f"| {e['number']} | {e['fault']} | {word(e['accord'])} | {word(e['trl'])} |"
        for e in record["faults"]
    ]
    lines += [
        "",
        *(
            f"- {name}: " + ", ".join(f"{value} {key}" for key, value in each.items())
            for name, each in record["counts"].items()
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
