"""The losses of other tools: what each is here, with the convention that the tool really uses."""

import pytest
import yaml

from accord.config.schema import make_config
from accord.errors import UsageError
from accord.objectives import resolve


@pytest.mark.parametrize(
    "text, objective",
    [
        ("rl: dpo\nbase_model: m", {"name": "dpo", "beta": 0.1}),
        ("rl: ipo\nbase_model: m\ntrl: {beta: 0.3}\nrl_beta: 0.2", {"name": "ipo", "beta": 0.3}),
        ("rl: orpo\nbase_model: m\norpo_alpha: 0.2", {"name": "orpo", "weight": 0.2}),
        (
            "rl: simpo\nbase_model: m\nrl_beta: 2\nsimpo_gamma: 1.0",
            {"name": "simpo", "beta": 2.0, "gamma": 1.0},
        ),
        ("loss_type: [sigmoid]\nbeta: 0.2", {"name": "dpo", "beta": 0.2}),
        (
            "loss_type: robust\nlabel_smoothing: 0.2",
            {"name": "robust", "beta": 0.1, "label_smoothing": 0.2},
        ),
        ("loss_type: hinge\nbeta: 0.5", {"name": "hinge", "beta": 0.5}),
        ("loss_type: nca_pair\nbeta: 0.5", {"name": "nca", "beta": 0.5}),
        ("loss_type: [sppo_hard]\nbeta: 0.5", {"name": "sppo_hard", "beta": 0.5}),
        ("loss_type: apo_zero\nbeta: 0.5", {"name": "apo_zero", "beta": 0.5}),
        ("loss_type: apo_down\nbeta: 0.5", {"name": "apo_down", "beta": 0.5}),
        ("loss_type: sigmoid_norm\nbeta: 5", {"name": "dpo_norm", "beta": 5.0}),
        ("loss_type: exo_pair\nbeta: 0.1", {"name": "exo", "beta": 0.1}),
        (
            "loss_type: exo_pair\nlabel_smoothing: 0.01",
            {"name": "exo", "beta": 0.1, "label_smoothing": 0.01},
        ),
        ("loss_type: [sigmoid, sft]\nbeta: 0.1", {"name": "dpo+sft", "dpo": {"beta": 0.1}}),
        (
            "loss_type: [sft, sigmoid]\nloss_weights: [0.25, 1]",
            {"name": "0.25*sft+dpo", "dpo": {"beta": 0.1}},
        ),
        (
            "loss_type: [sigmoid, robust, sft]\nloss_weights: [0.8, 0.2, 1]\nlabel_smoothing: 0.1",
            {
                "name": "0.8*dpo+0.2*robust+sft",
                "dpo": {"beta": 0.1},
                "robust": {"beta": 0.1, "label_smoothing": 0.1},
            },
        ),
        ("loss_type: sigmoid\nrpo_alpha: 0.5", {"name": "rpo", "beta": 0.1, "alpha": 0.5}),
        ("loss_type: sigmoid\nld_alpha: 0.6", {"name": "ld_dpo", "beta": 0.1, "alpha": 0.6}),
        ("loss_type: sigmoid\nuse_weighting: true", {"name": "wpo", "beta": 0.1}),
        ("loss_type: ipo\nuse_weighting: true", {"name": "wpo*ipo", "beta": 0.1}),
        (
            "loss_type: [sigmoid, hinge]\nloss_weights: [0.5, 1]\nuse_weighting: true",
            {"name": "0.5*wpo*dpo+wpo*hinge", "dpo": {"beta": 0.1}, "hinge": {"beta": 0.1}},
        ),
        (
            "loss_type: sigmoid\nld_alpha: 0\nuse_weighting: true",
            {"name": "wpo*ld_dpo", "beta": 0.1, "alpha": 0.0},
        ),
        (
            "loss_type: sigmoid\nf_divergence_type: forward_kl\nuse_weighting: true",
            {"name": "wpo*f_dpo", "beta": 0.1, "divergence": "forward_kl"},
        ),
        ("rl: dpo\nbase_model: m\ndpo_use_weighting: true", {"name": "wpo", "beta": 0.1}),
        ("rl: ipo\nbase_model: m\ndpo_use_weighting: true", {"name": "wpo*ipo", "beta": 0.1}),
        ("rl: dpo\nbase_model: m\ndpo_use_weighting: 'no'", {"name": "dpo", "beta": 0.1}),
        ("loss_type: sigmoid\nuse_weighting: 'no'", {"name": "dpo", "beta": 0.1}),
        (
            "loss_type: [sigmoid, ipo]\nloss_weights: [0.5, 1.0e+10]\nuse_weighting: true",
            {"name": "0.5*wpo*dpo+1e+10*wpo*ipo", "dpo": {"beta": 0.1}, "ipo": {"beta": 0.1}},
        ),
        (
            "loss_type: sigmoid\nf_divergence_type: forward_kl",
            {"name": "f_dpo", "beta": 0.1, "divergence": "forward_kl"},
        ),
        (
            "loss_type: sigmoid\nf_divergence_type: js_divergence\nf_alpha_divergence_coef: 0.5",
            {"name": "f_dpo", "beta": 0.1, "divergence": "js"},
        ),
        (  # TRL's u^(α-1) is the paper's u^-α of 1 - α
            "loss_type: sigmoid\nf_divergence_type: alpha_divergence\n"
            "f_alpha_divergence_coef: 0.75",
            {"name": "f_dpo", "beta": 0.1, "divergence": "alpha", "alpha": 0.25},
        ),
        (
            "loss_type: sigmoid\nf_divergence_type: alpha_divergence\nf_alpha_divergence_coef: 1",
            {"name": "dpo", "beta": 0.1},
        ),
        (
            "trainer: cpo\nloss_type: simpo\nalpha: 0.25\nbeta: 2.5\nsimpo_gamma: 0.25",
            {"name": "alphapo", "beta": 2.5, "gamma": 0.25, "alpha": 0.25},
        ),
        (
            "rl: dpo\nbase_model: m\ndpo_loss_type: [sigmoid, sft]\ndpo_loss_weights: [1, 0.1]",
            {"name": "dpo+0.1*sft", "dpo": {"beta": 0.1}},
        ),
        (
            "rl: dpo\nbase_model: m\ndpo_loss_type: [robust]\ndpo_label_smoothing: 0.2",
            {"name": "robust", "beta": 0.1, "label_smoothing": 0.2},
        ),
        ("stage: dpo\npref_beta: 0.2\npref_ftx: 0.5", {"name": "rpo", "beta": 0.2, "alpha": 0.5}),
        ("trainer: orpo\nbeta: 0.25", {"name": "orpo", "weight": 0.25}),
        ("trainer: cpo\ncpo_alpha: 0.5", {"name": "cpo", "beta": 0.1, "alpha": 0.5}),
        (
            "use_peft: false\nundesirable_weight: 1.3",
            {"name": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.3},
        ),
        (
            "stage: kto\nkto_chosen_weight: 2",
            {"name": "kto", "beta": 0.1, "desirable_weight": 2.0, "undesirable_weight": 1.0},
        ),
        ("trainer: bco\nbeta: 0.2", {"name": "bco", "beta": 0.2}),
        ("loss_type: bco\ndesirable_weight: 1.3", {"name": "bco", "beta": 0.1}),
        ("trainer: kto\nloss_type: bco", {"name": "bco", "beta": 0.1}),
        ("use_peft: false\nmin_density_ratio: 0.2", {"name": "bco", "beta": 0.1}),
        ("stage: dpo\npref_loss: orpo", {"name": "orpo", "weight": 0.1}),
        (
            "stage: dpo\ndpo_label_smoothing: 0.1",
            {"name": "cdpo", "beta": 0.1, "label_smoothing": 0.1},
        ),
    ],
)
def test_each_loss_and_its_options(read, text, objective):
    found = read(text)
    assert found.recipe["objective"] == objective
    resolve(objective["name"], {key: value for key, value in objective.items() if key != "name"})
    assert make_config(yaml.safe_load(found.yaml()) | {"data": {"train": "x"}})


@pytest.mark.parametrize(
    "text, named",
    [
        ("rl: grpo\nbase_model: m", "grpo"),
        ("loss_type: bco_pair\nbeta: 0.1", "without BCO's shift"),
        ("rl: dpo\nbase_model: m\ndpo_loss_type: [bco_pair]", "without BCO's shift"),
        ("loss_type: [sigmoid, bco_pair, sft]\nbeta: 0.1", "bco_pair"),
        ("loss_type: [sigmoid, sft]\nloss_weights: [1, 0]", "1, 0"),
        ("loss_type: [sigmoid]\nloss_weights: [0.5]", "0.5"),
        ("loss_type: [sigmoid, sigmoid]\nbeta: 0.1", "sigmoid, sigmoid"),
        ("loss_type: [sft]\nbeta: 0.1", "sft, which its own trainer has"),
        ("loss_type: [sigmoid, sft]\nrpo_alpha: 0.5", "with an NLL term"),
        ("loss_type: [sigmoid, sft]\nf_divergence_type: forward_kl", "with f_divergence_type"),
        ("loss_type: hinge\nrpo_alpha: 0.5", "hinge with an NLL term"),
        ("loss_type: hinge\nld_alpha: 0.5", "hinge with ld_alpha 0.5"),
        ("loss_type: sigmoid\nld_alpha: 2", "dpo with ld_alpha 2"),
        ("loss_type: sigmoid\nrpo_alpha: 1\nld_alpha: 0.5", "rpo with ld_alpha 0.5"),
        ("loss_type: [sigmoid, sft]\nuse_weighting: true", "dpo+sft with WPO's weights"),
        ("loss_type: sigmoid\nrpo_alpha: 1\nuse_weighting: true", "rpo with WPO's weights"),
        ("loss_type: ipo\nf_divergence_type: forward_kl", "ipo with f_divergence_type"),
        ("rpo_alpha: 1\nbeta: 0.1\nf_divergence_type: forward_kl", "an NLL term with"),
        (
            "beta: 0.1\nf_divergence_type: alpha_divergence\nf_alpha_divergence_coef: 2",
            "f_alpha_divergence_coef 2",
        ),
        ("trainer: cpo\nloss_type: sigmoid\nalpha: 0.2", "with alpha 0.2"),
        ("stage: dpo\ndpo_label_smoothing: 0.1\npref_loss: hinge", "dpo_label_smoothing"),
        ("stage: ppo\npref_beta: 0.1", "ppo"),
        ("stage: dpo\npref_loss: kto_pair", "kto_pair"),
        ("stage: dpo\npref_loss: bco_pair", "without BCO's shift"),
        ("trainer: cpo\nlabel_smoothing: 0.1", "label_smoothing"),
        ("trainer: cpo\nloss_type: simpo\nlabel_smoothing: 0.1", "label_smoothing"),
        ("rl: ipo\nbase_model: m\ndpo_label_smoothing: 0.1", "dpo_label_smoothing"),
        ("base_model: m\nsequence_len: 512", "None"),
        ("stage: dpo\nfinetuning_type: freeze", "freeze"),
    ],
)
def test_a_loss_that_we_lack_is_refused(read, text, named):
    with pytest.raises(UsageError, match="no equivalent") as caught:
        read(text)
    assert named in str(caught.value)
