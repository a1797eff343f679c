"""One update: the gradient of a batch is that of the mean over its rows,
however the batch is cut.
"""

import math

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import labelled_rows, ready_for

from accord.engine.step import accumulate, denominator, make_batch, whole_batch_context
from accord.types import Refused

METHODS = (
    "dpo",
    "cdpo",
    "robust",
    "ipo",
    "hinge",
    "ld_dpo",
    "wpo",
    "wpo*ipo+0.1*sft",
    "simpo",
    "orpo",
    "cpo",
    "kto",
    "bco",
    "sft",
    "training.mine:squared",
)


@pytest.fixture(scope="module")
def prepared(tiny_folder, tmp_path_factory):
    """method -> a run ready to train, whose adapters have left their start: at it, LoRA's A gets no
    gradient.
    """
    data = write_rows(tmp_path_factory.mktemp("step") / "pairs.jsonl", pair_rows(12))
    made = {}

    def get(method):
        if method not in made:
            made[method] = moved(ready_for(tiny_folder, data, method=method, batch_size=7))
        return made[method]

    return get


@torch.no_grad()
def moved(ready):
    generator = torch.Generator().manual_seed(5)
    for p in ready.model.trainable().values():
        p.add_(0.05 * torch.randn(p.shape, generator=generator, dtype=torch.float32).to(p.dtype))
    return ready


def gradients(ready, micro_tokens):
    """Name -> gradient of batch 1 in micro-batches of so many tokens,
    and the records of its rows.
    """
    learner = ready.learner.with_budget(micro_tokens)
    masters = ready.optimizer.masters
    records = accumulate(learner, make_batch(learner, 1, ready.batch_trees(1)), masters)
    found = {name: grad.clone() for name, grad in masters.gradients().items()}
    masters.zero_grad()
    return found, records


def apart(one, other):
    """Relative difference of two gradients."""
    assert one.keys() == other.keys()
    gap = math.sqrt(sum((one[n].double() - other[n].double()).square().sum().item() for n in one))
    return gap / math.sqrt(sum(g.double().square().sum().item() for g in one.values()))


@pytest.mark.parametrize("method", METHODS)
def test_no_split_changes_the_gradient(method, prepared):
    """One micro-batch, one a row, and an uneven cut agree: float32 sums in another order, 1e-6."""
    ready = prepared(method)
    whole, records = gradients(ready, 10**9)
    for micro_tokens in (1, 120):
        split, again = gradients(ready, micro_tokens)
        assert apart(whole, split) < 2e-6
        torch.testing.assert_close(records["loss"], again["loss"], rtol=1e-5, atol=1e-6)
    assert any(grad.abs().max() > 0 for grad in whole.values())


def double(network):
    """All of it: transformers' norms go through float32, which rounds the gradient of a prefix that
    trees share.
    """
    network.double()
    for module in network.modules():
        if type(module).__name__.endswith("LlamaRMSNorm"):
            module.forward = lambda x, m=module: (
                m.weight * x * (x.square().mean(-1, keepdim=True) + m.variance_epsilon).rsqrt()
            )


@pytest.mark.parametrize("method", ["dpo", "kto", "sft"])
def test_no_split_changes_the_gradient_in_float64(method, tiny_folder, pairs_file):
    ready = moved(ready_for(tiny_folder, pairs_file, method=method, batch_size=7))
    double(ready.model.network)
    whole, _ = gradients(ready, 10**9)
    split, _ = gradients(ready, 1)
    assert all(grad.dtype == torch.float64 for grad in whole.values())
    assert apart(whole, split) < 1e-12


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_gradient_is_of_the_mean(method, prepared):
    """Against autograd on the oracle's log-probs: mean over rows for DPO, over the batch's answer
    tokens for SFT.
    """
    from accord.forward.logps import oracle
    from accord.forward.rows import as_rows

    ready = prepared(method)
    trees = ready.batch_trees(1)
    got, _ = gradients(ready, 100)
    learner = ready.learner
    known = learner.reference.logps(trees) if learner.reference is not None else None
    rows = [
        as_rows(learner.kind, trees, logps)
        for logps in (oracle(ready.model, trees).reduce(), known)
        if logps
    ]
    losses = learner.objective.losses(*rows).losses
    tokens = sum(len(c) for tree in trees for c in tree.completions)
    mean = losses.sum() / (tokens if method == "sft" else len(trees))
    names = ready.model.trainable()
    expected = dict(zip(names, torch.autograd.grad(mean, list(names.values())), strict=True))
    assert apart(expected, got) < 1e-4


def test_denominator_counts_the_batch(prepared):
    dpo, sft = prepared("dpo"), prepared("sft")
    assert denominator(dpo.learner.objective, dpo.batch_trees(0)) == len(dpo.batch_trees(0)) == 6
    trees = sft.batch_trees(0)
    assert denominator(sft.learner.objective, trees) == sum(
        len(tree.completions[0]) for tree in trees
    )


def test_baseline_is_of_the_whole_batch(prepared):
    """KTO's z0 does not depend on the split, has no gradient, and comes from answers to other
    prompts.
    """
    ready = prepared("kto")
    batch = make_batch(ready.learner, 0, ready.batch_trees(0))
    own = {(tree.prompt, tree.completions[0]) for tree in ready.source.rows.trees}
    assert len(batch.mismatched) >= 2
    assert not any((tree.prompt, tree.completions[0]) in own for tree in batch.mismatched)
    values = [whole_batch_context(ready.learner.with_budget(m), batch)["z0"] for m in (1, 10**9)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-6)
    assert not values[0].requires_grad


def test_batch_is_a_function_of_seed_and_index(prepared):
    ready = prepared("kto")
    batches = [make_batch(ready.learner, i, ready.batch_trees(0)).mismatched for i in (3, 3, 4)]
    assert batches[0] == batches[1] != batches[2]


def test_dropout_is_a_function_of_seed_step_and_micro_batch(tiny_folder, pairs_file):
    """The same units drop whatever was drawn before; other steps drop others; `dropout=False` drops
    none.
    """
    ready = moved(ready_for(tiny_folder, pairs_file, assignments=["model.lora.dropout=0.4"]))

    def at(index, dropout=True):
        torch.rand(3)  # moves the global generator
        masters = ready.optimizer.masters
        accumulate(
            ready.learner,
            make_batch(ready.learner, index, ready.batch_trees(0)),
            masters,
            dropout=dropout,
        )
        found = {name: grad.clone() for name, grad in masters.gradients().items()}
        masters.zero_grad()
        return found

    assert apart(at(1), at(1)) == 0
    assert apart(at(1), at(2)) > 1e-3
    assert apart(at(1, dropout=False), at(2, dropout=False)) == 0


def test_one_prompt_has_no_baseline(prepared):
    ready = prepared("kto")
    tree = ready.batch_trees(0)[0]
    with pytest.raises(Refused, match="all 2 rows of batch 3 have one prompt.*\n.*batch_size"):
        make_batch(ready.learner, 3, [tree, tree])


def test_labels_are_mixed_in_every_batch(tiny_folder, tmp_path):
    """24 good and 6 bad rows in batches of 5: one bad row in each."""
    rows = labelled_rows(pair_rows(24))
    few = [row for row in rows if row["label"]] + [row for row in rows if not row["label"]][:6]
    ready = ready_for(
        tiny_folder, write_rows(tmp_path / "l.jsonl", few), method="kto", batch_size=5
    )
    counts = [sum(not tree.desirable for tree in ready.batch_trees(i)) for i in range(6)]
    assert counts == [1] * 6
