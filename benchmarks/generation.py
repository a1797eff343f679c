"""accord's sampling against transformers' generate(num_return_sequences=8): same model, same
prompts, one process, in turns.

    python benchmarks/generation.py --data DIR [--repeats 3] [--threads 2]

SmolLM2-135M in bfloat16, K = 8 answers to each prompt, temperature 1. What is counted are tokens up
to and with an answer's end: transformers goes on with padding until the longest row has ended, and
that is part of what is compared. Before the clock starts both must give the same greedy tokens in
float32. Results: benchmarks/results/generation.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peak import device_peak_gb, forget_device_peak
from transformers import AutoModelForCausalLM

from accord.data.prompts import read_prompts
from accord.data.templates import make_template
from accord.models.language import stop_ids_of
from accord.models.load import load
from accord.sampling.local import LocalSampler

RESULT = Path(__file__).parent / "results/generation.json"
K = 8


@dataclass(frozen=True)
class Case:
    file: str
    prompts: int
    new_tokens: int
    longest: int  # tokens of a prompt; longer ones are passed over
    shortest: int = 0


CASES = {
    "short prompts (truthfulqa)": Case("truthfulqa/pairs_train.jsonl", 8, 64, 80),
    "short prompts, until most answers end (truthfulqa)": Case(
        "truthfulqa/pairs_train.jsonl", 4, 192, 80
    ),
    "long prompts (ultrafeedback_small)": Case(
        "ultrafeedback_small/pairs_train.jsonl.gz", 4, 64, 500, 250
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--check", type=int, default=24, help="greedy tokens that must be the same in float32"
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    exact, ours = load("smollm2", dtype="float32"), load("smollm2", dtype="bfloat16")
    theirs = AutoModelForCausalLM.from_pretrained(ours.folder, dtype=torch.bfloat16).eval()
    results = {
        "threads": options.threads,
        "torch": torch.__version__,
        "K": K,
        "dtype": "bfloat16",
        "cases": {},
    }
    for name, case in CASES.items():
        prompts = _prompts(case, options.data, ours)
        same = same_greedy(exact, prompts, options.check)
        pairs = [take_turns(case, ours, theirs, prompts, seed) for seed in range(options.repeats)]
        results["cases"][name] = summary(case, prompts, pairs) | {"greedy_tokens_equal": same}
        print(name, json.dumps(results["cases"][name], indent=1), flush=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n")


def _prompts(case: Case, data: Path, model) -> list[tuple[int, ...]]:
    template = make_template(model.tokenizer, "auto")
    found = []
    for question in read_prompts(str(data / case.file)).prompts:
        if len(question.turns[-1].content) < 4_000:
            ids = template.question(question.turns)
            if case.shortest <= len(ids) <= case.longest:
                found.append(ids)
        if len(found) == case.prompts:
            break
    return found


def same_greedy(exact, prompts: Sequence[tuple[int, ...]], new_tokens: int) -> bool:
    """Tell whether both give the same greedy tokens, in float32."""
    theirs = generate(exact, prompts, new_tokens, do_sample=False)
    ours = LocalSampler.of(exact).sample(prompts, max_new_tokens=new_tokens, temperature=0.0)
    return [list(answer.tokens) for answer in ours] == theirs


def take_turns(case: Case, ours, theirs, prompts: list[tuple[int, ...]], seed: int) -> dict:
    """Draw by both, one after the other; the order changes from turn to turn."""

    def accord() -> int:
        repeated = [prompt for prompt in prompts for _ in range(K)]
        answers = LocalSampler.of(ours).sample(repeated, max_new_tokens=case.new_tokens, seed=seed)
        return sum(len(answer.tokens) for answer in answers)

    def transformers() -> int:
        torch.manual_seed(seed)
        rows = generate(
            ours,
            prompts,
            case.new_tokens,
            network=theirs,
            do_sample=True,
            top_k=0,
            num_return_sequences=K,
        )
        return sum(map(len, rows))

    sides: list[tuple[str, Callable[[], int]]] = [
        ("accord", accord),
        ("transformers", transformers),
    ]
    out = {}
    for name, run in sides if seed % 2 == 0 else sides[::-1]:
        forget_device_peak()
        began = time.perf_counter()
        tokens = run()
        out[name] = {"tokens": tokens, "seconds": time.perf_counter() - began}
        if (most := device_peak_gb()) is not None:
            out[name]["device_peak_gb"] = most
    return out


@torch.inference_mode()
def generate(
    model, prompts: Sequence[tuple[int, ...]], new_tokens: int, network=None, **options
) -> list[list[int]]:
    """Draw transformers' answers, cut behind the end token."""
    longest = max(map(len, prompts))
    ids, mask = (
        torch.zeros(len(prompts), longest, dtype=torch.long),
        torch.zeros(len(prompts), longest, dtype=torch.long),
    )
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    network = network if network is not None else model.network
    end = model.tokenizer.eos_token_id
    ids, mask = ids.to(network.device), mask.to(network.device)
    made = network.generate(
        ids, attention_mask=mask, max_new_tokens=new_tokens, pad_token_id=end, **options
    )[:, longest:].tolist()
    ends = stop_ids_of(network, model.tokenizer)
    return [
        row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))]
        for row in made
    ]


def summary(case: Case, prompts: list[tuple[int, ...]], pairs: list[dict]) -> dict:
    rates = {
        side: [pair[side]["tokens"] / pair[side]["seconds"] for pair in pairs]
        for side in ("accord", "transformers")
    }
    ratios = [a / b for a, b in zip(rates["accord"], rates["transformers"], strict=True)]
    return {
        "prompts": len(prompts),
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "new_tokens": case.new_tokens,
        "tokens_a_second": {side: statistics.median(values) for side, values in rates.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "runs": pairs,
    }


if __name__ == "__main__":
    main()
