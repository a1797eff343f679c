"""Settings that are far from the usual are said with what they change; those that leave nothing to
learn are refused.
"""

from dataclasses import replace

import pytest
from training.helpers import ready_for

from accord.config.build import build
from accord.objectives.configured import resolve_objective
from accord.types import Refused
from accord.verify.settings import Planned, setting_findings

RUN = Planned(rows=1000, steps=60, peak=2e-4, suggested=2e-4, trained=500_000, width=576)


def found(assignments=(), method="dpo", allow=(), **planned):
    config = build(data="x", method=method, assignments=assignments, allow=allow)
    return setting_findings(config, resolve_objective(config), replace(RUN, **planned))


ODD = {
    "beta 10": (["objective.beta=10.0"], {}, "warning", "beta = 10 is 100 times dpo's own 0.1"),
    "beta 100": (["objective.beta=100.0"], {}, "warning", "beyond about 0.01 nats no longer"),
    "beta 1e6": (["objective.beta=1.0e+6"], {}, "refused", "hardly leaves the reference"),
    "clip 1e-9": (["train.max_grad_norm=1.0e-9"], {}, "refused", "AdamW's epsilon"),
    "clip 1e-3": (["train.max_grad_norm=0.001"], {}, "warning", "only its direction"),
    "alpha small": (["model.lora.alpha=1.0e-4"], {}, "refused", "hardly reaches the output"),
    "alpha large": (["model.lora.alpha=32000.0"], {}, "warning", "32000 / 16 = 2e+03"),
    "rank": (["model.lora.rank=4096", "model.lora.alpha=4096.0"], {}, "warning", "width of 576"),
    "decay": (["train.weight_decay=50.0"], {}, "warning", "weight_decay = 50"),
    "decay eats": (["train.weight_decay=5000.0"], {}, "refused", "no weight survives"),
    "warm-up": (["train.warmup=60.0"], {}, "warning", "warmup = 60 steps, and the run has 60"),
    "batch": (
        ["train.batch_size=64"],
        {"rows": 10},
        "warning",
        "batch_size = 64, and there are 10",
    ),
    "rate high": ([], {"peak": 0.1}, "warning", "500 times the 0.0002"),
    "rate low": ([], {"peak": 1e-7}, "warning", "2,000 times smaller"),
    "rate nothing": ([], {"peak": 1e-12}, "refused", "nothing is learned"),
    "evaluations": (["evaluate.every=500"], {}, "note", "evaluate.every = 500, and the run has 60"),
    "checkpoints": (["checkpoint.every=61"], {}, "note", "a kill loses the run"),
}


@pytest.mark.parametrize(("assignments", "planned", "verdict", "says"), ODD.values(), ids=ODD)
def test_odd(assignments, planned, verdict, says):
    (only,) = found(assignments, **planned)
    assert (only.verdict, says in only.says) == (verdict, True), only.says
    assert only.remedy.startswith("--")
    if verdict == "refused":
        assert "--allow unusual_settings" in only.remedy
        (permitted,) = found(assignments, allow=["unusual_settings"], **planned)
        assert permitted.verdict == "warning" and "permitted" in permitted.says


@pytest.mark.parametrize(
    "method", ["dpo", "cdpo", "robust", "ipo", "hinge", "simpo", "orpo", "cpo", "kto", "sft"]
)
def test_no_alarm_at_the_defaults_and_near_them(method):
    rate = {"peak": 4e-4, "suggested": 4e-4}
    options = ["objective.label_smoothing=0.1"] if method in ("cdpo", "robust") else []
    assert [f.verdict for f in found(options, method, **rate)] == ["ok"]
    near = [
        *options,
        "train.max_grad_norm=0.1",
        "train.weight_decay=0.1",
        "train.warmup=20.0",
        "model.lora.rank=64",
        "model.lora.alpha=16.0",
        "train.batch_size=128",
    ]
    assert [f.verdict for f in found(near, method, peak=1e-5)] == ["ok"]


@pytest.mark.parametrize("beta", [0.01, 0.05, 0.3, 0.5, 1.0])
def test_no_alarm_at_betas_of_papers(beta):
    assert [f.verdict for f in found([f"objective.beta={beta}"])] == ["ok"]


def test_bounds_of_adamw_are_not_those_of_others():
    """SGD's updates are as large as its gradients; Adafactor's are as large as the rate."""
    extreme = ["train.max_grad_norm=1.0e-9"]
    sgd = ["train.optimizer=sgd", "train.learning_rate=0.5"]
    for each, peak in (([], 0.5), ([], 1e-12), (sgd, 0.5), (sgd, 1e-12)):
        checks = [f.check for f in found(each, peak=peak)]
        assert ("settings.learning_rate" in checks) == (not each)
    verdicts = {
        name: {f.verdict for f in found([*options, *extreme]) if "max_grad_norm" in f.check}
        for name, options in {"adamw": [], "sgd": sgd, "af": ["train.optimizer=adafactor"]}.items()
    }
    assert verdicts == {"adamw": {"refused"}, "sgd": {"warning"}, "af": {"warning"}}
    (said,) = [f.says for f in found(["train.optimizer=adafactor"], peak=1e-12) if f.refused]
    assert "Adafactor moves no weight" in said


def test_rollouts():
    drawn = ["rollouts.rewards=[length]"]
    assert [f.verdict for f in found(drawn, "grpo")] == ["ok"]
    odd = [*drawn, "rollouts.max_new_tokens=2", "rollouts.num_iterations=100"]
    said = " ".join(f.says for f in found([*odd, "objective.beta=20.0"], "grpo", rows=4))
    assert "cut before they say" in said and "long gone" in said and "4 prompts" in said
    assert "outweighs the rewards" in said


def test_a_run_is_refused_before_its_proofs(tiny_folder, pairs_file):
    with pytest.raises(Refused, match=r"settings\.max_grad_norm: .*\n  what to do: --set train\."):
        ready_for(tiny_folder, pairs_file, assignments=["train.max_grad_norm=1.0e-9"])


@pytest.mark.parametrize(
    ("method", "assignment", "says"),
    [
        ("simpo", "objective.gamma=100.0", "gamma / beta = 50 nats a token"),
        ("simpo", "objective.gamma_beta_ratio=20.0", "gamma / beta = 20"),
        ("kto", "objective.desirable_weight=1.0e+4", "10,000 times larger than 1"),
        ("orpo", "objective.weight=1.0e-4", "1,000 times smaller than 0.1"),
        ("bradley_terry", "objective.centering=5.0", "outweighs ranking"),
        ("dpo", "train.betas=[0.999, 0.0]", "second moment remembers next to nothing"),
    ],
)
def test_weights_of_terms_and_memories(method, assignment, says):
    said = [finding.says for finding in found([assignment], method, peak=1e-5)]
    assert any(says in each for each in said), said
