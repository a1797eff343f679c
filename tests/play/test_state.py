"""The page's state, presets, command and run files, in node: what a preset claims, what a
stranger's link or file can do.
"""

import json

import pytest

from accord.config.build import build
from accord.objectives import resolve
from accord.play.build import PAGE


def preset(node, name, **change):
    (found,) = node(("preset", name, change))
    return found


# ---------------------------------------------------------------- every preset's claim


def test_one_destination(node):
    """DPO and RLHF end at π*, with endless comparisons; IPO, KTO, SimPO and ORPO do not."""
    found = preset(node, "optimum")
    for method, way in found["ways"].items():
        gap = max(abs(a - b) for a, b in zip(way[-1]["p"], found["star"], strict=True))
        assert (gap < 0.003) == (method in ("dpo", "rlhf")), method


def test_reward_hacking(node):
    """What the reward model sees rises all the way; the true reward rises, then falls below where
    it began.
    """
    way = preset(node, "hacking")["ways"]["rlhf"]
    best = max(step["reward"] for step in way)
    assert (
        way[-1]["seen"] > way[0]["seen"] + 1
        and way[-1]["seen"] > max(step["seen"] for step in way) - 0.01
    )
    assert best > way[0]["reward"] + 0.15 and way[-1]["reward"] < way[0]["reward"] - 0.2
    wrong = preset(node, "hacking", noise=0)
    assert wrong["ways"]["rlhf"][-1]["reward"] > way[-1]["reward"]  # it was the flips


@pytest.mark.parametrize("beta", [0.1, 0.25, 1])
def test_dpo_runs_and_ipo_stops(node, beta):
    ways = preset(node, "runaway", beta=beta, steps=1500)["ways"]
    target = 1 / (2 * beta)
    assert (
        ways["ipo"][-1]["margin"]
        == pytest.approx(target, rel=2e-3)
        == pytest.approx(ways["ipo"][-400]["margin"], rel=5e-3)
    )
    margins = [ways["dpo"][k]["margin"] for k in (300, 700, 1100, 1500)]
    assert (
        margins == sorted(margins) and margins[-1] > margins[0] + 0.5 and margins[-1] > 2 * target
    )


def test_displacement(node):
    """The numbers of a log-linear policy worked out elsewhere: margin 0 → .49 → 3.02, p(chosen) .35
    → .22 → 0, a third takes all.
    """
    way = preset(node, "displacement")["ways"]["dpo"]
    seen = [(0.5 * way[t]["margin"], way[t]["p"][0], way[t]["p"][2]) for t in (0, 100, 2000)]
    for found, expected in zip(
        seen, [(0, 0.35, 0.1), (0.49, 0.22, 0.61), (3.02, 0, 1)], strict=True
    ):
        assert found == pytest.approx(expected, abs=5e-3)
    assert way[0]["accuracy"] == 0.5 and all(step["accuracy"] == 1 for step in way[1:])


def test_dpop_keeps_what_dpo_loses(node):
    """The chosen answer stays at its start, while the margin grows; the third one takes what the
    rejected loses, no more.
    """
    way = preset(node, "displacement")["ways"]["dpop"]
    assert min(step["p"][0] for step in way) > 0.34 and way[-1]["p"][1] < 0.01
    assert way[-1]["margin"] > way[1000]["margin"] > way[100]["margin"] > 0.5


def test_losses_loom_larger(node):
    """KTO flips at p = λ_U/(λ_D + λ_U): at 60 % good, A rises with λ_U = 1 and falls with 2, as B
    does.
    """
    start, end = (preset(node, "loud")["ways"]["kto"][k]["p"] for k in (0, -1))
    assert end[0] < 0.05 < start[0] and end[1] < 0.05 < start[1] and end[2] > 0.9
    assert preset(node, "loud", lambdaU=1)["ways"]["kto"][-1]["p"][0] > 0.9
    assert preset(node, "loud")["ways"]["dpo"][-1]["p"][0] > start[0]


def test_length(node):
    """Labels that say nothing: DPO and RLHF keep the length, SimPO and ORPO shorten. Length-lovers
    move DPO too.
    """
    ways = preset(node, "length")["ways"]
    tokens = {method: way[-1]["tokens"] for method, way in ways.items()}
    start = ways["dpo"][0]["tokens"]
    assert tokens["dpo"] == pytest.approx(start, abs=0.01) and tokens["rlhf"] == pytest.approx(
        start, abs=0.01
    )
    assert tokens["dpo_norm"] == pytest.approx(start, abs=0.01)
    assert tokens["simpo"] < 0.7 * start and tokens["orpo"] < 0.8 * start
    assert preset(node, "length", lengthBias=1)["ways"]["dpo"][-1]["tokens"] > 1.5 * start


CHANGES = [
    {"beta": 0.2},
    {"rl": "ppo"},
    {"normalize": "token_mean"},
    {"lambdaU": 2},
    {"lambdaD": 2},
    {"z0": 1},
    {"simpoBeta": 5},
    {"gammaRatio": 0.1},
    {"orpoWeight": 1},
    {"methods": ["dpop", "dpo_norm"], "dpopPenalty": 20},
    {"methods": ["dpop", "dpo_norm"], "normBeta": 1},
    {"rate": 0.1},
    {"optimizer": "gd"},
    {"steps": 50},
    {"noise": 0.2},
    {"shares": "features"},
    {"lengthBias": 1},
    {"deterministic": True},
    {"never": [[0, 1]]},
]


def test_what_is_kept_between_changes_is_what_training_anew_gives(node):
    """A method is trained again only if something of its own has moved: all of them in one page,
    each in a page of its own.
    """
    together = node(
        *(("preset", "optimum", change | {"steps": change.get("steps", 40)}) for change in CHANGES)
    )
    for change, found in zip(CHANGES, together, strict=True):
        alone = preset(node, "optimum", **(change | {"steps": change.get("steps", 40)}))
        assert found == alone, change


# ---------------------------------------------------------------- the state


HOSTILE = [
    None,
    7,
    "x",
    [],
    {"beta": "0.1"},
    {"beta": None},
    {"beta": -1e9, "steps": 1e12, "rate": 0},
    {"answers": []},
    {"answers": [1, None, {}, {"ref": -1, "tokens": 0}]},
    {"answers": [{"text": 1, "features": "no", "reward": 1e300}] * 50},
    {"never": [[0, 1], [1, 0], [0, 99], "x"], "pair": [3, 3]},
    {"methods": ["x", "dpo", "dpo"]},
    {"never": [[i, j] for i in range(5) for j in range(i + 1, 5)]},
    {"__proto__": {"beta": 9}, "constructor": 1, "focus": "__proto__"},
    {"pair": [0, "1"]},
]


def test_any_object_becomes_a_sound_state(node):
    """And a sound state stays as it is."""
    found = node(*(("sound", candidate) for candidate in HOSTILE))
    for state in found:
        assert (
            3 <= len(state["answers"]) <= 8
            and 0.02 <= state["beta"] <= 5
            and 10 <= state["steps"] <= 3000
            and state["rate"] >= 0.001
        )
        assert all(
            isinstance(a["text"], str)
            and a["ref"] > 0
            and a["tokens"] >= 1
            and len(a["features"]) == 2
            and abs(a["reward"]) <= 4
            for a in state["answers"]
        )
        assert (
            set(state["methods"])
            <= {"rlhf", "dpo", "ipo", "kto", "simpo", "orpo", "dpop", "dpo_norm"}
            and state["pair"][0] != state["pair"][1]
        )
        # something is compared
        assert len(state["never"]) < len(state["answers"]) * (len(state["answers"]) - 1) / 2
    assert found == node(*(("sound", state) for state in found))
    assert (
        found[6]["beta"] == 0.02
        and found[6]["steps"] == 3000
        and found[11]["methods"] == ["dpo"]
        and found[9]["answers"][0]["reward"] == 4
    )


def test_a_link_brings_the_state_back(node):
    change = {
        "beta": 0.123,
        "prompt": "¿Qué? 雪 🧊",
        "answers": [
            {"text": f"é{i}", "ref": 0.2, "reward": i, "tokens": 5, "features": [0, 1]}
            for i in range(4)
        ],
        "z0": 1.5,
        "pair": [3, 1],
    }
    (state,), (sent,) = node(("sound", change)), node(("roundTrip", change))
    assert sent == state and sent["prompt"] == change["prompt"] and sent["z0"] == 1.5


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", "bnVsbA", "e30", "W10"])
def test_a_broken_link_is_the_default(node, text):
    (found,), (default,) = node(("decode", text)), node(("sound", {}))
    assert found == default


def test_undo_takes_back_a_whole_drag(node):
    """Three positions of one drag are one step; a click is one step."""
    drag = [[{"beta": 0.1}, False], [{"beta": 0.2}, False], [{"beta": 0.3}, False], [None, True]]
    assert node(("undo", [*drag, [{"beta": 1}, True]])) == [[1, 0.3, 0.5]]


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto", "simpo", "orpo", "dpop", "dpo_norm"])
def test_the_command_is_one_that_accord_takes(node, method):
    (found,) = node(
        (
            "command",
            {
                "methods": [method],
                "focus": method,
                "beta": 0.2,
                "lambdaU": 2,
                "gammaRatio": 0.3,
                "orpoWeight": 0.15,
                "dpopPenalty": 8,
                "normBeta": 3,
            },
        )
    )
    words = found["command"].replace("\\\n", " ").split()
    assert words[:2] == ["accord", "train"] and words[words.index("--method") + 1] == method
    sets = [words[k + 1] for k, word in enumerate(words) if word == "--set"]
    config = build(
        None,
        assignments=sets,
        allow=(),
        model="smollm2",
        data="pairs.jsonl",
        method=method,
        output="runs/x",
    )
    bound = resolve(method, found["options"])
    given = dict(config.objective)
    assert resolve(given.pop("name"), given).options == bound.options
    if method != "simpo":
        assert {
            "dpo": ("beta", 0.2),
            "ipo": ("normalize", "sequence_sum"),
            "kto": ("undesirable_weight", 2),
            "orpo": ("weight", 0.15),
            "dpop": ("penalty", 8),
            "dpo_norm": ("beta", 3),
        }[method] in bound.options.items()


def test_rlhf_is_a_reward_model_and_ppo(node):
    """The page said that accord had no command for it."""
    (found,) = node(("command", {"focus": "rlhf", "beta": 0.2}))
    first, second = (words.split() for words in found["command"].replace("\\\n", " ").split("\n"))
    assert first[first.index("--method") + 1] == "bradley_terry"
    sets = [second[k + 1].strip("'") for k, word in enumerate(second) if word == "--set"]
    assert "model.lora=null" in first  # a reward is a whole model: RUN/final
    saved = first[first.index("--output") + 1] + "/final"
    assert f"rollouts.rewards=[{saved}]" in sets
    method = second[second.index("--method") + 1]
    config = build(None, assignments=sets, model="smollm2", data="prompts.jsonl", method=method)
    given = dict(config.objective)
    assert method == "ppo" and resolve(given.pop("name"), given).options["beta"] == 0.2


def test_the_page_offers_no_file_that_the_audit_calls_unfit():
    """A thousand rows of one prompt and its few answers were offered as pairs.jsonl to train on."""
    page = "".join(file.read_text(encoding="utf-8") for file in sorted(PAGE.rglob("*.js")))
    assert "download('pairs" not in page and "pairsFile" not in page
    assert "accord audit would call a file of them unfit" in page


# ---------------------------------------------------------------- a run's files

METRICS = [
    {
        "step": 0,
        "eval_logps/chosen": -30,
        "eval_logps/rejected": -28,
        "eval_rewards/accuracies": 0.5,
        "eval_rewards/margins": 0.0,
        "diag/eval_log_ratio/chosen": 0.0,
        "diag/eval_log_ratio/rejected": 0.0,
        "diag/eval_log_ratio_token/chosen": 0.0,
        "diag/eval_log_ratio_token/rejected": 0.0,
    },
    {"step": 0, "diag/samples_kl": 0.0},
    {"step": 1, "loss": 0.69, "rewards/margins": 0.0},
    {
        "step": 10,
        "loss": 0.5,
        "rewards/margins": 1.0,
        "eval_logps/chosen": -33,
        "eval_logps/rejected": -40,
        "eval_rewards/accuracies": 0.8,
        "eval_rewards/margins": 0.9,
        "diag/eval_log_ratio/chosen": -1.13,
        "diag/eval_log_ratio/rejected": -10.13,
        "diag/eval_log_ratio_token/chosen": -0.04,
        "diag/eval_log_ratio_token/rejected": -0.4,
    },
    {"step": 10, "diag/samples_kl": 2.5},
]


def lines(rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


def test_metrics(node):
    """Held-out figures where there are some, steps as shares of the run; accuracy beside the KL of
    the samples.
    """
    (run,) = node(("run", "metrics.jsonl", lines(METRICS)))
    assert (
        run["kind"] == "metrics"
        and run["last"] == 10
        and run["curves"]["loss"] == [[1, 0.69], [10, 0.5]]
    )
    # the axis is h in nats: the reward margin is β·h, here a tenth of it
    assert run["margins"] == [[0, 0.0], [1, 9.0]] and run["plane"] == [[0, 0.5], [2.5, 0.8]]
    # a fall of 1.13 nats an answer is one of .04 a token: 4 %, no collapse
    assert run["perToken"] == {"chosen": [[0, 0], [1, -0.04]], "rejected": [[0, 0], [1, -0.4]]}


def test_a_run_without_log_ratios_has_no_h_to_draw(node):
    """An old run, or one of rewards alone: β is not in its figures, so h is unknown."""
    kept = [{k: v for k, v in row.items() if "log_ratio" not in k} for row in METRICS]
    (run,) = node(("run", "metrics.jsonl", lines(kept)))
    assert run["margins"] == [] and run["perToken"] is None


def test_python_s_nan_is_a_gap_and_no_broken_file(node):
    rows = [*METRICS, {"step": 11, "loss": float("nan"), "grad_norm": float("-inf")}]
    (run,) = node(("run", "metrics.jsonl", lines([*rows, {"step": 12, "loss": 0.4}])))
    assert run["curves"]["loss"] == [[1, 0.69], [10, 0.5], [12, 0.4]]


def test_a_line_half_written_is_the_end(node):
    """Of a run that is going on; anywhere else it is named."""
    whole, broken = node(
        ("run", "metrics.jsonl", lines(METRICS) + '{"step": 11, "lo'),
        ("run", "metrics.jsonl", '{"st\n' + lines(METRICS)),
    )
    assert whole["last"] == 10 and "line 1" in broken["refused"]


def test_samples_and_pairs(node):
    samples = [
        {"step": step, "prompt": 0, "asked": "user: hi", "text": f"answer {step}", "tokens": 3}
        for step in (0, 5)
    ]
    token = {"text": "Yes", "logp": -1.0, "change": 0.7}
    pair = {
        "at": "f:1",
        "gain": 0.5,
        "prompt": [{"role": "user", "content": "hi"}],
        "chosen": [token, {"text": "!", "logp": -1}],
        "rejected": [],
    }
    said, heat = node(
        ("run", "samples.jsonl", lines(samples)),
        ("run", "pairs.json", json.dumps({"step": 5, "improved": [pair], "harmed": []}, indent=1)),
    )
    assert said["prompts"][0]["asked"] == "user: hi" and [
        a["text"] for a in said["prompts"][0]["answers"]
    ] == ["answer 0", "answer 5"]
    assert (
        heat["pairs"][0]["chosen"]
        == [{"text": "Yes", "change": 0.7}, {"text": "!", "change": None}]
        and heat["pairs"][0]["asked"] == "hi"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json\nat all\n",
        "[1, 2]",
        '{"a": 1}\n',
        '{"improved": 3}',
        "null",
        '{"step": "x", "loss": "y"}',
    ],
)
def test_other_files_are_refused_in_words(node, text):
    (answer,) = node(("run", "file.jsonl", text))
    assert "file.jsonl" in answer["refused"]


def test_odd_values_in_a_runs_files_do_no_harm(node):
    odd = [
        {"step": "1", "loss": 0.5},
        {"step": 1, "loss": None},
        {"step": 2, "loss": 0.4, "rewards/margins": [1]},
    ]
    pairs = {
        "improved": [
            None,
            3,
            {"chosen": "text", "prompt": 7},
            {"chosen": [None, {"text": 5, "change": "x"}]},
        ]
    }
    metrics, heat = node(("run", "m.jsonl", lines(odd)), ("run", "pairs.json", json.dumps(pairs)))
    assert metrics["curves"]["loss"] == [[2, 0.4]] and len(heat["pairs"]) == 4
    assert heat["pairs"][3]["chosen"] == [
        {"text": "", "change": None},
        {"text": "5", "change": None},
    ]
