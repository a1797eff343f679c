"""The file pairs.json: the held-out pairs that training improved and harmed most, token by token.

It is written once, when a run ends and both models are still in memory. It has log π - log π_ref of
every answer token.
"""

from __future__ import annotations

import torch

from accord.evaluate.probe import KLReference, kl_against
from accord.runs import held_out_rows
from accord.runs.files import write_json
from accord.runs.folder import RunFolder
from accord.training.prepared import PreparedRun
from accord.types import Pair, Tree

SHOWN = 4  # pairs of each kind


def write_pairs(ready: PreparedRun, folder: RunFolder, step: int) -> None:
    """Write the pairs of the last evaluation against those of step 0.

    Nothing is written without held-out pairs.
    """
    held_out = ready.source.held_out_pairs()
    if held_out is None or not held_out_rows.file_of(folder.path, step).is_file():
        return
    trees, pairs = held_out
    gains = held_out_rows.margins(folder.path, step) - held_out_rows.margins(folder.path, 0)  # [B]
    order = gains.argsort(descending=True, stable=True).tolist()
    start = KLReference.of(ready.learner.forward, ready.learner.reference)
    improved = [
        _pair(ready, start, trees[i], pairs[i], gains[i].item())
        for i in order[:SHOWN]
        if gains[i] > 0
    ]
    harmed = [
        _pair(ready, start, trees[i], pairs[i], gains[i].item())
        for i in order[::-1][:SHOWN]
        if gains[i] < 0
    ]
    write_json(
        folder.path / "pairs.json",
        {
            "step": step,
            "against": kl_against(ready.config.reference) if start is not None else None,
            "improved": improved,
            "harmed": harmed,
        },
    )


def _pair(
    ready: PreparedRun, start: KLReference | None, tree: Tree, example: Pair, gain: float
) -> dict:
    answers = dict(zip(("chosen", "rejected"), _answers(ready, start, tree), strict=True))
    prompt = [{"role": turn.role, "content": turn.content} for turn in example.prompt]
    return {"at": str(example.origin), "gain": gain, "prompt": prompt, **answers}


@torch.no_grad()
def _answers(ready: PreparedRun, start: KLReference | None, tree: Tree) -> list[list[dict]]:
    """Return each answer as its tokens: text, log-prob now, and its change since the start if
    known.
    """
    now = ready.learner.forward([tree]).values.tolist()
    then = None
    if start is not None:
        with start.inside():
            then = start.forward([tree]).values.tolist()
    out, at = [], 0
    for completion in tree.completions:
        tokens = [
            {"text": ready.model.tokenizer.decode([token]), "logp": now[at + i]}
            for i, token in enumerate(completion)
        ]
        if then is not None:
            for i, token in enumerate(tokens):
                token["change"] = token["logp"] - then[at + i]
        out.append(tokens)
        at += len(completion)
    return out
