"""A language model for the rest of accord: a trunk, a head, a tokenizer, and the parameters that
train.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from accord import compat
from accord.models.headspec import HeadSpec, head_spec, trunk_of
from accord.models.quantized import Quantization

# the names of the value head's parameters begin so; it is no part of the network, and is not saved
# with it
CRITIC = "critic."
TRAINED, REFERENCE = "default", "reference"  # the names of the adapters inside a PEFT model


def positions_of(network: PreTrainedModel) -> int | None:
    """Find the longest sequence that a network was made for, where its configuration says."""
    named = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    return named if isinstance(named, int) and named > 0 else None  # XLNet says -1


def stop_ids_of(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Find the tokens at which generation stops: the tokenizer's EOS, and those that the model's
    generation settings name, one or several.
    """
    named = getattr(network.generation_config, "eos_token_id", None)
    ids = named if isinstance(named, (list, tuple)) else [named]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer; with adapters injected when `peft` is set.

    It always stays in evaluation mode: dropout in the base would make two forwards of one batch
    differ. The dropout of LoRA alone can be switched on, by `adapter_dropout`.
    """

    network: PreTrainedModel  # the transformers model itself, adapters injected in place
    tokenizer: PreTrainedTokenizerBase
    source: str  # as the user named it: a folder, or "smollm2"
    folder: Path  # it was loaded from here
    peft: PeftModel | None = None
    # a value head: from [D] to the reward expected of the rest of the answer
    critic: torch.nn.Linear | None = None
    # parts that no text reaches (vision and audio towers): neither adapted nor trained
    outside: list[str] = field(default_factory=list)
    # what a user should know of the files that it was read from, in words
    notes: tuple[str, ...] = ()
    # how linear layers were quantised; None: they are as they were saved
    quantization: Quantization | None = None
    all_linear: bool = False  # fresh adapters were put on every linear module that takes one
    sharded: bool = False  # its weights lie in parts over the ranks: every pass is a joint one

    auto: ClassVar[str] = "AutoModelForCausalLM"  # the class of transformers that loads a saved one
    task: ClassVar[str] = "CAUSAL_LM"  # PEFT's name for what it does
    measures: ClassVar[str] = "log-probs"  # the kind of number that it gives a completion
    unit: ClassVar[str] = "nats a token"

    def __post_init__(self) -> None:
        self.network.eval()

    @property
    def trunk(self) -> torch.nn.Module:
        """Return the trunk: token ids to final hidden states, without the head."""
        return trunk_of(self.network)

    @property
    def head(self) -> HeadSpec:
        return head_spec(self.network)

    @property
    def load_options(self) -> dict[str, int]:
        """Return the options that a loader needs beyond the base's own configuration."""
        return {}

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @property
    def positions(self) -> int | None:
        """The longest sequence that it was made for, where its configuration says."""
        return positions_of(self.network)

    @property
    def vocabulary_rows(self) -> int:
        """Count the rows of the input embedding: no token has an id behind them."""
        weight = self.network.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        return len(weight)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens at which generation stops."""
        return stop_ids_of(self.network, self.tokenizer)

    @property
    def root(self) -> torch.nn.Module:
        """Return the module whose parameter names a save uses: the PEFT model when there is one."""
        return self.peft if self.peft is not None else self.network

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Return name -> parameter of all that an update may move. Tied weights appear once."""
        network = {name: p for name, p in self.root.named_parameters() if p.requires_grad}
        return network | (
            {CRITIC + name: p for name, p in self.critic.named_parameters()}
            if self.critic is not None
            else {}
        )

    def add_critic(self) -> None:
        """Add a value head of float32 zeros: nothing is expected before anything is known."""
        width = self.head.weight.shape[1]
        self.critic = torch.nn.Linear(width, 1, device=self.device, dtype=torch.float32)
        with torch.no_grad():
            for parameter in self.critic.parameters():
                parameter.zero_()

    def expected(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """Compute the value head's output for hidden states [C, D], in float32: [C]; None without
        one.
        """
        return self.critic(hidden.float()).squeeze(-1) if self.critic is not None else None

    @property
    def has_adapters(self) -> bool:
        """Tell whether adapters train: the model without them is still there."""
        return self.peft is not None

    @property
    def saved_as(self) -> str:
        """Return the name of the folder that the trained model is saved in."""
        return "adapter" if self.has_adapters else "final"

    @property
    def has_reference_adapter(self) -> bool:
        return self.peft is not None and REFERENCE in self.peft.peft_config

    def reference_parameters(self, trained: Iterable[str]) -> dict[str, torch.nn.Parameter]:
        """Return the name of each adapter parameter that trains -> its counterpart in the reference
        adapter.
        """
        own = dict(self.root.named_parameters())
        return {name: own[name.replace(f".{TRAINED}", f".{REFERENCE}")] for name in trained}

    @contextmanager
    def as_reference(self):
        """Make the network compute as the reference: adapters off, or the reference adapter on
        where there is one.

        Only for models with adapters; the gradient flags of the parameters are left as they are.
        """
        assert self.peft is not None, "a model without adapters is its own policy only"
        layers = compat.adapter_layers(self.network)
        if self.has_reference_adapter:
            inside = compat.only_adapter(layers, REFERENCE)
        else:
            inside = compat.without_adapters(layers)
        with inside:
            yield

    @contextmanager
    def adapter_dropout(self, active: bool = True):
        """Switch the dropout of the adapters on (training); the base never drops anything."""
        drops = [
            module
            for layer in compat.adapter_layers(self.network)
            for name, module in layer.named_modules()
            if name.startswith("lora_dropout.") and isinstance(module, torch.nn.Dropout)
        ]
        try:
            for module in drops:
                module.train(active)
            yield
        finally:
            for module in drops:
                module.eval()
