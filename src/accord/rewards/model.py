"""A reward model's folder as a reward, with its own tokenizer and template. The policy's may
differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from accord.data.templates import make_template
from accord.data.tokenizer_digest import tokenizer_digest
from accord.data.tokenizer_text import Unfit
from accord.environment.hub.names import is_hub
from accord.forward.choose import Forward, choose
from accord.forward.layout import micro_batches
from accord.models import fingerprint, provenance
from accord.models.hub import local_folder, pinned_model
from accord.models.model_checks import reward_findings
from accord.models.reward import RewardModel, load_reward_model
from accord.rewards.reward import Conversation, Rewards
from accord.rewards.trust import Trust, require_scorer, require_trust
from accord.types import Demonstration, Origin, Refused, Scores, Tree


class ModelReward:
    """A sequence classifier with one label. The reward is its score at each answer's end token.

    Raises:
      UsageError, Refused: no reward model there, a tokenizer without a chat template, or one whose
        own held-out accuracy is not above one half, unless `allow_weak` permits it.
    """

    def __init__(
        self,
        folder: str,
        *,
        template: str = "auto",
        max_tokens: int = 4096,
        dtype: str = "auto",
        micro_tokens: int = 4096,
        allow_weak: bool = False,
    ):
        self.name, self.micro_tokens = pinned_model(folder), micro_tokens
        folder = str(local_folder(self.name)) if is_hub(folder) else folder
        require_scorer(folder)
        self.trust = require_trust(folder, allow_weak)
        self.model = load_reward_model(folder, dtype=dtype)
        _require_sound(self.model)
        self.trust = _with_tokenizer(self.trust, self.model, folder)
        self.template = make_template(self.model.tokenizer, template, allow_raw=True)
        self.max_tokens = min(max_tokens, self.model.positions or max_tokens)
        self._probe: list[Tree] = []

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of its weights: another model under the same name is another reward."""
        return fingerprint.weights(self.model.network)

    @cached_property
    def forward(self) -> Forward:
        """The forward path, chosen by a trial on the first answers."""
        return choose(self.model, self._probe)

    @torch.no_grad()
    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        trees: list[Tree] = []
        failures: dict[int, str] = {}
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            try:
                trees.append(self._tree(prompt, answer, i))
            except Unfit as unfit:
                failures[i] = unfit.reason
        values: list[float | None] = [None] * len(answers)
        # answers to one prompt side by side, which is then computed once
        trees.sort(key=lambda tree: (tree.prompt, tree.row))
        if trees and not self._probe:
            self._probe = sorted(trees, key=lambda tree: tree.tokens)[:4]
        for group in micro_batches(trees, self.micro_tokens):
            scores = self.forward([trees[i] for i in group]).reduce()
            assert isinstance(scores, Scores), "a reward model's head gives scores"
            for i, value in zip(group, scores.value.double().tolist(), strict=True):
                values[trees[i].row] = value
        return Rewards.of(values, failures)

    def account(self) -> dict:
        return {}

    def _tree(self, prompt: Conversation, answer: str, row: int) -> Tree:
        tree = self.template.tree(Demonstration(prompt, answer, Origin("answers", row + 1)), row)
        if len(tree.prompt) + len(tree.completions[0]) > self.max_tokens:
            raise Unfit("longer than the reward model reads")
        return tree


def _with_tokenizer(trust: Trust, model: RewardModel, folder: str) -> Trust:
    """Add that the tokenizer or the template is not the one that the model was saved with."""
    record = provenance.read(folder)
    if record is None or record.tokenizer in ("", tokenizer_digest(model.tokenizer)):
        return trust
    says = (
        "its tokenizer or chat template is not the one that it was saved with, so its scores may"
        f" be of other tokens than it was trained on (another version of tokenizers, too, changes"
        f" the record); {trust.says}"
    )
    return Trust("!", says)


def _require_sound(model: RewardModel) -> None:
    """Refuse a reward model with weights that are not finite, constant, or drawn anew.

    Raises:
      Refused: with each of them.
    """
    if broken := [one.says for one in reward_findings(model) if one.refused]:
        raise Refused("\n".join(broken) + "\nIts scores would mean nothing: load another copy.")
