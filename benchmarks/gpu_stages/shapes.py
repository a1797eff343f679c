"""The models of gpu.py by the numbers of their configuration, and the arithmetic of an update.

A product of a token with n weights is 2n operations forward; in the backward pass 2n for the
gradient of its input, and 2n more for that of the weights, where they train. QKᵀ and the weighted
sum of values are 2 · 2Q operations for each query and each key that it sees, in each layer; both
factors are activations, so that the backward pass costs twice as much whatever trains.

    all weights    T · 6N        + C · 6H + 12 · L · Q · S
    adapters       T · (4N + 6A) + C · 4H + 12 · L · Q · S
    reference      T · 2N        + C · 2H +  4 · L · Q · S        without adapters

N weights of the trunk's linear layers · A of the adapters · H of the head · L layers · Q width of
all queries of a layer · T unique tokens: what prompts have in common counts once · C answer tokens,
which alone reach the head · S, summed over the unique tokens, the tokens that each sees, itself
among them.

This is what the update needs, and no more: nothing is computed twice for want of memory, no token
is padding, and norms, softmax, look-ups and the optimizer are left out. One thing is counted that
nobody computes: with adapters no gradient flows below the first layer's (a share below 1 / L).
Every side's seconds are held against the same count, since they do the same update. `alone` is the
count of one that computes a prompt for each of its answers, as TRL does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RANK = 16  # of the adapters, on the four projections of attention


@dataclass(frozen=True)
class Shape:
    """A Llama."""

    vocab: int
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    width: int  # of a head
    tied: bool
    positions: int = 4096

    @property
    def attention(self) -> tuple[tuple[int, int], ...]:
        """Projections of attention, [out, in] each."""
        queries, keys = self.heads * self.width, self.kv_heads * self.width
        return (
            (queries, self.hidden),
            (keys, self.hidden),
            (keys, self.hidden),
            (self.hidden, queries),
        )

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """All linear layers of a layer, [out, in] each."""
        wide = (self.inner, self.hidden)
        return (*self.attention, wide, wide, (self.hidden, self.inner))

    @property
    def trunk(self) -> int:
        return self.layers * sum(o * i for o, i in self.linear)

    @property
    def head(self) -> int:
        return self.vocab * self.hidden

    @property
    def weights(self) -> int:
        """All of them: embeddings, head and norms too."""
        return (
            self.trunk + (1 if self.tied else 2) * self.head + (2 * self.layers + 1) * self.hidden
        )

    @property
    def adapters(self) -> int:
        return self.layers * RANK * sum(o + i for o, i in self.attention)

    def options(self) -> dict[str, int | bool]:
        """Make the keywords of transformers' LlamaConfig."""
        return {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.width,
            "max_position_embeddings": self.positions,
            "tie_word_embeddings": self.tied,
        }


# Llama 3.2 1B, Llama 3.1 8B: the numbers of their config.json
SHAPES = {
    "1b": Shape(128_256, 2048, 8192, 16, 32, 8, 64, tied=True),
    "8b": Shape(128_256, 4096, 14_336, 32, 32, 8, 128, tied=False),
}
# heads of 16: flex attention takes no narrower ones
TINY = {
    "1b": Shape(509, 64, 96, 2, 4, 2, 16, tied=True),
    "8b": Shape(509, 64, 128, 3, 4, 2, 16, tied=False),
}


def shape_of(name: str, tiny: bool) -> Shape:
    return (TINY if tiny else SHAPES)[name]


# ---------------------------------------------------------------- an update


@dataclass(frozen=True)
class Counts:
    """The tokens of an update: T, C and S of above."""

    tokens: int
    answers: int
    seen: int

    @classmethod
    def shared(cls, trees: Sequence) -> Counts:
        """Count what all prompts of the update have in common once."""
        from accord.forward.layout import pack

        layout = pack(trees)
        return cls(layout.tokens, len(layout.targets), int((layout.positions + 1).sum()))

    @classmethod
    def alone(cls, trees: Sequence) -> Counts:
        """Count a prompt with each of its answers. The last token of one is never read."""
        lengths = [len(t.prompt) + len(c) - 1 for t in trees for c in t.completions]
        answers = sum(len(c) for tree in trees for c in tree.completions)
        return cls(sum(lengths), answers, sum(n * (n + 1) // 2 for n in lengths))


def update_flops(shape: Shape, counts: Counts, trains: str) -> float:
    """Operations of a DPO update, the reference's among them.

    Args:
      trains: "lora", "qlora" (the same: dequantising is no part of it) or "all".
    """
    trunk, head = (6 * shape.trunk, 6) if trains == "all" else (4 * shape.trunk, 4)
    adapters = 0 if trains == "all" else 6 * shape.adapters
    policy = counts.tokens * (trunk + adapters) + counts.answers * head * shape.head
    reference = counts.tokens * 2 * shape.trunk + counts.answers * 2 * shape.head
    attention = (12 + 4) * shape.layers * shape.heads * shape.width * counts.seen
    return float(policy + reference + attention)


# ---------------------------------------------------------------- what a device can do

# Dense products in bfloat16 with float32 sums, operations a second, as the vendor's data sheets
# have them (those with sparsity halved). The longest name that a device's name contains counts.
VENDOR = {
    "A100": 312e12,
    "A10": 125e12,
    "A10G": 70e12,
    "B200": 2250e12,
    "H100": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H200": 989.4e12,
    "H200 NVL": 835e12,
    "L4": 121e12,
    "L40S": 362e12,
}


def vendor_rate(device: str, dtype: str) -> float | None:
    """Return what the vendor says of a device; None of what is not in the table, and of float32."""
    words = f" {device.replace('-', ' ')} "
    known = [name for name in VENDOR if f" {name} " in words]
    return VENDOR[max(known, key=len)] if known and dtype == "bfloat16" else None
