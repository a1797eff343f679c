"""What ld_dpo and wpo read beside sums: shared sums and collision entropies, on every path, from
the reference cache, and proved at step 0.
"""

from dataclasses import replace

import pytest
import torch
from forward.test_regimes import mixed_trees, phi3
from forward.tiny import some_trees, tiny

from accord.engine.micro_budget import MicroBudget
from accord.engine.step import UpdateContext
from accord.forward.choose import choose, paths_of
from accord.forward.reference import AdaptersOff, Cached, key, keys_of
from accord.models.lora import add_lora
from accord.objectives import resolve
from accord.types import Logps, Tree
from accord.verify.columns import columns_by_definition, columns_finding

BOTH = frozenset({"shared", "collision"})
LORA = dict(rank=2, alpha=4.0, targets="all-linear", dropout=0.0, dora=False, seed=0)


def asked(model, trees, path, columns=BOTH):
    forward = choose(model, trees, path)
    return replace(forward, columns=columns)(trees).reduce()


@pytest.mark.parametrize("path", ["tree", "padded"])
def test_columns_are_their_definitions(path):
    model, trees = tiny(), some_trees()
    got, wanted = asked(model, trees, path), columns_by_definition(model, trees)
    for name in ("sum", "shared", "collision"):
        column = getattr(got, name)
        assert column.dtype == torch.float64
        torch.testing.assert_close(column, getattr(wanted, name), atol=2e-5, rtol=2e-5)
    assert (got.shared - got.sum).abs().max() > 1  # one answer is longer


@pytest.mark.parametrize("path", ["tree", "padded"])
def test_answers_of_either_regime_keep_their_columns(path):
    """Longrope computes the two answers of a row apart; what they share is still the row's."""
    model, trees = phi3(), mixed_trees()
    got, wanted = asked(model, trees, path), columns_by_definition(model, trees)
    for name in ("sum", "shared", "collision"):
        torch.testing.assert_close(getattr(got, name), getattr(wanted, name), atol=1e-4, rtol=1e-4)


def test_nobody_pays_for_what_was_not_asked():
    model, trees = tiny(), some_trees()
    plain = asked(model, trees, "tree", frozenset())
    assert plain.shared is None and plain.collision is None
    full = asked(model, trees, "tree")
    assert torch.equal(plain.sum, full.sum)  # the same bits
    assert paths_of(model)["tree"](model, trees).collision is None


def test_gradients_reach_the_first_tokens_alone():
    model, trees = tiny(), some_trees()
    tokens = replace(choose(model, trees), columns=frozenset({"shared"}))(trees)
    tokens.values.retain_grad()
    tokens.reduce().shared.sum().backward()
    shortest = [min(map(len, t.completions)) for t in trees for _ in t.completions]
    for grad, size in zip(tokens.values.grad.split(tokens.count.tolist()), shortest, strict=True):
        assert grad.tolist() == [1.0] * size + [0.0] * (len(grad) - size)


def test_rows_keep_their_columns_when_they_are_cut_and_joined():
    one = Logps(*(torch.arange(3.0) + n for n in range(4)))
    joined = Logps.join([one[0:1], one[torch.tensor([1, 2])]])
    for name in ("sum", "count", "shared", "collision"):
        assert torch.equal(getattr(joined, name), getattr(one, name))
    bare = Logps(one.sum, one.count)
    assert bare[0:1].shared is None and Logps.join([bare, bare]).collision is None
    with pytest.raises(AssertionError, match="others lack"):
        Logps.join([one, bare])


# ---------------------------------------------------------------- the cache


class Live:
    """A reference whose log-probs are functions of the row alone."""

    joint = False

    def __init__(self):
        self.asked = []

    def logps(self, trees):
        self.asked += [tree.row for tree in trees]
        sums, counts, shared = zip(
            *(
                (-len(c) / 3 - tree.row, len(c), -tree.shortest / 7 - tree.row)
                for tree in trees
                for c in tree.completions
            ),
            strict=True,
        )
        return Logps(
            torch.tensor(sums, dtype=torch.float64),
            torch.tensor(counts),
            torch.tensor(shared, dtype=torch.float64),
        )


def test_the_cache_keeps_shared_sums_by_their_number_of_tokens(tmp_path):
    """The same answer beside a shorter one has another entry, and plain runs find theirs."""
    prompt, long = (3, 4), (5, 6, 7, 8)
    beside = [Tree(prompt, (long, (9,)), 0), Tree(prompt, (long, (9, 9, 9)), 1)]
    filled = Cached(tmp_path, torch.device("cpu"), shared=True)
    assert filled.fill(Live(), beside, 100) == 2
    again = Cached(tmp_path, torch.device("cpu"), shared=True)
    assert again.load() == [] and not len(again.missing(beside))
    for order in (beside, beside[::-1]):
        found, wanted = again.logps(order), Live().logps(order)
        assert torch.equal(found.shared, wanted.shared)
    plain = Cached(tmp_path, torch.device("cpu"))
    plain.load()
    assert plain.logps(beside).shared is None and not len(plain.missing(beside))


def test_a_cache_without_shared_sums_is_filled_with_them(tmp_path):
    trees = some_trees()
    Cached(tmp_path, torch.device("cpu")).fill(Live(), trees, 100)
    later, live = Cached(tmp_path, torch.device("cpu"), shared=True), Live()
    later.load()
    assert sorted(later.missing(trees)) == [0, 1, 2, 3]
    assert later.fill(live, trees, 100) == 4
    assert torch.equal(later.logps(trees).shared, Live().logps(trees).shared)
    own = Cached(tmp_path / "own", torch.device("cpu"), shared=True)
    later.folder = own.folder
    own.folder.mkdir()
    later.keep(own.folder / "reference.safetensors", trees)
    assert own.recall(own.folder / "reference.safetensors") == ""
    assert torch.equal(own.logps(trees).shared, later.logps(trees).shared)


def test_keys_of_first_tokens_are_none_of_a_whole_answer():
    trees = some_trees()
    whole, first = keys_of(trees), keys_of(trees, shared=True)
    assert not {k.tobytes() for k in whole} & {k.tobytes() for k in first}
    assert key((1, 2), (3,), 1) != key((1, 2), (3,)) != key((1, 2), (3, 1))


# ---------------------------------------------------------------- the proof


def learner(model, trees, objective, columns=None):
    bound = resolve(objective)
    forward = choose(model, trees)
    forward = replace(forward, columns=bound.columns if columns is None else columns)
    reference = AdaptersOff(forward)
    return UpdateContext(forward, bound, reference, MicroBudget(512), 0)


@pytest.fixture
def adapted():
    model = tiny()
    add_lora(model, **LORA)
    return model


@pytest.mark.parametrize("objective", ["ld_dpo", "wpo", "wpo*ld_dpo"])
def test_step_0_proves_the_columns(adapted, objective):
    finding = columns_finding(learner(adapted, some_trees(), objective), some_trees())
    assert finding.verdict == "ok" and finding.evidence["nats"] < 1e-5


@pytest.mark.parametrize("wrong", ["missing", "longest", "of the other answer"])
def test_step_0_refuses_a_wrong_column(adapted, wrong, monkeypatch):
    if wrong == "missing":
        found = learner(adapted, some_trees(), "ld_dpo", frozenset())
    elif wrong == "longest":
        longest = property(lambda tree: max(map(len, tree.completions)))
        monkeypatch.setattr(Tree, "shortest", longest)
        found = learner(adapted, some_trees(), "ld_dpo")
    else:
        found = learner(adapted, some_trees(), "wpo")
        right = type(found.forward).token_logps
        monkeypatch.setattr(
            type(found.forward),
            "token_logps",
            lambda forward, trees: replace(
                tokens := right(forward, trees), collision=tokens.entropy.detach()
            ),
        )
    finding = columns_finding(found, some_trees())
    assert finding.refused and finding.evidence["column"]
