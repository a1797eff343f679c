"""Judges that score each answer on its own: a scorer by name, or a trained reward model as a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from accord.evaluate.judges.verdict import Contest, Judged, by_scores
from accord.evaluate.scorers import Scorer, load_scorer
from accord.models.embedded import quiet
from accord.models.load import pick_device
from accord.types import UsageError

BATCH = 16  # conversations a forward pass of a reward model


@dataclass(frozen=True)
class ScoringJudge:
    """The answer with the higher score is the better one."""

    name: str
    score: Scorer

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        prompts = [contest.prompt for contest in contests]
        ours = self.score(prompts, [contest.one for contest in contests])
        return by_scores(ours, self.score(prompts, [contest.other for contest in contests]))


def scoring_judge(name: str) -> ScoringJudge:
    """The judge `name`: a reward model's folder, or a scorer.

    Raises:
      UsageError: neither.
    """
    folder = Path(name).expanduser()
    return ScoringJudge(name, reward_model(folder) if folder.is_dir() else load_scorer(name))


def reward_model(folder: Path, device: str = "auto") -> Scorer:
    """A sequence classifier with one output, in `save_pretrained` layout, as a scorer.

    The conversation is rendered by its own chat template, as a user's turn and an answer; without a template, prompt
    and answer stand one after the other. A conversation longer than the model's positions is an error: cut, its end
    would not be judged.

    Raises:
      UsageError: it does not load, has another number of outputs than one, or weights that are not in its files.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        except Exception as error:  # a stranger's files can raise anything
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UsageError(f"{folder}: no reward model that loads: {said}\nExpected a sequence classifier with one output.") from error
    if missing := sorted(info["missing_keys"]):  # a plain language model loads too, with a random head
        raise UsageError(f"{folder}: {len(missing)} tensors are not in its files, such as {missing[0]}: its scores would be random.")
    if model.config.num_labels != 1:
        raise UsageError(f"{folder}: {model.config.num_labels} outputs; a reward model has one.")
    model = model.to(pick_device(device)).eval()
    return lambda prompts, answers: _scores(model, tokenizer, folder, prompts, answers)


@torch.inference_mode()
def _scores(model, tokenizer, folder: Path, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    rows = [_ids(tokenizer, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max(map(len, rows), default=0)
    if limit and longest > limit:
        raise UsageError(f"{folder}: a conversation of {longest:,} tokens does not fit into the reward model's {limit:,} positions.")
    out = torch.empty(len(rows))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    if model.config.pad_token_id is None:  # the classifier looks for the last token that is none of these
        model.config.pad_token_id = pad
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        width = len(rows[some[-1]])
        ids = torch.tensor([rows[i] + [model.config.pad_token_id] * (width - len(rows[i])) for i in some])
        mask = torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in some])
        out[some] = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits[:, 0].float().cpu()
    return out.tolist()


def _ids(tokenizer, prompt: str, answer: str) -> list[int]:
    """The conversation as tokens."""
    prompt, answer = _defused(tokenizer, prompt), _defused(tokenizer, answer)
    if not tokenizer.chat_template:
        return tokenizer(f"{prompt}\n{answer}")["input_ids"]
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _defused(tokenizer, text: str) -> str:
    """A special token spelt out in an answer gets a space inside: it would end the turn, or begin another."""
    for token in tokenizer.all_special_tokens:
        if token.strip() and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
