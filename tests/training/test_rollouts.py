"""Runs whose answers are their own: any method on the one loop, resumed to the bit, nothing drawn
twice, nothing lost in silence.
"""

import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from training.helpers import json_lines, metrics, ready_for, run, stopped_after
from training.test_resume import same

import accord
from accord.data.templates import make_template
from accord.engine import rollout_losses
from accord.models.load import load
from accord.objectives import POLICY_OBJECTIVES, resolve
from accord.pages.run import write_report
from accord.rewards.reward import Rewards, Weighted
from accord.rollouts import source
from accord.rollouts.batches import build_batch
from accord.rollouts.estimates import CarryOver
from accord.rollouts.evaluation import summarise_answers
from accord.rollouts.pairing import Pairing
from accord.rollouts.record import Answer, Segment
from accord.runs.export import load_checkpointed
from accord.runs.files import read_json
from accord.runs.folder import RunFolder
from accord.training import dry_run
from accord.training.setup import placing
from accord.types import Interrupted, Refused, Turn, UsageError
from accord.verify import rollout_proofs
from accord.verify.rollout_proofs import certify_policy

# of every way to advantages one method, and some objectives of pairs
METHODS = [*{row.estimate: name for name, row in POLICY_OBJECTIVES.items()}.values(), "dpo", "ipo"]
# what else is resumed with some of them
WITH = {
    "ppo": {"objective.kl_target": 2.0, "rollouts.overlong": "value"},
    "cispo": {"rollouts.dynamic_sampling": 2, "objective.entropy": 0.01},
    "dr_grpo": {"rollouts.overlong": "soft", "rollouts.overlong_buffer": 3},
}
SMALL = {
    "rollouts.rewards": ["length"],
    "rollouts.num_generations": 3,
    "rollouts.max_new_tokens": 6,
    "monitor.samples": 1,
    "monitor.sample_tokens": 4,
}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """Files of prompts: to train on, and held out."""
    folder = tmp_path_factory.mktemp("prompts")
    for name, numbers in (("train", range(10)), ("held", range(50, 54))):
        (folder / f"{name}.txt").write_text(
            "".join(f"say something about the cat number {n}\n" for n in numbers)
        )
    return folder


def rolled(tiny_folder, prompts, output, method="grpo", **changes):
    fields = SMALL | changes.pop("set", {})
    return run(
        tiny_folder,
        str(prompts / "train.txt"),
        output,
        method=method,
        held_out=str(prompts / "held.txt"),
        set=fields,
        **changes,
    )


def refused(tiny_folder, prompts, tmp_path, **changes) -> str:
    with pytest.raises((UsageError, Refused)) as error:
        rolled(tiny_folder, prompts, tmp_path / "run", **changes)
    return str(error.value)


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize("method", METHODS)
def test_resumed_equals_uninterrupted(method, tiny_folder, prompts, tmp_path, monkeypatch):
    """Also in the middle of a batch's passes, where its answers are older than the policy."""
    passes = 1 if method in ("rloo", "reinforce") else 2
    fields = {"rollouts.num_iterations": passes, "evaluate.every": 2} | WITH.get(method, {})
    result = rolled(tiny_folder, prompts, tmp_path / "straight", method, set=fields)
    with stopped_after(monkeypatch, 3), pytest.raises(Interrupted):
        rolled(tiny_folder, prompts, tmp_path / "stopped", method, set=fields)
    accord.resume(str(tmp_path / "stopped"))
    same(tmp_path / "straight", tmp_path / "stopped")
    for name in (
        "answers.jsonl",
        *(f"rollouts/{file.name}" for file in (tmp_path / "straight/rollouts").iterdir()),
    ):
        assert (tmp_path / "straight" / name).read_bytes() == (
            tmp_path / "stopped" / name
        ).read_bytes(), name
    assert {"eval_reward", "diag/eval_reward_low", "eval_kl"} <= set(result.after)
    assert (
        result.before["eval_kl"] == pytest.approx(0, abs=1e-4)
        and len(list((tmp_path / "straight/rollouts").iterdir())) == 4 // passes
    )


def test_batches_are_drawn_once(tiny_folder, prompts, tmp_path, monkeypatch):
    """What a kill left behind the checkpoint is used by the run that goes on; another policy's
    batch is not.
    """
    drawn = []
    answered = source.RolloutSource._answered
    monkeypatch.setattr(
        source.RolloutSource,
        "_answered",
        lambda self, number, attempt: drawn.append(number) or answered(self, number, attempt),
    )
    fields = {"checkpoint.every": 2}
    rolled(tiny_folder, prompts, tmp_path / "straight", set=fields)
    assert drawn == [0, 1, 2, 3]
    with stopped_after(monkeypatch, 3), pytest.raises(Interrupted):
        rolled(tiny_folder, prompts, tmp_path / "stopped", set=fields)
    import shutil

    shutil.rmtree(tmp_path / "stopped/checkpoints/step-000003")
    foreign = tmp_path / "stopped/rollouts/000003.json"
    body = (tmp_path / "straight/rollouts/000000.json").read_text()
    foreign.write_text(body)
    drawn.clear()
    accord.resume(str(tmp_path / "stopped"))
    assert drawn == [3]
    same(tmp_path / "straight", tmp_path / "stopped")


def test_flat_prompts_give_way_and_are_counted(tiny_folder, prompts, tmp_path):
    """Answers of one token are of one word each: no prompt is of use, and each further one is drawn
    once a batch. Those drawn in vain are in the record and in the metrics.
    """
    fields = {
        "rollouts.rewards": ["length=0.001"],
        "rollouts.max_new_tokens": 1,
        "rollouts.dynamic_sampling": 3,
        "evaluate.every": 0,
    }
    result = rolled(tiny_folder, prompts, tmp_path / "run", batch_size=4, steps=1, set=fields)
    body = json.loads((result.folder / "rollouts/000000.json").read_text().splitlines()[1])
    trained = {answer["prompt"] for answer in body["answers"]}
    dropped = [each["prompt"] for each in body["dropped"]]
    # of ten prompts, the others are all asked once
    assert sorted([*trained, *dropped]) == list(range(10))
    assert {each["round"] for each in body["dropped"]} >= {1, 2}
    (line,) = [
        line for line in json_lines(result.folder / "metrics.jsonl") if "rollouts/redrawn" in line
    ]
    assert line["rollouts/redrawn"] == len(dropped) / len(trained)


def test_a_damaged_batch_is_drawn_again(tiny_folder, prompts, tmp_path, monkeypatch):
    rolled(tiny_folder, prompts, tmp_path / "straight")
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        rolled(tiny_folder, prompts, tmp_path / "stopped")
    file = tmp_path / "stopped/rollouts/000000.json"
    file.write_text(file.read_text().replace('"reward": ', '"reward": 1', 1))
    with pytest.warns(UserWarning, match="is damaged and is passed over"):
        accord.resume(str(tmp_path / "stopped"))
    same(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo", "dpo"])
def test_the_reward_rises(method, tiny_folder, prompts, tmp_path):
    """Answers of a random model are as long as they may be; rewarded for few characters, they get
    shorter words.
    """
    fields = {
        "rollouts.rewards": ["length=-1"],
        "rollouts.num_generations": 8,
        "rollouts.num_generations_eval": 16,
    } | ({"objective.beta": 0.0} if method == "rloo" else {})
    result = rolled(
        tiny_folder,
        prompts,
        tmp_path / "run",
        method,
        steps=30,
        learning_rate=2e-2,
        batch_size=5,
        set=fields,
    )
    assert result.after["eval_reward"] > result.before["diag/eval_reward_high"]


VOWELS = "(?s).*[aeiou].*"
BANDITS = {  # with the KL term as an unbiased gradient of β·KL(π‖ref)
    "rloo": {"objective.beta": 1.0},
    "dr_grpo": {"objective.beta": 1.0, "objective.kl": "k2"},
    "ppo": {
        "objective.beta": 1.0,
        "objective.lam": 1.0,
        "objective.whitening": "none",
        "objective.value_weight": 0.5,
    },
}


@pytest.mark.parametrize("method", BANDITS)
def test_one_token_answers_come_to_the_closed_form(method, tiny_folder, tmp_path):
    """A bandit with as many arms as there are tokens: the loop ends at π* ∝ π_ref exp(r / β)."""
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("say a word\n")
    fields = {
        "rollouts.rewards": ["format=2"],
        "rollouts.reward_options": {"format": {"pattern": VOWELS}},
        "rollouts.num_generations": 256,
        "rollouts.max_new_tokens": 1,
        **BANDITS[method],
    }
    folder = run(
        tiny_folder,
        str(prompt),
        tmp_path / "run",
        method=method,
        steps=30,
        learning_rate=1e-2,
        lora=False,
        set=fields,
    ).folder
    model, _, _ = load_checkpointed(RunFolder.open(str(folder)), "latest")
    ids = torch.tensor(
        [make_template(model.tokenizer, "auto").question((Turn("user", "say a word"),))]
    )
    start = load(str(tiny_folder), dtype="float32")
    with torch.no_grad():
        policy, reference = (
            each.network(ids).logits[0, -1].double().softmax(0) for each in (model, start)
        )
    texts = [model.tokenizer.decode([i], skip_special_tokens=True) for i in range(len(reference))]
    rewards = torch.tensor([2.0 * bool(re.fullmatch(VOWELS, text)) for text in texts])
    best = reference * rewards.exp() / (reference * rewards.exp()).sum()
    apart, before = ((p - best).abs().sum().item() / 2 for p in (policy, reference))
    assert before > 0.2 and apart < 0.3 * before, (before, apart)


def test_figures_are_those_of_the_answers(tiny_folder, prompts, tmp_path):
    folder = rolled(
        tiny_folder,
        prompts,
        tmp_path / "run",
        set={
            "rollouts.rewards": ["length", "too_long=2"],
            "rollouts.reward_options": {"too_long": {"limit": 10, "slack": 5}},
            "rollouts.gold": ["length=-1", "too_long=0.5"],
            "rollouts.gold_options": {"too_long": {"limit": 1, "slack": 1}},
        },
    ).folder
    for line in metrics(folder):
        body = json.loads(
            (folder / f"rollouts/{line['step'] - 1:06}.json").read_text().splitlines()[1]
        )
        rewards = [answer["reward"] for answer in body["answers"]]
        assert line["rollouts/reward"] == pytest.approx(sum(rewards) / len(rewards))
        kl = [sum(answer["logps"]) - sum(answer["reference"]) for answer in body["answers"]]
        assert line["rollouts/kl"] == pytest.approx(sum(kl) / len(kl), abs=1e-9)
        assert all(
            a["reward"] == a["parts"]["length"] + 2 * a["parts"]["too_long"]
            for a in body["answers"]
        )
    last = [line for line in json_lines(folder / "answers.jsonl") if line["step"] == 4]
    assert (
        all(
            line["gold"] == -line["parts"]["length"] - 0.5 * (line["parts"]["length"] > 1)
            for line in last
        )
        and len(last) == 8
    )
    held = next(
        line for line in reversed(json_lines(folder / "metrics.jsonl")) if "eval_gold" in line
    )
    assert (
        held["eval_gold"] == pytest.approx(sum(line["gold"] for line in last) / 8)
        and held["eval_gold_missing"] == 0
    )


def test_held_out_answers_are_the_policy_s_own(tiny_folder, prompts, tmp_path):
    """Whatever temperature trains: answers drawn at another one are not its, and their log-ratios
    no KL of it.
    """
    said = []
    for temperature in (1.0, 0.5):
        folder = rolled(
            tiny_folder,
            prompts,
            tmp_path / f"{temperature}",
            "dpo",
            set={"rollouts.temperature": temperature},
            steps=1,
        ).folder
        said.append(
            [line["text"] for line in json_lines(folder / "answers.jsonl") if line["step"] == 0]
        )
        assert ("rollouts/kl" in metrics(folder)[0]) == (temperature == 1)
    assert said[0] == said[1]


def test_answers_without_a_gold_judgement_are_counted():
    """They are in no mean of gold rewards, and the share that they are is said."""
    own = [
        Answer(n, text, (Segment("policy", (1,), (-1.0,)),), True)
        for n, text in ((0, "a"), (1, "b"))
    ]
    for answer in own:
        answer.reward, answer.parts = 1.0, {"length": 1.0}
    assert (
        summarise_answers(own, [0.1, 0.1], np.array([2.0, np.nan])).items()
        >= {"eval_gold": 2.0, "eval_gold_missing": 0.5}.items()
    )
    lost = summarise_answers(own, [0.1, 0.1], np.array([np.nan, np.nan]))
    assert "eval_gold" not in lost and lost["eval_gold_missing"] == 1


# ---------------------------------------------------------------- what is trained on


def answers(rewards, prompt=0, texts=None):
    texts = texts or [f"answer {i}" for i in range(len(rewards))]
    return [
        Answer(
            prompt,
            text,
            (Segment("policy", (5 + i, 6, 7)[: 2 + i % 2], (-1.25,) * (2 + i % 2)),),
            True,
            reward=reward,
            failure="" if reward is not None else "raised",
            logps=[-1.0] * (2 + i % 2),
            reference=[-1.5] * (2 + i % 2),
            expected=[0.25] * (2 + i % 2),
        )
        for i, (reward, text) in enumerate(zip(rewards, texts, strict=True))
    ]


def test_an_answer_without_a_reward_is_trained_on_by_nothing():
    batch = [*answers([1.0, None, 3.0]), *answers([None, 2.0, None], prompt=1)]
    out = build_batch(batch, [(1,), (2,)], resolve("grpo"), Pairing(), CarryOver(), 100)
    (tree,) = out.trees
    assert tree.prompt == (1,) and tree.completions == ((5, 6), (7, 6)) and tree.row == 100
    assert (
        out.figures["rollouts/missing"] == pytest.approx(3 / 6)
        and out.figures["rollouts/reward"] == 2.0
    )
    assert dict(out.reasons) == {"fewer than two answers to the prompt have a reward": 1}
    assert tree.advantages.tolist() == pytest.approx([-(0.5**0.5)] * 2 + [0.5**0.5] * 2, abs=1e-3)


def test_pairs_are_the_very_tokens():
    batch = [*answers([0.0, 5.0, 1.0]), *answers([2.0, 2.0], prompt=1)]
    out = build_batch(batch, [(1,), (2,)], resolve("dpo"), Pairing("best_worst"), CarryOver(), 7)
    assert [(t.prompt, t.completions, t.row) for t in out.trees] == [((1,), ((6, 6, 7), (5, 6)), 7)]
    assert out.figures["rollouts/pairs"] == 1 and out.figures["rollouts/paired_prompts"] == 0.5


def test_what_is_carried_on():
    """REINFORCE's baseline, and PPO's KL weight where it follows a target."""
    batch = answers([1.0, 3.0])
    first = build_batch(
        batch, [(1,)], resolve("reinforce", {"beta": 0.0}), Pairing(), CarryOver(), 0
    )
    assert first.carried.baseline == 2.0
    second = build_batch(
        answers([4.0, 4.0]),
        [(1,)],
        resolve("reinforce", {"beta": 0.0}),
        Pairing(),
        first.carried,
        0,
    )
    assert second.trees[0].advantages.tolist() == [
        2.0
    ] * 5 and second.carried.baseline == pytest.approx(0.9 * 2 + 0.1 * 4)
    ppo = resolve("ppo", {"beta": 0.1, "kl_target": 0.1})
    # KL 1.25: far over
    assert build_batch(batch, [(1,)], ppo, Pairing(), CarryOver(), 0).carried.beta == pytest.approx(
        0.1 * (1 + 0.1 * 0.2)
    )


def test_ppo_puts_the_reward_on_the_last_token_and_kl_on_each():
    out = build_batch(
        answers([1.0, 3.0]),
        [(1,)],
        resolve("ppo", {"beta": 0.1, "lam": 1.0, "whitening": "none"}),
        Pairing(),
        CarryOver(),
        0,
    )
    (tree,) = out.trees
    # 0.5 nats a token times beta
    assert tree.returns.tolist() == pytest.approx([1 - 0.1, 1 - 0.05, 3 - 0.15, 3 - 0.1, 3 - 0.05])
    assert tree.advantages.tolist() == pytest.approx([r - 0.25 for r in tree.returns.tolist()])


# ---------------------------------------------------------------- what is refused


BAD = {
    "a target of a KL that is not there": (
        "ppo",
        {"objective.beta": 0, "objective.kl_target": 5},
        "kl_target = 5.0, and beta = 0",
    ),
    "an estimator of it": ("grpo", {"objective.kl": "k2"}, "kl = k2, and beta = 0"),
    "discounts that grow": ("ppo", {"objective.lam": 3}, "at least 0 and at most 1"),
    "temperature": ("ppo", {"rollouts.temperature": 0.7}, "drawn at temperature 1"),
    "pairing": ("grpo", {"rollouts.pairing": "hard"}, "makes no pairs"),
    "passes": ("rloo", {"rollouts.num_iterations": 2}, "off-policy"),
    "reference": ("grpo", {"reference": "cached"}, "nothing can be cached"),
    "format": (
        "grpo",
        {"data.format": "alpaca"},
        "data.format: grpo learns from the policy's own answers",
    ),
    "labels": ("kto", {}, "trains on labelled"),
    "reward": ("grpo", {"rollouts.rewards": ["nice"]}, "no reward is called 'nice'"),
    "option": ("grpo", {"objective.lam": 0.9}, "does not know the keyword 'lam'"),
    "k": ("grpo", {"rollouts.num_generations": 1}, "rollouts.num_generations"),
    "gold options": (
        "grpo",
        {"rollouts.gold_options": {"length": {}}},
        "there is no second judgement",
    ),
    "draws again": ("ppo", {"rollouts.dynamic_sampling": 1}, "equal rewards teach too"),
    "a value": ("grpo", {"rollouts.overlong": "value"}, "there is no value head"),
    "a buffer": ("grpo", {"rollouts.overlong_buffer": 2}, "it is of rollouts.overlong: soft"),
    "a long buffer": (
        "grpo",
        {"rollouts.overlong": "soft", "rollouts.overlong_buffer": 7},
        "longer than rollouts.max_new_tokens = 6",
    ),
    "a correction": ("gspo", {"objective.kl_correction": "ratio"}, "and beta = 0"),
}


@pytest.mark.parametrize("method, fields, words", BAD.values(), ids=BAD)
def test_what_would_do_nothing_is_refused(method, fields, words, tiny_folder, prompts, tmp_path):
    assert words in refused(tiny_folder, prompts, tmp_path, method=method, set=fields)


def test_a_policy_gradient_needs_rollouts(tiny_folder, prompts, tmp_path):
    with pytest.raises(UsageError, match="rollouts.rewards"):
        run(tiny_folder, str(prompts / "train.txt"), tmp_path / "run", method="ppo")


def test_rewards_all_alike_teach_no_pair(tiny_folder, prompts, tmp_path):
    said = refused(
        tiny_folder,
        prompts,
        tmp_path,
        method="dpo",
        set={"rollouts.rewards": ["length"], "rollouts.margin": 1000.0},
    )
    assert re.search(
        r"nothing to train on in 3 draws: 3 prompts: no two answers far enough apart", said
    )


def test_held_out_prompts_that_are_trained_on(tiny_folder, prompts, tmp_path):
    with pytest.raises(accord.types.DataError, match="1 of 1 held-out prompts are trained on"):
        shared = tmp_path / "shared.txt"
        shared.write_text((prompts / "train.txt").read_text().split("\n")[0] + "\n")
        run(
            tiny_folder,
            str(prompts / "train.txt"),
            tmp_path / "run",
            method="grpo",
            set=SMALL,
            held_out=str(shared),
        )


# ---------------------------------------------------------------- what judging cost


class Asked:
    """A reward that counts its questions, as a judge does."""

    name = "asked"

    def __init__(self, number):
        self.number, self.questions = number, 0

    def __call__(self, prompts, answers, rows):
        self.questions += len(answers)
        return Rewards.of([float(i % 2) for i in range(len(answers))])

    def account(self):
        return {"questions": self.questions, "said": {"late": f"reward {self.number}"}}


def test_what_judging_cost_is_kept_over_all_sessions(tiny_folder, prompts, tmp_path, monkeypatch):
    """Also what a lost session asked: it was paid."""
    made, folder = [], tmp_path / "run"
    monkeypatch.setattr(
        placing,
        "load_rewards",
        lambda *_, **__: made.append(Asked(len(made))) or Weighted([(made[-1], 1.0)]),
    )
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        rolled(tiny_folder, prompts, folder, set={"rollouts.gold": ["asked"], "evaluate.every": 1})
    shutil.rmtree(folder / "checkpoints")  # so that updates are made again
    accord.resume(str(folder))
    reward, gold, again, gold_again = (one.questions for one in made)
    account = read_json(folder / "judging.json", {})
    assert (
        account["reward"]["asked"] == {"questions": reward + again, "said": {"late": "reward 0"}}
        and reward
        and again
    )
    assert account["gold"]["asked"]["questions"] == gold + gold_again and gold_again > gold > 0
    assert f"reward asked: {reward + again:,} questions" in write_report([str(folder)]).read_text()


def test_rewards_with_nothing_to_tell_leave_no_account(tiny_folder, prompts, tmp_path):
    rolled(tiny_folder, prompts, tmp_path / "run")
    assert not (tmp_path / "run" / "judging.json").exists()


# ---------------------------------------------------------------- the certificate bites


@pytest.mark.parametrize("method", POLICY_OBJECTIVES)
def test_the_certificate_finds_another_loss(method, monkeypatch):
    options = (
        {"max_tokens": 5.0} if method == "dr_grpo" else {"beta": 0.2} if method == "grpo" else {}
    )
    objective = resolve(method, options)
    assert certify_policy(objective).verdict == "ok"
    losses = rollout_losses.sampled_losses
    for wrong in (lambda x: -x, lambda x: 2 * x, lambda x: x / 3, lambda x: x.flip(0)):
        monkeypatch.setattr(
            rollout_proofs, "sampled_losses", lambda *a, wrong=wrong: wrong(losses(*a))
        )
        assert certify_policy(objective).refused


def test_stale_answers_stop_the_run(tiny_folder, prompts, tmp_path, monkeypatch):
    """Log-probs of other answers than those that are trained on:
    ratios that do not start from 1.
    """
    measured = source.measure_logps

    def stale(own, pack, learner, start):
        measured(own, pack, learner, start)
        for answer in own:
            # under rollouts.max_gap, and far over rounding
            answer.logps = [value - 0.05 for value in answer.logps]

    monkeypatch.setattr(source, "measure_logps", stale)
    said = refused(tiny_folder, prompts, tmp_path)
    assert "step0.on_policy" in said


def test_any_split_gives_one_gradient(tiny_folder, prompts):

    from accord.engine.step import Batch, accumulate

    ready = ready_for(
        tiny_folder,
        str(prompts / "train.txt"),
        method="ppo",
        assignments=[f"{k}={json.dumps(v)}" for k, v in SMALL.items()],
    )
    batch, masters = Batch(0, ready.batch_trees(0)), ready.optimizer.masters
    found = []
    for budget in (64, 10**6):
        masters.zero_grad()
        accumulate(ready.learner.with_budget(budget), batch, masters)
        found.append(torch.cat([g.flatten() for g in masters.gradients().values()]).clone())
    assert (found[0] - found[1]).norm() <= 1e-5 * found[1].norm() and found[1].norm() > 0


@pytest.mark.parametrize(
    "method, sides", [("grpo", ["answer"] * 3), ("dpo", ["chosen", "rejected"])]
)
def test_a_dry_run_shows_the_first_answers(method, sides, tiny_folder, prompts):
    """Prompts have no answers to show but those that the policy gives."""
    ready = ready_for(
        tiny_folder,
        str(prompts / "train.txt"),
        method=method,
        assignments=[f"{k}={json.dumps(v)}" for k, v in SMALL.items()],
    )
    stream = io.StringIO()
    shown = dry_run.show(ready, stream)["shown"]
    assert [len(one["completions"]) for one in shown] == [len(sides)] * 2
    assert re.findall(r"^  (\w+) +⟦", stream.getvalue(), re.M) == sides * 2
    assert all(str(prompts / "train.txt") in one["at"] for one in shown)


def test_memory_that_runs_out_while_answers_are_measured(
    tiny_folder, prompts, tmp_path, monkeypatch
):
    """The one budget is halved, for the gradient as well; the run ends with the same weights, but
    for rounding.
    """
    plain = rolled(tiny_folder, prompts, tmp_path / "plain")
    right, sizes = source.measure_logps, []

    def starved(own, pack, *rest):
        sizes.append(sum(tree.tokens for tree in pack))
        if len(pack) > 1 and len(sizes) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return right(own, pack, *rest)

    monkeypatch.setattr(source, "measure_logps", starved)
    result = rolled(tiny_folder, prompts, tmp_path / "run")
    events = json_lines(tmp_path / "run/events.jsonl")
    budgets = [e["evidence"]["micro_tokens"] for e in events if e["check"] == "memory"]
    assert budgets == sorted(budgets, reverse=True) and budgets[-1] < 2048
    assert "the answers are measured again" in events[-1]["says"] + events[0]["says"]
    for ours, theirs in zip(metrics(result), metrics(plain), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3, abs=1e-5)


def test_one_answer_that_does_not_fit_ends_in_words(tiny_folder, prompts, tmp_path, monkeypatch):
    def starved(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    rolled(tiny_folder, prompts, tmp_path / "plain")
    right, calls = source.measure_logps, []

    def later(*given):
        calls.append(1)
        return right(*given) if len(calls) < 4 else starved()

    monkeypatch.setattr(source, "measure_logps", later)
    with pytest.raises(Refused, match="(?s)Out of memory .*accord.resume"):
        rolled(tiny_folder, prompts, tmp_path / "run")
