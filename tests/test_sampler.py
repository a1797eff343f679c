"""The seam `Sampler`: processes that deal prompts draw what one does, and another sampler needs no
other file.
"""

from dataclasses import replace

import pytest
import torch
from evaluate.test_generate import PROMPTS, TOKENIZER, llama
from training.helpers import json_lines, ready_for
from training.worlds import in_world

from accord.distributed.world import join_world
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Sample, Sampler

MANY = [prompt for prompt in PROMPTS for _ in range(3)]


def told(samples: list[Sample]) -> list:
    return [[list(s.tokens), s.text, s.finish_reason, list(s.logps)] for s in samples]


def drawn(prompts, options) -> list:
    """Each rank draws its block."""
    with join_world() as world:
        sampler = LocalSampler(llama(), TOKENIZER)

        def draw(own: range) -> list:
            mine = [prompts[i] for i in own]
            first = {"max_new_tokens": 12, "seed": 3, "first_row": 40 + own.start}
            return told(sampler.sample(mine, **first, **options))

        return world.share_out(len(prompts), draw)


@pytest.mark.parametrize(
    "prompts, options",
    [
        (MANY, {}),
        (MANY, {"temperature": 0.7, "top_p": 0.8}),
        ([PROMPTS[1]] * 5, {}),
        (MANY[:1], {}),
    ],
    ids=["all", "nucleus", "one prompt", "one answer"],
)
def test_a_world_of_any_size_draws_the_same(prompts, options, tmp_path):
    """Tokens, texts and endings to the byte, on every rank; log-probs but for the rounding of a
    smaller batch. An answer for one rank leaves the others without any.
    """
    alone = told(
        LocalSampler(llama(), TOKENIZER).sample(
            prompts, max_new_tokens=12, seed=3, first_row=40, **options
        )
    )
    for size in (1, 2, 3):
        for found in in_world(size, tmp_path / str(size), drawn, prompts, options):
            assert [one[:3] for one in found] == [one[:3] for one in alone]
            for one, other in zip(found, alone, strict=True):
                assert one[3] == pytest.approx(other[3], rel=1e-5, abs=1e-6)
    assert {reason for _, _, reason, _ in alone} <= {"stop", "length"}


def test_the_version_names_the_weights():
    model = llama()
    sampler = LocalSampler(model, TOKENIZER)
    trained = LocalSampler(model, TOKENIZER, weights={"head": model.lm_head.weight})
    before = sampler.policy_version(), trained.policy_version()
    assert before == (sampler.policy_version(), trained.policy_version())
    with torch.no_grad():
        model.model.norm.weight += 1
    assert sampler.policy_version() != before[0] and trained.policy_version() == before[1]
    model.bfloat16()
    assert sampler.policy_version()


# ---------------------------------------------------------------- another sampler


class Fixed:
    """A stand-in that says the same to every prompt, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    joint = False

    def policy_version(self):
        return "fixed"

    def rest(self):
        pass

    def sample(
        self, prompts, *, max_new_tokens, temperature=1.0, top_p=1.0, seed=0, first_row=0
    ) -> list[Sample]:
        self.asked.append((len(prompts), max_new_tokens, temperature, first_row))
        rows = range(first_row, first_row + len(prompts))
        return [
            Sample((7,) * (1 + row % 3), f"answer {row}", "length", (-0.5,) * (1 + row % 3))
            for row in rows
        ]


def test_a_stand_in_draws_for_a_run(tiny_folder, tmp_path):
    """The batch consists of its answers, with rewards and log-probs, and names its weights."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"say something about number {n}\n" for n in range(4)))
    fields = {
        "rollouts.rewards": ["length"],
        "rollouts.num_generations": 3,
        "rollouts.max_new_tokens": 6,
        "rollouts.max_gap": 100.0,  # it says .5 nats of every token
    }
    ready = ready_for(tiny_folder, str(prompts), method="grpo", batch_size=4, fields=fields)
    sampler: Sampler = Fixed()
    source = replace(ready.source, sampler=sampler, folder=tmp_path, _made={}, _carried={})
    batch = source.drawn_batch(0, fresh=True)
    assert sampler.asked == [(12, 6, 1.0, 0)]
    assert sorted(len(c) for tree in batch.trees for c in tree.completions) == sorted([1, 2, 3] * 4)
    (line,) = [json for json in json_lines(tmp_path / "rollouts/000000.json") if "batch" in json]
    fifth = line["answers"][4]
    assert fifth["policy"] == "fixed" and fifth["text"] == "answer 4" and not fifth["ended"]
    assert fifth["segments"] == [{"author": "policy", "tokens": [7, 7], "sampled": [-0.5, -0.5]}]
    again = replace(source, _made={})
    assert again.drawn_batch(0, fresh=True).trees == batch.trees and len(sampler.asked) == 1
