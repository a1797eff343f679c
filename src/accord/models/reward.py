"""A reward model: a language model with a scalar head in place of its vocabulary.

The network is transformers' own sequence classifier with one label, around the same trunk that was
loaded. It reads the last token that is not padding, and finds that token *by id*: if the padding
token were the end token, as it is for many chat models, every answer would be read one token early.
So a reward model gets a padding token that ends no answer.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accord.models.embedded import without_progress_bars
from accord.models.headspec import HeadSpec
from accord.models.language import TRAINED, LanguageModel
from accord.types import UsageError

HEAD = "score"  # the name of the head in transformers' sequence classifiers of decoders


class RewardModel(LanguageModel):
    """A trunk and one linear map to a number."""

    auto: ClassVar[str] = "AutoModelForSequenceClassification"
    task: ClassVar[str] = "SEQ_CLS"
    measures: ClassVar[str] = "scores"
    unit: ClassVar[str] = "points of a score"

    @property
    def head(self) -> HeadSpec:
        return HeadSpec(self._linear())

    @property
    def load_options(self) -> dict[str, int]:
        return {"num_labels": 1, "pad_token_id": self.network.config.pad_token_id}

    def score(self, hidden: Tensor) -> Tensor:
        """Compute the scores [N] of final hidden states [N, D], in float32 at least: bfloat16 would
        space scores near 4 by 0.03.
        """
        exact = torch.promote_types(hidden.dtype, torch.float32)
        return F.linear(hidden.to(exact), self._linear().weight.to(exact)).squeeze(-1)

    def _linear(self) -> nn.Linear:
        """Return the head that trains: PEFT keeps a copy of its own beside the original."""
        head = getattr(self.network, HEAD)
        copies = getattr(head, "modules_to_save", None)
        return head if copies is None else copies[TRAINED]


def with_score_head(model: LanguageModel, seed: int) -> RewardModel:
    """Give the trunk a fresh scalar head, drawn from `seed` alone: normal, of variance 1 / (D + 1).

    That is the initialisation of Stiennon et al. 2020 and of Huang et al. 2024, arXiv:2403.17031,
    §3: scores of unit size, whatever the width. The tokenizer and the configuration get a padding
    token that ends no answer.

    Raises:
      UsageError: transformers has no classifier of this architecture, or the tokenizer no token to
        pad with.
    """
    from transformers import AutoModelForSequenceClassification

    config = model.network.config
    if config.get_text_config() is not config:
        raise UsageError(
            f"{model.source} holds more than a language model ({config.model_type}: images or sound"
            " as well), and transformers' classifier of it takes no padding token.\nSave its"
            " language part as a model of its own, and train the reward model on that."
        )
    ends = model.stop_ids
    config.num_labels = 1
    try:
        with torch.device("meta"), without_progress_bars():
            network = AutoModelForSequenceClassification.from_config(config)
        head = getattr(network, HEAD)
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"{model.source}: transformers has no sequence classifier of this architecture"
            f" ({config.model_type}), so it cannot become a reward model. Llama, Qwen, Mistral,"
            " Gemma, GPT-2 and their kin can."
        ) from error
    setattr(network, network.base_model_prefix, model.trunk)
    network.config = config  # one object for trunk and classifier: attention is chosen through it
    setattr(network, HEAD, _drawn(head, model, seed))
    pad = padding(model.tokenizer, ends)
    config.pad_token_id, model.tokenizer.pad_token = pad, model.tokenizer.convert_ids_to_tokens(pad)
    if any(p.is_meta for p in network.parameters()) or network.score.bias is not None:
        raise UsageError(
            f"{model.source}: the classifier of {config.model_type} has more than a trunk and a"
            " linear head."
        )
    return RewardModel(
        network, model.tokenizer, model.source, model.folder, quantization=model.quantization
    )


def _drawn(head: nn.Linear, model: LanguageModel, seed: int) -> nn.Linear:
    made = nn.Linear(head.in_features, 1, bias=head.bias is not None, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.weight.copy_(
            torch.randn(1, head.in_features, generator=generator) / (head.in_features + 1) ** 0.5
        )
    return made.to(model.device, model.dtype)


def padding(tokenizer, ends: Collection[int]) -> int:
    """Choose a token to pad with that ends no answer: the tokenizer's own if it is one, else
    another special token.

    Raises:
      UsageError: there is none.
    """
    special = [i for i, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    for candidate in (
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        *reversed(special),
        *tokenizer.all_special_ids,
    ):
        if candidate is not None and candidate not in ends and candidate != tokenizer.bos_token_id:
            return candidate
    raise UsageError(
        "The tokenizer has no special token to pad with but those that end an answer, and a"
        " classifier skips padding by its id: it would read every answer one token early.\nAdd one"
        " to the tokenizer (pad_token), resize the model's embeddings, and save both."
    )


def load_reward_model(folder: str, *, dtype: str = "auto", device: str = "auto") -> RewardModel:
    """Load a trained reward model, from a folder with a sequence classifier of one label and its
    tokenizer.

    Raises:
      UsageError: no such folder, no head in it, more than one label, or padding that would be taken
        for an answer's end.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from accord.models.load import load_parts, pick_device, pick_dtype

    target = pick_device(device)
    parts = load_parts(
        folder,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        pick_dtype(dtype, target),
        reward=True,
    )
    network = parts.network
    if network.config.num_labels != 1:
        raise UsageError(
            f"{folder}: a classifier of {network.config.num_labels} labels. A reward model has one:"
            " its score."
        )
    if (
        network.config.pad_token_id is None
        or network.config.pad_token_id == parts.tokenizer.eos_token_id
    ):
        raise UsageError(
            f"{folder}: its padding token is"
            f" {'none' if network.config.pad_token_id is None else 'its end token'}, so"
            " transformers reads another token than the last. Set pad_token_id in config.json to a"
            " token that ends no answer."
        )
    network = network.to(target)
    return RewardModel(network, parts.tokenizer, parts.name, parts.folder, notes=parts.notes)
