"""One held-out prompt, answered greedily by the model that was saved and by the one it is measured
against: what a person reads at the end of a run.
"""

from __future__ import annotations

from collections.abc import Sequence

from accord.errors import describe
from accord.evaluate.probe import KLReference
from accord.runs.files import write_json
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Prompt, Sample
from accord.training.state import Run

NAME = "last_answers.json"
LONGEST = 48  # tokens: a few seconds of a small model on a CPU
NAMES = {"moving": "reference", "base": "base model"}  # others: the model before training


def write_last_answers(run: Run) -> None:
    """Write both answers into the run's folder, or the reason why there are none.

    The run is saved by now: whatever fails here is a reason, and no error of the run. Of sharded
    weights all ranks must call this.
    """
    reason = _none_because(run)
    if reason is None:
        try:
            found = _answer(run)
        except Exception as error:  # an answer to look at must not make a finished run fail
            found = {"skipped": f"they could not be drawn: {describe(error)}"}
    else:
        found = {"skipped": reason}
    if run.ready.world.first:
        write_json(run.folder.path / NAME, found)


def _none_because(run: Run) -> str | None:
    """Say why no answers can be shown; None where they can."""
    ready = run.ready
    if not ready.learner.objective.answers:
        return "a reward model gives scores and no answers"
    if not ready.sample_prompts:
        return "monitor.samples is 0" if not ready.config.monitor.samples else "no held-out prompts"
    return None


def _answer(run: Run) -> dict:
    ready = run.ready
    # the shortest prompt is the quickest to read
    asked = min(ready.sample_prompts, key=lambda prompt: len(prompt.ids))
    longest = min(LONGEST, ready.config.monitor.sample_tokens)
    after = _greedy(ready.model, asked.ids, longest)
    start = KLReference.of(ready.learner.forward, ready.learner.reference)
    before = None
    if start is not None:
        with start.inside():
            before = _greedy(start.forward.model, asked.ids, longest)
    return {
        "asked": asked.text,
        "before": None if before is None else _record(before),
        "before_is": NAMES.get(ready.config.reference, "before"),
        "after": _record(after),
    }


def _greedy(model, prompt: Prompt, longest: int) -> Sample:
    answers: Sequence[Sample] = LocalSampler.of(model).sample(
        [prompt], max_new_tokens=longest, temperature=0.0
    )
    return answers[0]


def _record(answer: Sample) -> dict:
    return {"text": answer.text, "tokens": len(answer.tokens), "ended": answer.ended}
