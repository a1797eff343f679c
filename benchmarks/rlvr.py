"""Reinforcement learning from verifiable rewards on 2 CPU cores: does GRPO teach a 135M model to
keep to what it is told?

    python benchmarks/rlvr.py prompts --data DIR       # rlvr/train.jsonl, held_out.jsonl,
                                                       # ifeval.jsonl (see verifying/prompts.py)
    python benchmarks/rlvr.py rates                    # of which constraint the model meets how
                                                       # much as it stands
    python benchmarks/rlvr.py before                   # what it passes before any training
    python benchmarks/rlvr.py train --seed 0           # the recipe constraints_grpo, measured
                                                       # after it; --beta 0.1: with a KL term

DIR holds truthfulqa/, hh_helpful/ and ifeval/ (see BENCHMARKS.md). An answer passes where it meets
all constraints of its prompt. Before and after answer the same prompts with the same random
numbers; intervals are clustered by prompt, and that of the gain is of the paired differences.
Results go to benchmarks/results/rlvr.json, one entry a run; what is there is replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from verifying.prompts import make, rows_of
from verifying.tasks import TASKS, TRAINED, asked

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "src/accord/recipes/constraints_grpo.yaml"
RESULTS = ROOT / "benchmarks/results/rlvr.json"
RATED, RATE_K, RATE_TOKENS = 40, 4, 64  # requests, answers to each, tokens of an answer
SETS = {"held_out": (2, 40), "ifeval": (1, 64)}  # answers to each prompt, tokens of an answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("prompts", "rates", "before", "train"))
    parser.add_argument("--data", type=Path, help="the real sets, for prompts")
    parser.add_argument("--folder", type=Path, default=Path("rlvr"), help="of the prompts and runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the KL term in the loss")
    options = parser.parse_args()
    results = (
        json.loads(RESULTS.read_text())
        if RESULTS.exists()
        else {"base_rates": {}, "before": {}, "runs": {}}
    )
    if options.what == "prompts":
        results["prompts"] = make(options.data, options.folder)
    elif options.what == "rates":
        for kind, rate in rates(options.folder):
            results["base_rates"][kind] = rate
            print(kind, json.dumps(rate), flush=True)
            write(results)
    elif options.what == "before":
        results["before"] = measured("smollm2", options.folder)
    else:
        run, cost = trained(options.folder, options.seed, options.beta)
        found = {
            **cost,
            **learning(run),
            **compared(results["before"], measured(str(run), options.folder)),
        }
        results["runs"][f"seed {options.seed}, beta {options.beta:g}"] = found
        print(json.dumps({name: found[name] for name in SETS}, indent=1))
    write(results)


def write(results: dict) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


# ---------------------------------------------------------------- one run


def trained(folder: Path, seed: int, beta: float) -> tuple[Path, dict]:
    """`accord train` with the recipe in a process of its own, unless it is there; its folder, and
    what it cost.
    """
    run = folder / f"run-{seed}-{beta:g}"
    cost_file = run.with_suffix(".json")
    if not cost_file.exists():
        command = [
            sys.executable,
            "-m",
            "accord",
            "train",
            str(RECIPE),
            "--output",
            str(run),
            "--seed",
            str(seed),
            "--set",
            f"objective.beta={beta}",
            "--data",
            str(folder / "train.jsonl"),
            "--held-out",
            str(folder / "held_out.jsonl"),
        ]
        began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, env=os.environ)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        cost = {
            "command": (
                f"accord train constraints_grpo.yaml --seed {seed} --set objective.beta={beta:g}"
            ),
            "seconds": time.perf_counter() - began,
            "cpu_seconds": cpu,
            "peak_gb": now.ru_maxrss / 2**20,
        }
        cost_file.write_text(json.dumps(cost))
    return run, json.loads(cost_file.read_text())


def learning(run: Path, most: int | None = None) -> dict:
    """How it went: reward, groups that teach nothing, KL and repetition, of the first and the last
    five updates.
    """
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if "rollouts/reward" in line][:most]
    names = (
        "rollouts/reward",
        "rollouts/flat_groups",
        "rollouts/tokens",
        "rollouts/ended",
        "rollouts/kl",
        "entropy",
    )

    def means(some: list[dict]) -> dict:
        out = {
            name.removeprefix("rollouts/"): mean([line[name] for line in some]) for name in names
        }
        return out | {
            "repeated": mean(
                [share for line in some for share in repetition(run, line["step"] - 1)]
            )
        }

    sides = {"first_five": updates[:5], "last_five": updates[-5:]}
    return {
        "updates": len(updates),
        **{
            side: means(some) | fresh(run, [line["step"] - 1 for line in some])
            for side, some in sides.items()
        },
    }


def fresh(run: Path, batches: list[int]) -> dict:
    """Share of the answers of some batches that meet all that they were asked, by prompt. A run
    that reads its prompts once at most asks each of them here for the first time: nothing has been
    learned from it.
    """
    from accord.evaluate.intervals import bootstrap_mean

    answers = [
        a
        for batch in batches
        for a in json.loads((run / f"rollouts/{batch:06}.json").read_text().splitlines()[1])[
            "answers"
        ]
    ]
    found = bootstrap_mean(
        [float(a["reward"] == 1) for a in answers], clusters=[a["prompt"] for a in answers]
    )
    return {
        "all_met": [found.value, found.low, found.high],
        "prompts": len({a["prompt"] for a in answers}),
        "answers": len(answers),
    }


def repetition(run: Path, batch: int) -> list[float]:
    """Of each answer of a batch, the share of it that says again what it has said."""
    from accord.evaluate.probe import repeated_share

    body = json.loads((run / f"rollouts/{batch:06}.json").read_text().splitlines()[1])
    return [repeated_share(answer["tokens"]) for answer in body["answers"]]


# ---------------------------------------------------------------- what a model meets


def measured(name: str, folder: Path) -> dict[str, list[dict]]:
    """Of each set, each prompt's answers: which constraints were met, by answer."""
    from accord.assess.opened import open_model

    opened = open_model(name)
    return {
        file: met(opened, list(rows_of(folder / f"{file}.jsonl")), *how)
        for file, how in SETS.items()
    }


def met(opened, rows: list[dict], k: int, tokens: int) -> list[dict]:
    """A line a prompt: its kinds, and of each of its `k` answers which constraints it meets and how
    long it is.
    """
    from accord.rewards.constraints import constraints
    from accord.rewards.ifeval import stated
    from accord.sampling.local import LocalSampler
    from accord.types import Turn

    judge, out = constraints(strict=True), []
    ids = [opened.template.question((Turn("user", row["prompt"]),)) for row in rows]
    repeated = [i for i in ids for _ in range(k)]
    # Few rows at a time: 180 of them, as many as fit by default, took 6.5 GB of a machine that
    # others were using.
    sampler = LocalSampler(opened.model.network, opened.model.tokenizer, batch_tokens=4_096)
    answers = sampler.sample(repeated, max_new_tokens=tokens, seed=1)
    for number, row in enumerate(rows):
        own, wanted = answers[number * k : (number + 1) * k], stated(row)
        kinds = row.get("kinds") or row["instruction_id_list"]
        held = [[judge(answer.text, {"constraints": [one]}) for one in wanted] for answer in own]
        out.append(
            {
                "kinds": kinds,
                "met": held,
                "tokens": [len(answer.tokens) for answer in own],
                "ended": [answer.ended for answer in own],
            }
        )
    return out


def rates(folder: Path):
    """(kind, its base rate) of every constraint,
    each with the same requests that are trained on.
    """
    from accord.assess.opened import open_model

    opened = open_model("smollm2")
    requests = [row["request"] for row in rows_of(folder / "train.jsonl")][:RATED]
    for kind in TASKS:
        lines = met(opened, [asked(text, [kind], both=0) for text in requests], RATE_K, RATE_TOKENS)
        passes = [[all(one) for one in line["met"]] for line in lines]
        yield (
            kind,
            {
                "rate": mean([p for some in passes for p in some]),
                "groups_that_differ": mean([len(set(some)) > 1 for some in passes]),
                "prompts": len(lines),
                "answers": RATE_K,
                "trained_on": kind in TRAINED,
            },
        )


def compared(before: dict[str, list[dict]], after: dict[str, list[dict]]) -> dict:
    """Pass rates before and after with their intervals, and of the gain;
    by kind the rates alone.
    """
    from accord.evaluate.intervals import bootstrap_difference, bootstrap_mean

    out = {}
    for name in SETS:
        clusters = [i for i, line in enumerate(after[name]) for _ in line["met"]]
        old, new = (
            [float(all(one)) for line in side[name] for one in line["met"]]
            for side in (before, after)
        )
        figures = {
            "before": bootstrap_mean(old, clusters=clusters),
            "after": bootstrap_mean(new, clusters=clusters),
            "gain": bootstrap_difference(new, old, clusters=clusters),
        }
        out[name] = {key: [found.value, found.low, found.high] for key, found in figures.items()}
        out[name] |= {
            "prompts": len(after[name]),
            "answers": len(clusters),
            "by_kind": by_kind(before[name], after[name]),
        }
        out[name] |= {
            f"tokens_{when}": mean([t for line in side[name] for t in line["tokens"]])
            for when, side in (("before", before), ("after", after))
        }
    return out


def by_kind(before: list[dict], after: list[dict]) -> dict[str, list[float]]:
    """Of each constraint: the share that met it before, after,
    and how many prompts asked for it.
    """
    kinds = sorted({kind for line in after for kind in line["kinds"]})

    def share(lines: list[dict], kind: str) -> float:
        return mean(
            [
                one[place]
                for line in lines
                for place, name in enumerate(line["kinds"])
                if name == kind
                for one in line["met"]
            ]
        )

    return {
        kind: [
            share(before, kind),
            share(after, kind),
            sum(kind in line["kinds"] for line in after),
        ]
        for kind in kinds
    }


def mean(values: list) -> float:
    return sum(values) / max(1, len(values))


if __name__ == "__main__":
    main()
