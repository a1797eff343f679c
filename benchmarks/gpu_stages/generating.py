"""accord's sampler against transformers' generate: K answers to each prompt, as generation.py
measures on a CPU.
"""

from __future__ import annotations

import generation
from gpu_stages import models
from gpu_stages.tasks import Given

from accord.engine.release import release

# Random weights hardly ever draw the end token: answers have the full length.
CASE = generation.Case("random ids", prompts=8, new_tokens=256, longest=500)
TINY_CASE = generation.Case("random ids", prompts=2, new_tokens=8, longest=60)
GREEDY = 24  # tokens that must be the same in float32
REPEATS = 3


def run(given: Given) -> None:
    """Compare greedy tokens in float32, then take turns; the first turn, in which kernels are
    loaded, is not counted.
    """
    shape, case = given.shape, TINY_CASE if given.tiny else CASE
    rows = models.make_batches(models.Size(8 * case.prompts, 1), shape.vocab, given.tiny)[0]
    fitting = [tuple(row["prompt"]) for row in rows if len(row["prompt"]) <= case.longest]
    prompts = fitting[: case.prompts]
    exact = models.accord_model(shape, "", "float32", given.device)
    same = generation.same_greedy(exact, prompts, min(GREEDY, case.new_tokens))
    given.emit(greedy_tokens_equal=same, K=generation.K, dtype=given.dtype)
    if not same:
        raise SystemExit("other greedy tokens in float32: no speed is reported")
    exact = None  # 5 GB, before the next models are made
    release()
    ours = models.accord_model(shape, "", given.dtype, given.device)
    theirs = models.random_network(shape, given.dtype, given.device)
    generation.take_turns(case, ours, theirs, prompts, 0)
    pairs: list[dict] = []
    while len(pairs) < REPEATS and (not pairs or given.left > 0):
        pairs.append(generation.take_turns(case, ours, theirs, prompts, len(pairs)))
        given.emit(**generation.summary(case, prompts, pairs))
