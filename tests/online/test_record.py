"""An answer of several segments: others' tokens are attended to, and are in no loss, gradient, mean
or count; and the record of it comes back from a file as it was.
"""

import json

import pytest
import torch

from accord.engine.rollout_losses import as_rollouts, sampled_losses, summarise_sampled
from accord.engine.step import denominator
from accord.evaluate.records import Records
from accord.forward.choose import choose
from accord.forward.logps import PATHS, TokenLogps
from accord.forward.rounding import answer_alone
from accord.models.load import load
from accord.objectives import resolve
from accord.rollouts.batches import build_batch
from accord.rollouts.estimates import CarryOver
from accord.rollouts.files import FORMAT, BatchFiles
from accord.rollouts.pairing import Pairing
from accord.rollouts.record import Answer, Segment
from accord.runs.display import SilentDisplay
from accord.types import Refused, Rollout, Tree, UsageError
from accord.verify import preflight
from accord.verify.rollout_proofs import advantages_placed

SPOKEN = (
    Segment("policy", (5, 6), (-1.0, -2.0)),
    Segment("other", (40, 41, 42)),
    Segment("policy", (7,), (-0.5,)),
)


def two_turns(reward: float) -> Answer:
    """An answer whose three tokens of the policy's have three of a tool's in between."""
    logps, reference = [-1.0, -2.0, -0.5], [-1.25, -2.0, -1.0]
    return Answer(0, "", SPOKEN, True, reward=reward, logps=logps, reference=reference)


def one_turn(reward: float) -> Answer:
    plain = (Segment("policy", (8, 9), (-1.0, -1.0)),)
    return Answer(0, "", plain, True, reward=reward, logps=[-1.0] * 2, reference=[-1.0] * 2)


def batch_of(name: str, **options):
    objective = resolve(name, options)
    answers = [two_turns(3.0), one_turn(1.0)]
    return objective, build_batch(answers, [(1, 2)], objective, Pairing(), CarryOver(), 0)


def test_the_record_survives_a_file(tmp_path):
    answer = two_turns(1.5)
    answer.policy, answer.updates = "abc", 3
    files = BatchFiles(tmp_path, SilentDisplay())
    files.write(7, {"answers": [answer.as_dict()]})
    (found,) = files.load(7)["answers"]
    assert Answer.from_dict(found) == answer
    assert answer.tokens == (5, 6, 40, 41, 42, 7) and answer.scored == (0, 1, 5)
    assert answer.sampled == (-1.0, -2.0, -0.5) and answer.count == 3 and not answer.alone
    # a file of an older accord has the log-prob of a whole answer only
    body = json.dumps({"batch": 7, "answers": []})
    files.write(7, {"format": 1, "answers": []})
    with pytest.raises(Refused, match=f"in format 1; this accord reads format {FORMAT}"):
        files.load(7)
    files.path(7).write_text(files.path(7).read_text() + body)
    assert files.load(7) is None


@pytest.mark.parametrize(
    "author, tokens, sampled",
    [
        ("policy", (1, 2), (-1.0,)),
        ("other", (1,), (-1.0,)),
        ("tool", (1,), ()),
        ("policy", (), ()),
        ("policy", (1,), (float("nan"),)),
    ],
)
def test_a_segment_that_cannot_be(author, tokens, sampled):
    with pytest.raises(UsageError):
        Segment(author, tokens, sampled)


def test_an_answer_needs_a_token_of_the_policy():
    with pytest.raises(UsageError, match="without a token of the policy"):
        Answer(0, "", (Segment("other", (1,)),), True)


def test_others_tokens_count_in_no_mean_and_no_denominator():
    """Dr. GRPO's advantages ±1; by hand, with every ratio 1: -A for each of the policy's tokens."""
    objective, out = batch_of("dapo")
    (tree,) = as_rollouts(out.trees)
    assert tree.completions == ((5, 6, 40, 41, 42, 7), (8, 9)) and tree.counts == [3, 2]
    assert denominator(objective, out.trees) == 5  # tokens; 8 with the tool's
    assert out.figures["rollouts/tokens"] == 2.5
    assert out.figures["rollouts/kl"] == pytest.approx((0.25 + 0.5 + 0) / 2)
    assert tree.advantages.shape == (5,) and advantages_placed([tree]).verdict == "ok"
    logps = tree.old.clone().requires_grad_()
    count, owner = torch.tensor([3, 2]), torch.tensor([0, 0, 0, 1, 1])
    entropy = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    records = Records()
    losses = sampled_losses(objective, [tree], TokenLogps(logps, entropy, owner, count), records)
    high, low = tree.advantages[0].item(), tree.advantages[3].item()
    assert losses.tolist() == pytest.approx([-3 * high, -2 * low])
    (slope,) = torch.autograd.grad(losses.sum(), logps)
    assert slope.tolist() == pytest.approx([-high] * 3 + [-low] * 2)
    assert summarise_sampled(records, objective)["entropy"] == 3.0
    # GRPO's mean is over three tokens and over two
    means = sampled_losses(
        resolve("grpo"), [tree], TokenLogps(tree.old, entropy, owner, count), Records()
    )
    assert means.tolist() == pytest.approx([-high, -low])


def test_ppo_bridges_what_others_said():
    """With λ = γ = 1 the return of a token is all that is still to come: the reward on the last
    token of the policy's, and the KL of its own tokens alone.
    """
    answers = [two_turns(3.0), one_turn(1.0)]
    for answer in answers:
        answer.expected = [0.0] * answer.count
    objective = resolve("ppo", {"beta": 0.1, "lam": 1.0, "whitening": "none"})
    (tree,) = build_batch(answers, [(1, 2)], objective, Pairing(), CarryOver(), 0).trees
    # KL a token: .25, 0, .5
    assert tree.returns.tolist() == pytest.approx([3 - 0.075, 3 - 0.05, 3 - 0.05, 1, 1])


def test_pairs_of_conversations_are_refused():
    with pytest.raises(UsageError, match="make no pairs"):
        batch_of("dpo")


def test_others_tokens_are_attended_to_and_get_no_gradient(tiny_folder):
    """In every path: the policy's log-probs are those it has when every token is scored, and the
    gradient is the one with a weight of 0 on the others' tokens; without them both are others.
    """
    model = load(str(tiny_folder), dtype="float32")
    masked = Rollout((1, 2, 3), ((5, 6, 40, 41, 42, 7), (8, 9)), 0, scored=((0, 1, 5), (0, 1)))
    whole = Tree(masked.prompt, masked.completions, 0)
    choose(model, [whole], "tree")  # puts tree attention into the model
    kept = [0, 1, 5, 6, 7]
    weights = torch.tensor([1.0, -2.0, 0.5, 1.5, -1.0])
    assert preflight.mask([masked]).verdict == "ok"

    def gradient(values, weights):
        found = torch.autograd.grad((values * weights).sum(), [*model.network.parameters()])
        return torch.cat([g.flatten() for g in found])

    everything = PATHS["oracle"](model, [whole]).values
    spread = torch.zeros(len(everything))
    spread[kept] = weights
    wanted = gradient(everything, spread)
    for path in ("tree", "padded", "oracle"):
        found = PATHS[path](model, [masked])
        assert found.count.tolist() == [3, 2] and found.owner.tolist() == [0, 0, 0, 1, 1]
        torch.testing.assert_close(found.values, everything[kept], atol=2e-5, rtol=2e-5)
        apart = (gradient(found.values, weights) - wanted).norm() / wanted.norm()
        assert apart < 1e-4, path
    alone = answer_alone(model, masked.only(0))
    torch.testing.assert_close(alone.values, everything[[0, 1, 5]], atol=2e-5, rtol=2e-5)
    cut = PATHS["tree"](model, [Tree(masked.prompt, ((5, 6, 7),), 0)]).values
    assert (cut[2] - everything[5]).abs() > 1e-2  # it was read
