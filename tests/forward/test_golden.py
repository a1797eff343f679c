"""A model whose log-probs are known by hand: every answer token is scored once, the first and the
last included.
"""

import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from accord.forward.choose import choose
from accord.forward.logps import PATHS
from accord.models.language import LanguageModel
from accord.types import Tree

# P(next | token): each row is a permutation of 1/2, 1/4, 1/8, 1/8, all different where it matters.
HALVINGS = torch.tensor([[1, 2, 3, 3], [3, 1, 2, 3], [2, 3, 3, 1], [3, 3, 1, 2]])  # -log2 of it
TREES = [
    Tree((0, 1), ((2, 3, 0), (3,)), 0),
    Tree((3,), ((0, 0, 0, 1, 2), (2, 1)), 1),  # 0 is also what rows are padded with
    Tree((2, 2, 2, 2), ((3,), (0, 0)), 2),
]


@pytest.fixture(scope="module")
def bigram():
    """A Llama whose layers add nothing: one-hot embeddings, and a head that holds the table of
    log-probs.
    """
    size = len(HALVINGS)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        rms_norm_eps=0.0,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        network.model.layers[0].self_attn.o_proj.weight.zero_()
        network.model.layers[0].mlp.down_proj.weight.zero_()
        network.model.embed_tokens.weight.copy_(torch.eye(size))
        # the norm scales a one-hot state by √D
        network.lm_head.weight.copy_(-math.log(2) * HALVINGS.T.float() / math.sqrt(size))
    return LanguageModel(network, None, "bigram", Path("."))


@pytest.mark.parametrize("path", ["oracle", "tree", "padded"])
def test_every_answer_token_is_scored_once(bigram, path):
    choose(bigram, TREES, "tree")
    found = PATHS[path](bigram, TREES)
    by_hand = [
        [2, 1, 3],
        [3],  # 1→2 2→3 3→0 | 1→3
        [3, 1, 1, 2, 2],
        [1, 3],  # 3→0 0→0 0→0 0→1 1→2 | 3→2 2→1
        [1],
        [2, 1],  # 2→3 | 2→0 0→0
    ]
    flat = [value for row in by_hand for value in row]
    torch.testing.assert_close(
        found.values, -math.log(2) * torch.tensor(flat).float(), atol=1e-5, rtol=0
    )
    assert found.owner.tolist() == [n for n, row in enumerate(by_hand) for _ in row]
    logps = found.reduce()
    assert logps.count.tolist() == [3, 1, 5, 2, 1, 2]
    torch.testing.assert_close(
        logps.sum, -math.log(2) * torch.tensor([6.0, 3, 9, 4, 1, 3]).double(), atol=1e-5, rtol=0
    )
    # H(1/2, 1/4, 1/8, 1/8) = 7/4 bits, whatever came before
    torch.testing.assert_close(
        found.mean_entropy().double(),
        torch.full((6,), 1.75 * math.log(2)).double(),
        atol=1e-5,
        rtol=0,
    )


def test_sums_of_unequal_completions_stay_apart(bigram):
    """Each completion's sum depends on its own tokens alone, in whatever order trees come."""
    choose(bigram, TREES, "tree")
    forward = PATHS["tree"](bigram, TREES).reduce().sum
    backward = PATHS["tree"](bigram, TREES[::-1]).reduce().sum
    assert torch.equal(forward, torch.cat([backward[4:], backward[2:4], backward[:2]]))
