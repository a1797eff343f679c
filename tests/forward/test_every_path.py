"""Tree path = padded path = oracle, forward and backward, for every family and with adapters on
every module.
"""

import random

import pytest
import torch
from forward.tiny import SHARE_A_PROMPT, gradients, some_trees, tiny, tokens

from accord.forward import head
from accord.forward.choose import choose
from accord.forward.logps import PATHS, oracle, padded_logps, tree_logps
from accord.models.lora import add_lora
from accord.models.targets import linear_names
from accord.types import Tree

# Largest difference of log-probs in nats and of gradients relative to the largest of each
# parameter. Many families compute norms, softmax or rotary angles in float32 whatever the weights
# are.
CLOSE = {torch.float32: (2e-5, 3e-4), torch.float64: (2e-6, 2e-5)}


def assert_same(model, trees, dtype, paths=("tree", "padded")):
    """The paths against the oracle: values, entropies, owners, counts, and the gradient of every
    parameter.
    """
    forward = choose(model, trees, paths[0])
    assert forward.path == paths[0]
    close, close_gradient = CLOSE[dtype]
    wanted = oracle(model, trees, collision=True)
    wanted_gradients = gradients(model, wanted.values)
    # some gradients are 0 but for rounding: a bias of the keys shifts all scores alike
    floor = 1e-2 * max(gradient.abs().max().item() for gradient in wanted_gradients.values())
    for path in paths:
        found = PATHS[path](model, trees, collision=True)
        assert found.values.dtype == dtype and not found.collision.requires_grad
        assert torch.equal(found.owner, wanted.owner) and torch.equal(found.count, wanted.count)
        torch.testing.assert_close(found.values, wanted.values, atol=close, rtol=close)
        torch.testing.assert_close(found.entropy, wanted.entropy, atol=close, rtol=close)
        torch.testing.assert_close(found.collision, wanted.collision, atol=close, rtol=close)
        for name, gradient in gradients(model, found.values).items():
            worst = (gradient - wanted_gradients[name]).abs().max().item()
            largest = max(wanted_gradients[name].abs().max().item(), floor)
            assert worst <= close_gradient * largest, (
                f"{path}: gradient of {name} is off by {worst / largest:.1e}"
            )


# In float64 transformers' own eager attention gives NaN where padding lies outside of every window,
# and its experts have no kernel.
FLOAT64 = [
    name for name in SHARE_A_PROMPT if name not in ("mistral", "gemma2", "gemma3", "mixtral")
]
CASES = [(name, torch.float32) for name in SHARE_A_PROMPT] + [
    (name, torch.float64) for name in FLOAT64
]


@pytest.mark.parametrize(
    "family, dtype", CASES, ids=lambda value: str(value).removeprefix("torch.")
)
def test_tree_and_padded_equal_the_oracle(family, dtype):
    model, trees = tiny(family, dtype), some_trees()
    before = oracle(model, trees).values.detach()
    other = [
        Tree((tree.prompt[0] ^ 1, *tree.prompt[1:]), tree.completions, tree.row) for tree in trees
    ]
    moved = (oracle(model, other).values - before).abs()
    assert (moved > 1e-3).float().mean() > 0.3, (
        "a model that does not attend would pass with any mask"
    )
    assert_same(model, trees, dtype)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_tied_and_untied_embeddings(family, tied):
    model = tiny(family, tie_word_embeddings=tied)
    embedding, output = model.network.get_input_embeddings(), model.network.get_output_embeddings()
    assert (embedding.weight is output.weight) == tied
    assert_same(model, some_trees(1), torch.float32)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1_000])
@pytest.mark.parametrize("family", ["cohere", "gemma2"])  # the fast head, and the one of any head
def test_chunks_of_the_head_that_divide_nothing(family, chunk, monkeypatch):
    monkeypatch.setattr(
        "accord.forward.logps.token_logps",
        lambda h, t, spec, **asked: head.token_logps(h, t, spec, chunk, **asked),
    )
    assert_same(tiny(family), some_trees(2), torch.float32)


ADAPTERS = {
    "llama attention": ("llama", "attention", False),
    "llama all-linear": ("llama", "all-linear", False),
    "llama everything": ("llama", None, False),  # embeddings and head as well
    "llama dora": ("llama", "all-linear", True),
    "llama dora head": ("llama", ["lm_head", "q_proj", "down_proj"], True),
    "gemma2 everything": ("gemma2", None, False),  # a soft-capped head with an adapter
    "gpt2 everything": ("gpt2", ["c_attn", "c_proj", "c_fc", "wte", "lm_head"], False),  # Conv1D
    "phi3 everything": ("phi3", None, False),
    "mixtral attention": ("mixtral", "attention", False),
    "granite head": ("granite", ["lm_head", "v_proj"], False),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_adapters_on_every_kind_of_module(case):
    """A fused path that skips an adapter computes the base's numbers, without an error."""
    family, targets, dora = ADAPTERS[case]
    model, trees = tiny(family, tie_word_embeddings=False), some_trees(3)
    base = oracle(model, trees).values.detach()
    add_lora(
        model,
        rank=3,
        alpha=6.0,
        targets=targets or linear_names(model.network),
        dropout=0.0,
        dora=dora,
        seed=0,
    )
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            # A and B both: fresh adapters have B = 0 and no gradient in A
            if "magnitude" not in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    assert (oracle(model, trees).values - base).abs().mean() > 0.05
    assert_same(model, trees, torch.float32)
    moved = gradients(model, tree_logps(model, trees).values)
    idle = [name for name, gradient in moved.items() if not gradient.any()]
    assert not idle, f"no gradient reaches {idle}"


def test_alone_is_as_in_a_batch():
    for family in ("llama", "mistral", "gpt2", "gemma2"):
        model, trees = tiny(family), some_trees(4)
        choose(model, trees, "tree")
        for path in ("tree", "padded", "oracle"):
            together = PATHS[path](model, trees).values
            alone = torch.cat([PATHS[path](model, [tree]).values for tree in trees])
            torch.testing.assert_close(together, alone, atol=2e-5, rtol=2e-5)


def test_a_neighbours_text_changes_nothing():
    """Packed side by side, to the last bit: and no gradient reaches the neighbour's embeddings."""
    model = tiny("llama", tie_word_embeddings=False)
    rng = random.Random(5)
    own = Tree(tokens(rng, 5, high=40), (tokens(rng, 4, high=40), tokens(rng, 3, high=40)), 0)

    def neighbours(seed):
        rng = random.Random(seed)
        return [
            Tree(tokens(rng, 6, low=40), (tokens(rng, 5, low=40), tokens(rng, 2, low=40)), row)
            for row in (1, 2)
        ]

    choose(model, [own], "tree")
    for path in ("tree", "padded"):
        first, second = (
            PATHS[path](model, [n[0], own, n[1]]) for n in (neighbours(1), neighbours(2))
        )
        mine = (first.owner == 2) | (first.owner == 3)
        assert torch.equal(first.values[mine], second.values[mine])
        assert not torch.equal(first.values[~mine], second.values[~mine])
        model.network.zero_grad()
        first.values[mine].sum().backward()
        gradient = model.network.get_input_embeddings().weight.grad
        assert gradient[list(own.prompt)].any() and not gradient[40:].any()


def test_the_two_answers_of_a_pair_do_not_see_each_other():
    model, rng = tiny("llama"), random.Random(6)
    prompt, answer = tokens(rng, 5), tokens(rng, 4)
    pairs = [Tree(prompt, (answer, tokens(rng, 6)), 0) for _ in range(2)]
    swapped = Tree(prompt, pairs[0].completions[::-1], 0)
    choose(model, pairs, "tree")
    first, second, turned = (tree_logps(model, [tree]).reduce().sum for tree in (*pairs, swapped))
    assert first[0] == second[0] and abs(first[1] - second[1]) > 1e-2
    torch.testing.assert_close(turned, first.flip(0))


def test_padding_on_the_left_gives_the_oracles_numbers():
    """The oracle pads on the right; with positions and mask given, the side is of no account."""
    model, trees = tiny("llama"), some_trees(7)
    rows = [(len(tree.prompt), (*tree.prompt, *c)) for tree in trees for c in tree.completions]
    longest = max(len(ids) for _, ids in rows)
    ids = torch.tensor([(0,) * (longest - len(row)) + row for _, row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for _, row in rows])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model.network(
        input_ids=ids, attention_mask=mask, position_ids=positions
    ).logits.log_softmax(-1)
    found = [
        logits[n, place - 1, ids[n, place]]
        for n, (prompt, row) in enumerate(rows)
        for place in range(longest - len(row) + prompt, longest)
    ]
    torch.testing.assert_close(
        torch.stack(found), oracle(model, trees).values, atol=2e-5, rtol=2e-5
    )


@pytest.mark.parametrize("path", ["tree", "padded"])
def test_prompt_and_padding_are_not_scored(path):
    """The gradient at final hidden states is 0 exactly, save where an answer token is predicted."""
    model, trees = tiny("llama"), some_trees(8)
    choose(model, trees, "tree")
    kept = []

    def keep(module, inputs, output):
        output.retain_grad()
        kept.append(output)

    handle = model.network.model.norm.register_forward_hook(keep)
    PATHS[path](model, trees).values.sum().backward()
    handle.remove()
    scored = kept[0].grad.abs().sum(-1) > 0  # [rows, columns]
    if path == "tree":  # prompts first: of each, only the last token predicts an answer token
        prompts, answers = (
            sum(len(t.prompt) for t in trees),
            sum(len(c) - 1 for t in trees for c in t.completions),
        )
        assert scored[0].sum() == len(trees) + answers and scored[0, prompts:].all()
        last = (
            torch.tensor([len(prompt) for prompt in sorted(t.prompt for t in trees)]).cumsum(0) - 1
        )
        assert scored[0, :prompts].nonzero().flatten().tolist() == last.tolist()
    else:
        rows = [(tree, completion) for tree in trees for completion in tree.completions]
        for n, (tree, completion) in enumerate(rows):
            before, answer = len(tree.prompt) - 1, len(completion)
            after = scored.shape[1] - before - answer
            assert scored[n].tolist() == [False] * before + [True] * answer + [False] * after


@pytest.mark.parametrize("family", ["mamba", "bloom", "gpt_oss"])
def test_models_that_cannot_share_a_prompt_take_the_padded_path_aloud(family):
    model, trees = tiny(family), some_trees(9)
    own = model.network.config._attn_implementation
    forward = choose(model, trees)
    causes = {"mamba": "linear_attention", "bloom": "attention interface", "gpt_oss": "s_aux"}
    assert (
        forward.path == "padded"
        and causes[family] in forward.reason
        and "cannot be used" in forward.reason
    )
    assert model.network.config._attn_implementation == own, (
        "the padded path computes with the model's own attention"
    )
    wanted = gradients(model, oracle(model, trees).values)
    for name, gradient in gradients(model, padded_logps(model, trees).values).items():
        worst, largest = (
            (gradient - wanted[name]).abs().max().item(),
            wanted[name].abs().max().item(),
        )
        assert worst <= 1e-3 * max(largest, 1e-3), name


def test_bfloat16_weights_give_float32_log_probs_summed_in_float64():
    """A bfloat16 sum near -350 is spaced 2 nats, a float32 sum near -20,000 2e-3."""
    model, trees = tiny("llama", torch.bfloat16), some_trees(10)
    assert choose(model, trees).path == "tree"
    tokens = tree_logps(model, trees)
    logps = tokens.reduce()
    assert tokens.values.dtype == torch.float32 and logps.sum.dtype == torch.float64
    exact = tiny("llama", torch.float32)
    exact.network.load_state_dict({k: v.float() for k, v in model.network.state_dict().items()})
    assert (logps.sum - oracle(exact, trees).reduce().sum).abs().max() < 0.05 * logps.count.max()


@pytest.mark.parametrize("path", ["tree", "padded", "oracle"])
def test_no_keys_and_values_are_kept_for_generation(path):
    """A cache changes no number; it would hold the keys and values of every layer until the
    backward pass.
    """
    model, asked = tiny(), []
    choose(model, some_trees())
    model.network.model.register_forward_pre_hook(
        lambda module, args, named: asked.append(named["use_cache"]), with_kwargs=True
    )
    PATHS[path](model, some_trees())
    assert asked == [False]
