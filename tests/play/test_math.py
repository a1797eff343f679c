"""The page's mathematics is the Python's: losses, gradients and policies in float64, and the closed
forms they land on.
"""

import itertools
import math
import random

import pytest
import torch
from objectives.rows import labelled, pairs

from accord.objectives import OBJECTIVES, dpo, dpo_norm, dpop, ipo, kto, orpo, simpo
from accord.objectives.closed_forms import Answer, Row
from accord.objectives.numerics import log_odds

STATES = 1000
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def numbers(values):
    return torch.tensor(values, dtype=torch.float64)


def random_row(draw):
    """[policyW, refW, countW, policyL, refL, countL]; sums of 1 to 400 tokens, a few of them
    extreme.
    """
    out = []
    for _ in range(2):
        count = draw.choice([1, 2, 7, 30, 400])
        policy = -count * draw.choice([1e-14, 1e-9, 1e-3, 0.4, 1.0, 5.0]) * (0.5 + draw.random())
        out += [policy, policy + draw.gauss(0, draw.choice([0.1, 3, 60])), count]
    return out


# The page's options, and the Python function of the same values.
PAIRED = {
    "dpo": (lambda d: {"beta": d.uniform(0.01, 2)}, lambda p, r, o: dpo(p, r, **o)),
    "ipo": (
        lambda d: {
            "beta": d.uniform(0.02, 2),
            "normalize": d.choice(["token_mean", "sequence_sum"]),
        },
        lambda p, r, o: ipo(p, r, **o),
    ),
    "simpo": (
        lambda d: {"beta": d.uniform(0.5, 10), "gammaRatio": d.uniform(0, 2)},
        lambda p, r, o: simpo(p, beta=o["beta"], gamma_beta_ratio=o["gammaRatio"]),
    ),
    "orpo": (lambda d: {"weight": d.uniform(0.01, 2)}, lambda p, r, o: orpo(p, **o)),
    "dpop": (
        lambda d: {"beta": d.uniform(0.01, 2), "penalty": d.uniform(0, 50)},
        lambda p, r, o: dpop(p, r, **o),
    ),
    "dpo_norm": (lambda d: {"beta": d.uniform(0.1, 10)}, lambda p, r, o: dpo_norm(p, r, **o)),
}


@pytest.mark.parametrize("name", PAIRED)
def test_a_pairs_loss_and_gradient(node, name):
    draw = random.Random(name)
    options_of, python = PAIRED[name]
    jobs = [
        ("pairs", name, [random_row(draw) for _ in range(50)], options_of(draw))
        for _ in range(STATES // 50)
    ]
    for (_, _, rows, options), found in zip(jobs, node(*jobs), strict=True):
        pw, rw, nw, pl, rl, nl = (numbers(column) for column in zip(*rows, strict=True))
        pw.requires_grad_()
        pl.requires_grad_()
        losses = python(pairs(pw, pl, nw, nl), pairs(rw, rl, nw, nl), options).losses
        slopes = torch.autograd.grad(losses.sum(), (pw, pl))
        torch.testing.assert_close(
            numbers(found), torch.stack([losses.detach(), *slopes], 1), **CLOSE
        )


def test_the_closed_forms_that_certify_a_run(node):
    """The plain-float forms that a run's certificate uses say the same of the page."""
    draw = random.Random(7)
    named = {
        "dpo": ({"beta": 0.3}, {"beta": 0.3, "label_smoothing": 0.0}),
        "ipo": ({"beta": 0.2, "normalize": "token_mean"},) * 2,
        "simpo": (
            {"beta": 2.5, "gammaRatio": 0.4},
            {"beta": 2.5, "gamma": None, "gamma_beta_ratio": 0.4},
        ),
        "orpo": ({"weight": 0.2},) * 2,
        "dpop": ({"beta": 0.3, "penalty": 5.0},) * 2,
        "dpo_norm": ({"beta": 5.0},) * 2,
    }
    rows = [
        row
        for row in (random_row(draw) for _ in range(200))
        if max(row[0] / row[2], row[3] / row[5]) < -1e-6
    ]
    for (name, (_, options)), found in zip(
        named.items(),
        node(*(("pairs", name, rows, ours) for name, (ours, _) in named.items())),
        strict=True,
    ):
        for (pw, rw, nw, pl, rl, nl), (loss, *slopes) in zip(rows, found, strict=True):
            expected, gradient = OBJECTIVES[name].closed_form(
                Row("", (Answer(pw, rw, nw), Answer(pl, rl, nl))), options, 0.0
            )
            assert [loss, *slopes] == pytest.approx([expected, *gradient], rel=1e-9, abs=1e-9), name


def test_dpops_slope_in_its_kink_is_dpos(node):
    """At r_w = 0 and just above it the chosen answer is pulled as by DPO; below it 1 + λ times."""
    rows = [[-3.0 + off, -3.0, 4, -3.0, -3.0, 4] for off in (-1e-9, 0.0, 1e-9)]
    (found,) = node(("pairs", "dpop", rows, {"beta": 0.4, "penalty": 5}))
    assert [slope for _, slope, _ in found] == pytest.approx([-1.2, -0.2, -0.2], rel=1e-6)


def test_ktos_loss_and_gradient(node):
    draw = random.Random(0)
    jobs = []
    for _ in range(STATES // 100):
        rows, good = (
            [random_row(draw)[:3] for _ in range(100)],
            [draw.random() < 0.5 for _ in range(100)],
        )
        options = {
            "beta": draw.uniform(0.01, 2),
            "lambdaD": draw.uniform(0.1, 4),
            "lambdaU": draw.uniform(0.1, 4),
            "z0": draw.uniform(0, 5),
        }
        jobs.append(("kto", rows, good, options))
    for (_, rows, good, options), found in zip(jobs, node(*jobs), strict=True):
        policy, reference, _ = (numbers(column) for column in zip(*rows, strict=True))
        policy.requires_grad_()
        losses = kto(
            labelled(policy, good),
            labelled(reference, good),
            z0=numbers(options["z0"]),
            beta=options["beta"],
            desirable_weight=options["lambdaD"],
            undesirable_weight=options["lambdaU"],
        ).losses
        (slopes,) = torch.autograd.grad(losses.sum(), policy)
        torch.testing.assert_close(
            numbers(found), torch.stack([losses.detach(), slopes], 1), **CLOSE
        )


def test_log_odds_of_certain_and_hopeless_answers(node):
    means = [0.0, -1e-300, -1e-13, -1e-12, -1e-6, -0.5, -math.log(2), -0.7, -30.0, -800.0, -1e4]
    (found,) = node(("logOdds", means))
    torch.testing.assert_close(numbers(found), log_odds(numbers(means)), **CLOSE)


# ---------------------------------------------------------------- whole worlds


def random_world(draw):
    count = draw.randint(3, 8)
    answers = [
        {
            "text": "",
            "ref": draw.uniform(0.01, 1),
            "tokens": draw.randint(1, 60),
            "features": [draw.gauss(0, 1), draw.gauss(0, 1)],
        }
        for _ in range(count)
    ]
    shares = draw.choice(["none", "features"])
    chosen = draw.sample(
        [(i, j) for i in range(count) for j in range(count) if i != j], draw.randint(1, count)
    )
    weights = [draw.random() for _ in chosen]
    settings = {
        "beta": draw.uniform(0.02, 3),
        "normalize": draw.choice(["sequence_sum", "token_mean"]),
        "simpoBeta": draw.uniform(0.5, 10),
        "gammaRatio": draw.random(),
        "orpoWeight": draw.uniform(0.01, 2),
        "dpopPenalty": draw.uniform(0, 50),
        "normBeta": draw.uniform(0.1, 10),
        "lambdaD": draw.uniform(0.1, 4),
        "lambdaU": draw.uniform(0.1, 4),
        "z0": None,
        "rl": draw.choice(["exact", "ppo"]),
    }
    return {
        "answers": answers,
        "shares": shares,
        "theta": [draw.gauss(0, 1) for _ in range(count if shares == "none" else 2)],
        "rows": [
            {"w": won, "l": lost, "share": x / sum(weights)}
            for (won, lost), x in zip(chosen, weights, strict=True)
        ],
        "rewards": [draw.gauss(0, 1) for _ in range(count)],
        "settings": settings,
    }


def expected_of(world):
    """The same world in torch: its gradients by autograd through accord's objectives."""
    s, rewards = world["settings"], numbers(world["rewards"])
    reference = numbers([a["ref"] for a in world["answers"]]).log().log_softmax(0)
    phi = (
        torch.eye(len(rewards), dtype=torch.float64)
        if world["shares"] == "none"
        else numbers([a["features"] for a in world["answers"]])
    )
    theta = numbers(world["theta"]).requires_grad_()
    logp = torch.log_softmax(reference + phi @ theta, 0)
    counts = torch.tensor([a["tokens"] for a in world["answers"]])
    won, lost = torch.tensor([[r["w"], r["l"]] for r in world["rows"]]).T
    shares = numbers([r["share"] for r in world["rows"]])
    rows, against = (
        pairs(values[won], values[lost], counts[won], counts[lost]) for values in (logp, reference)
    )
    kl = (logp.exp() * (logp - reference)).sum()
    good = torch.arange(2 * len(won)) < len(won)
    weights = {
        "beta": s["beta"],
        "desirable_weight": s["lambdaD"],
        "undesirable_weight": s["lambdaU"],
    }
    labels = [
        labelled(torch.cat([values[won], values[lost]]), good.tolist())
        for values in (logp, reference)
    ]
    losses = {
        "rlhf": -(logp.exp() * rewards).sum() + s["beta"] * kl,
        "dpo": shares @ dpo(rows, against, beta=s["beta"]).losses,
        "ipo": shares @ ipo(rows, against, beta=s["beta"], normalize=s["normalize"]).losses,
        "kto": torch.cat([shares, shares]) @ kto(*labels, z0=kl.detach(), **weights).losses / 2,
        "simpo": shares @ simpo(rows, beta=s["simpoBeta"], gamma_beta_ratio=s["gammaRatio"]).losses,
        "orpo": shares @ orpo(rows, weight=s["orpoWeight"]).losses,
        "dpop": shares @ dpop(rows, against, beta=s["beta"], penalty=s["dpopPenalty"]).losses,
        "dpo_norm": shares @ dpo_norm(rows, against, beta=s["normBeta"]).losses,
    }
    gradients = {
        name: torch.autograd.grad(loss, theta, retain_graph=True)[0]
        for name, loss in losses.items()
    }
    star = torch.log_softmax(reference + rewards / s["beta"], 0)
    return {
        "logp": logp.detach(),
        "star": star,
        "kl": kl.detach(),
        "reward": (logp.exp() * rewards).sum().detach(),
        "gradients": gradients,
    }


def test_a_thousand_worlds(node):
    """Policy, π*, KL, expected reward, and every method's gradient on θ. PPO's first update is the
    policy gradient's.
    """
    draw = random.Random(1)
    worlds = [random_world(draw) for _ in range(STATES)]
    for world, found in zip(worlds, node(*(("world", world) for world in worlds)), strict=True):
        expected = expected_of(world)
        for name in ("logp", "star", "kl", "reward"):
            torch.testing.assert_close(numbers(found[name]), expected[name], **CLOSE)
        for method, gradient in expected["gradients"].items():
            torch.testing.assert_close(
                numbers(found["gradients"][method]),
                gradient,
                **CLOSE,
                msg=lambda text, m=method: f"{m}: {text}",
            )


# ---------------------------------------------------------------- where training lands

BANDIT = [0, 0.25, 0.5, 0.75, 1]
FRONTIER = {
    0.05: (0.9983, 1.5688),
    0.1: (0.9776, 1.3003),
    0.25: (0.8630, 0.6095),
    0.5: (0.7264, 0.2152),
    1: (0.6217, 0.0601),
    5: (0.5250, 0.0025),
}
CALM = {
    "noise": 0,
    "deterministic": False,
    "lengthBias": 0,
    "never": [],
    "seed": 1,
    "comparisons": 0,
}


def arms(rewards):
    return [
        {"text": "", "ref": 1, "reward": reward, "tokens": 1, "features": [0, 0]}
        for reward in rewards
    ]


def problem(node, rewards, **change):
    """The bandit as the page trains on it; its rewards are the reward model's, fitted to exact
    comparisons.
    """
    count = len(rewards)
    identity = torch.eye(count).tolist()
    (rows,) = node(("comparisons", arms(rewards), CALM | change))
    (fitted,) = node(("fit", identity, rows))
    return {
        "logRef": [-math.log(count)] * count,
        "phi": identity,
        "counts": [1] * count,
        "rows": rows,
        "rewards": fitted,
    }


@pytest.mark.parametrize("beta", FRONTIER)
def test_dpo_and_rlhf_land_on_the_optimum(node, beta):
    """Exact policy gradient and PPO on the fitted reward model, DPO on the comparisons: all at ref
    · exp(r/β).

    PPO by small plain steps: its four updates on one set of rollouts go round the optimum under
    Adam, as PPO's do.
    """
    world = problem(node, BANDIT)
    settings = {"beta": beta, "steps": 2000, "rate": 0.05, "optimizer": "adam", "rl": "exact"}
    small = settings | {"steps": 20000, "rate": min(1, 1 / beta), "optimizer": "gd", "rl": "ppo"}
    for logp in node(
        ("train", "dpo", world, settings),
        ("train", "rlhf", world, settings),
        ("train", "rlhf", world, small),
    ):
        policy = numbers(logp).exp()
        reward, kl = (
            (policy * numbers(BANDIT)).sum().item(),
            (policy * (policy * 5).log()).sum().item(),
        )
        assert (reward, kl) == pytest.approx(FRONTIER[beta], abs=2e-3)


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (0.1, (0.9644, 0.0344, 0.0012)),
        (0.5, (0.5627, 0.2889, 0.1483)),
        (1.0, (0.4484, 0.3213, 0.2302)),
    ],
)
def test_ipo_rests_where_its_paper_says_and_dpo_does_not(node, tau, expected):
    world = problem(node, [3, 2, 1], deterministic=True)
    settings = {
        "beta": tau,
        "normalize": "sequence_sum",
        "steps": 3000,
        "rate": 0.01,
        "optimizer": "adam",
    }
    rested, ran = node(("train", "ipo", world, settings), ("train", "dpo", world, settings))
    assert [math.exp(v) for v in rested] == pytest.approx(expected, abs=6e-5)
    assert math.exp(ran[0]) > 0.99


def test_the_frontiers_slope_is_beta(node):
    (points,) = node(("frontier", [-math.log(5)] * 5, BANDIT))
    inner = [p for p in points[1:] if 0.05 < p["beta"] < 5]
    for a, b in itertools.pairwise(inner):
        slope = (b["reward"] - a["reward"]) / (b["kl"] - a["kl"])
        assert b["beta"] < slope < a["beta"]


def test_the_reward_model_finds_the_truth_in_exact_comparisons(node):
    assert problem(node, [2, 1.2, 0.6, 0.3, -0.5])["rewards"] == pytest.approx(
        [1.28, 0.48, -0.12, -0.42, -1.22], abs=1e-3
    )


# ---------------------------------------------------------------- comparisons


def test_comparisons_are_drawn_from_bradley_terry(node):
    """Counts and shares add up; a seed is a data set; frequencies are those of σ(Δr), flips and
    love of length included.
    """
    world = arms([1, 0, -1])
    world[0]["tokens"] = 3
    many = CALM | {"comparisons": 20000, "noise": 0.2, "lengthBias": 0.5}
    first, again, other, exact = node(
        *(
            ("comparisons", world, many | change)
            for change in ({}, {}, {"seed": 2}, {"comparisons": 0})
        )
    )
    assert first == again != other
    assert sum(row["count"] for row in first) == 20000 and sum(
        row["share"] for row in first
    ) == pytest.approx(1)
    wins = {(row["w"], row["l"]): row["share"] * 3 for row in exact}
    clean = 1 / (1 + math.exp(-(1 + 0.5 * math.log(3))))
    assert wins[0, 1] == pytest.approx(0.8 * clean + 0.2 * (1 - clean))
    for row in first:
        assert row["share"] * 3 == pytest.approx(wins[row["w"], row["l"]], abs=0.02)


def test_deterministic_comparisons_and_pairs_left_out(node):
    sure, left = node(
        ("comparisons", arms([1, 0, -1]), CALM | {"deterministic": True}),
        ("comparisons", arms([1, 0, 0]), CALM | {"deterministic": True, "never": [[0, 2]]}),
    )
    assert {(row["w"], row["l"]) for row in sure} == {(0, 1), (0, 2), (1, 2)}
    # a tie is a coin
    assert {(row["w"], row["l"]): row["share"] for row in left} == {
        (0, 1): 0.5,
        (1, 2): 0.25,
        (2, 1): 0.25,
    }
