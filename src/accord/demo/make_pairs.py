"""Make the demonstration's preference pairs: `python -m accord.demo.make_pairs --out DIR`, about 3
minutes on 2 cores.

The DPO paper's controlled-sentiment experiment in miniature (Rafailov et al. 2023,
arXiv:2305.18290, §6): the embedded model answers each prompt K times, and its most positive answer
is preferred to its most negative one, by a scorer that stands for the truth. So both answers are
the model's own, and no person's data is in them.

Writes train.jsonl, held_out.jsonl and sample_prompts.txt. Train and held-out share no topic. The
same seed gives the same files on the same machine; bfloat16 rounds otherwise on another.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.errors import plural
from accord.models.embedded import EMBEDDED_NAME
from accord.rewards.sentiment import compound
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Sample
from accord.types import AccordError

PROMPTS = Path(__file__).with_name("prompts.txt")
ANSWERS = 12  # K of each prompt
# at 1 this 4-bit model of 135M weights often leaves English, and pairs would teach that too
TEMPERATURE = 0.8
# longer answers are not used: training on all pairs has to take less than two minutes
MAX_NEW_TOKENS = 20
LEAST_GAP = 0.5  # in compound sentiment, between the two answers of a pair
HELD_OUT_TOPICS = 0.22  # their share
# not to be shipped
COARSE = re.compile(
    r"\b(?:fuck|shit|bitch|orgasm|sex|porn|nude|rape|suicid|murder|kill)", re.IGNORECASE
)
SAMPLE_PROMPTS = 64  # held-out prompts for fresh samples, before training and after


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer with its sentiment."""

    text: str
    score: float


def read_topics(path: Path) -> list[list[str]]:
    """Read the prompts of each topic: an empty line separates topics, each prompt has a line."""
    return [block.splitlines() for block in path.read_text(encoding="utf-8").strip().split("\n\n")]


def split_topics(
    topics: Sequence[list[str]], share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Split into prompts to train on and held-out ones: whole topics at random, in the file's
    order.
    """
    count = round(share * len(topics))
    held_out = set(random.Random(seed).sample(range(len(topics)), count))
    train = [prompt for i, topic in enumerate(topics) if i not in held_out for prompt in topic]
    return train, [prompt for i, topic in enumerate(topics) if i in held_out for prompt in topic]


def pair(prompt: str, answers: Sequence[Scored], least_gap: float) -> dict | None:
    """Make the row that prefers the best answer to the worst; None where they are less than
    `least_gap` apart.
    """
    if not answers:
        return None
    best, worst = max(answers, key=lambda a: a.score), min(answers, key=lambda a: a.score)
    if best.score - worst.score < least_gap:
        return None
    return {
        "prompt": prompt,
        "chosen": best.text,
        "rejected": worst.text,
        "score_chosen": best.score,
        "score_rejected": worst.score,
    }


def usable(answer: Sample) -> bool:
    """Tell whether the model ended the answer itself, and the answer can be shipped."""
    return answer.ended and bool(answer.text.strip()) and not COARSE.search(answer.text)


def answer_prompts(prompts: Sequence[str], seed: int) -> dict[str, list[Scored]]:
    """Draw K answers to each prompt from the embedded model and score them; return the usable ones
    and print what was measured.
    """
    from accord.models.load import load

    model = load(EMBEDDED_NAME)
    ids = {prompt: _ids(model.tokenizer, prompt) for prompt in prompts}
    asked = [prompt for prompt in prompts for _ in range(ANSWERS)]
    start = time.perf_counter()
    answers = LocalSampler.of(model).sample(
        [ids[prompt] for prompt in asked],
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=TEMPERATURE,
        seed=seed,
    )
    rate = sum(len(answer.tokens) for answer in answers) / (time.perf_counter() - start)
    scored: dict[str, list[Scored]] = {prompt: [] for prompt in prompts}
    scores = compound(answer.text for answer in answers)
    for prompt, answer, score in zip(asked, answers, scores, strict=True):
        if usable(answer):
            scored[prompt].append(Scored(answer.text.strip(), score))
    kept = sum(map(len, scored.values()))
    print(f"{plural(len(answers), 'answer')} at {rate:,.0f} tokens/s")
    print(f"{kept:,} usable: ended within {MAX_NEW_TOKENS} tokens, not empty, not coarse")
    print(f"mean sentiment of all answers {sum(scores) / len(scores):+.3f}")
    return scored


def write_jsonl(path: Path, rows: Sequence[dict]) -> None:
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    print(f"{path}: {plural(len(rows), 'pair')}")


def make(out: Path, seed: int) -> None:
    """Sample, score, pair, split and write."""
    train, held_out = split_topics(read_topics(PROMPTS), HELD_OUT_TOPICS, seed)
    answers = answer_prompts([*train, *held_out], seed)
    out.mkdir(parents=True, exist_ok=True)
    for name, prompts in (("train.jsonl", train), ("held_out.jsonl", held_out)):
        rows = [pair(prompt, answers[prompt], LEAST_GAP) for prompt in prompts]
        write_jsonl(out / name, [row for row in rows if row is not None])
    asked = random.Random(seed).sample(held_out, min(SAMPLE_PROMPTS, len(held_out)))
    (out / "sample_prompts.txt").write_text("\n".join(asked) + "\n", encoding="utf-8")


def _ids(tokenizer, prompt: str) -> tuple[int, ...]:
    turns = [{"role": "user", "content": prompt}]
    return tuple(
        tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m accord.demo.make_pairs", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the three files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        make(options.out, options.seed)
    except AccordError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
