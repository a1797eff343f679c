"""Other tools' settings: every key has a fate, what they leave out is said, and a loss that we lack
is refused.
"""

import random

import pytest
import yaml
from pydantic import BaseModel

from accord.config.schema import Config, make_config
from accord.errors import AccordError, UsageError
from accord.migrate.reading import To
from accord.migrate.run import TOOLS, arguments, import_settings

AXOLOTL = """
base_model: some/model
load_in_4bit: true
rl: kto
rl_beta: 0.5
kto_desirable_weight: 0.2
datasets: [{path: some/labels, type: llama3.ultra, split: train}]
adapter: qlora
lora_model_dir:
sequence_len: 2048
lora_r: 32
lora_alpha: 64
lora_target_linear: true
gradient_accumulation_steps: 3
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_8bit
lr_scheduler: cosine
learning_rate: 2e-4
flash_attention: true
warmup_steps: 20
special_tokens: {pad_token: "<|end_of_text|>"}
"""

LLAMA_FACTORY = """
model_name_or_path: some/model
stage: dpo
finetuning_type: lora
lora_target: q_proj,v_proj
pref_loss: simpo
dataset: pairs_en
template: llama3
max_samples: 1000
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
lr_scheduler_type: cosine
warmup_ratio: 0.1
"""

TRL = """accelerate launch -m trl dpo --model_name_or_path some/model --dataset_name some/pairs \\
  --per_device_train_batch_size 2 --eval_strategy steps --eval_steps 50 --learning_rate=5.0e-6 \\
  --no_remove_unused_columns --use_peft --lora_target_modules q_proj v_proj --loss_type ipo \\
  --beta 0.3
"""


def fates(found, fate):
    return {line.key for line in found.lines if line.fate == fate}


def test_axolotl(read):
    found = read(AXOLOTL)
    assert found.tool == "Axolotl"
    assert found.recipe == {
        "objective": {
            "name": "kto",
            "beta": 0.5,
            "desirable_weight": 0.2,
            "undesirable_weight": 1.0,
        },
        "model": {
            "name": "some/model",
            "quantize": "nf4",
            "lora": {"rank": 32, "alpha": 64.0, "dropout": 0.0, "targets": "all-linear"},
        },
        "data": {"train": "some/labels", "max_tokens": 2048},
        "train": {
            "batch_size": 6,
            "epochs": 1.0,
            "warmup": 20.0,
            "learning_rate": 2e-4,
            "schedule": "cosine",
            "max_grad_norm": 1.0,
            "seed": 42,
            "weight_decay": 0.0,
            "optimizer": "adamw_8bit",
        },
    }
    assert fates(found, "no equivalent") == {"special_tokens"}
    assert fates(found, "to do") == {"model.name", "data.train"}
    assert {"kto_undesirable_weight", "seed", "max_grad_norm"} <= fates(found, "default")
    assert "lora_model_dir" not in {line.key for line in found.lines}  # empty there, nothing here


QUANTISED = {
    "TRL's scales are whole": (
        "trl dpo --use_peft --load_in_4bit",
        {"kind": "nf4", "double": False},
    ),
    "TRL, nested": ("trl dpo --use_peft --load_in_4bit --use_bnb_nested_quant", "nf4"),
    "TRL, 8 bits": ("trl dpo --use_peft --load_in_8bit", "int8"),
    "LLaMA-Factory": (LLAMA_FACTORY + "quantization_bit: 4\n", "nf4"),
    "LLaMA-Factory, 8 bits": (LLAMA_FACTORY + "quantization_bit: 8\n", "int8"),
    "LLaMA-Factory, one scale less": (
        LLAMA_FACTORY + "quantization_bit: 4\ndouble_quantization: false\n",
        {"kind": "nf4", "double": False},
    ),
    "Axolotl, the adapter says it": (AXOLOTL.replace("load_in_4bit: true\n", ""), "nf4"),
    "Axolotl, 8 bits": (
        AXOLOTL.replace("load_in_4bit", "load_in_8bit").replace("qlora", "lora"),
        "int8",
    ),
}


@pytest.mark.parametrize("text, wanted", QUANTISED.values(), ids=QUANTISED)
def test_a_quantised_base_is_mapped(read, text, wanted):
    found = read(text, "run.sh" if text.startswith("trl") else "settings.yaml")
    assert found.recipe["model"]["quantize"] == wanted
    data = {"data": {"train": "some.jsonl"}}
    assert make_config(found.recipe | data).model.quantize.kind in ("nf4", "int8")


def test_a_quantised_base_that_has_no_equivalent_or_no_adapters(read):
    three = read(LLAMA_FACTORY + "quantization_bit: 3\n")
    assert "quantize" not in three.recipe["model"]
    assert "quantization_bit" in fates(three, "no equivalent")
    whole = read("trl dpo --load_in_4bit", "run.sh")
    assert "quantize" not in whole.recipe["model"] and "load_in_4bit" in fates(whole, "to do")


def test_llama_factory_says_what_its_defaults_mean(read):
    """Its simpo with beta .1 and gamma .5 has ten times the paper's margin over beta."""
    found = read(LLAMA_FACTORY)
    assert found.tool == "LLaMA-Factory"
    assert found.recipe["objective"] == {"name": "simpo", "beta": 0.1, "gamma": 0.5}
    assert found.recipe["model"]["lora"] == {
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.0,
        "targets": ["q_proj", "v_proj"],
    }
    assert (found.recipe["train"]["batch_size"], found.recipe["train"]["epochs"]) == (8, 3.0)
    assert (
        "margin over beta is 5;" in found.account() and "the paper takes 2 to 10" in found.account()
    )
    assert {"pref_beta", "simpo_gamma", "lora_rank", "lora_alpha", "num_train_epochs"} <= fates(
        found, "default"
    )
    assert fates(found, "no equivalent") == {"max_samples"}


def test_the_arguments_of_trl(read):
    found = read(TRL, "train.sh", devices=4)
    assert found.tool == "TRL"
    assert found.recipe["objective"] == {"name": "ipo", "beta": 0.3}
    assert found.recipe["train"]["batch_size"] == 8
    assert found.recipe["evaluate"] == {"every": 50}
    assert found.recipe["model"]["lora"]["targets"] == ["q_proj", "v_proj"]
    assert found.recipe["model"]["lora"]["dropout"] == 0.05  # TRL's, not ours
    assert "far too low" not in found.account()  # the rate was given


def test_trl_without_peft_trains_all_weights_and_ignores_adapters(read):
    found = read("dataset_name: x\nbeta: 0.1\nlora_r: 8\nmodel_name_or_path: y\n")
    assert found.recipe["model"]["lora"] is None
    assert "lora_r" in fates(found, "not needed")
    assert "far too low" in found.account()


@pytest.mark.parametrize(
    "text, key, objective, older",
    [
        ("loss_type: sigmoid\nlabel_smoothing: 0.1", "label_smoothing", "dpo", True),
        ("loss_type: [sigmoid]\nlabel_smoothing: 0.1", "label_smoothing", "dpo", True),
        ("trainer: dpo\nlabel_smoothing: 0.1", "label_smoothing", "dpo", True),
        ("loss_type: hinge\nlabel_smoothing: 0.1", "label_smoothing", "hinge", False),
        ("loss_type: ipo\nlabel_smoothing: 0.1", "label_smoothing", "ipo", False),
        ("rl: dpo\nbase_model: m\ndpo_label_smoothing: 0.1", "dpo_label_smoothing", "dpo", True),
    ],
)
def test_smoothing_that_trl_ignored_is_not_in_the_recipe(read, text, key, objective, older):
    """trl 1.16.0, dpo_trainer.py: `sigmoid` is -logsigmoid(beta * delta_score), whatever
    label_smoothing is; the recipe is the run that was, and its head says so.
    """
    found = read(text)
    assert found.recipe["objective"] == {"name": objective, "beta": 0.1}
    assert key in fates(found, "to do") and key not in fates(found, "mapped")
    said = next(line.text for line in found.lines if line.key == key)
    assert f"was {objective} without smoothing" in said and "0.1" in said
    assert ("'cdpo'" in said) == older
    assert f"# to do: {key}: " in found.yaml()


def test_smoothing_of_nought_is_no_news(read):
    assert "label_smoothing" not in str(read("loss_type: sigmoid\nlabel_smoothing: 0.0").lines)


def test_simpo_in_trl_is_not_simpo_unless_told(read):
    assert "cpo_alpha" in fates(read("rl: simpo\nbase_model: m"), "no equivalent")
    assert "cpo_alpha" not in fates(read("rl: simpo\nbase_model: m\ncpo_alpha: 0"), "no equivalent")


def test_an_unknown_key_is_an_error_that_names_the_nearest(read):
    with pytest.raises(
        UsageError, match=r"learning_rat \(did you mean learning_rate\?\)"
    ) as caught:
        read("rl: dpo\nbase_model: m\nlearning_rat: 1e-5")
    assert "--leave-out learning_rat" in str(caught.value)
    assert (
        read("rl: dpo\nbase_model: m\nlearning_rat: 1e-5", leave_out=("learning_rat",)).recipe[
            "objective"
        ]["name"]
        == "dpo"
    )


@pytest.mark.parametrize("text", ["seed: 1", "beta: 0.1\nrl: dpo"])
def test_whose_file_it_is_must_be_clear(read, text):
    with pytest.raises(UsageError, match="--from trl or axolotl or llama-factory"):
        read(text)


@pytest.mark.parametrize(
    "text, words",
    [
        ("rl: dpo\nbase_model: m\nlearning_rate: fast", "expected a number"),
        ("rl: dpo\nbase_model: m\nmicro_batch_size: 1.5", "whole"),
        ("rl: dpo\nbase_model: m\nlr_scheduler: rex", "rex"),
        ("rl: dpo\nbase_model: m\ndatasets: pairs", "datasets"),
        ("rl: dpo\nbase_model: m\nlr_scheduler: [a]", "schedule"),
        ("rl: dpo\nbase_model: [m]", "expected a name or a path"),
        ("rl: dpo\nbase_model: m\nadapter: lora\nlora_r: .inf", "finite"),
        ("rl: dpo\nbase_model: m\nmax_steps: .nan", "finite"),
        ("stage: dpo\nmodel_name_or_path: m\npref_loss: simpo\npref_beta: 0", "above 0"),
        ("stage: dpo\nmodel_name_or_path: m\npref_loss: [a]", "no equivalent"),
        ("rl: dpo\nbase_model: hf_abcdefghijklmnopqrstuvwxyzABCDEF01", "token"),
        ("rl: [", "YAML"),
    ],
)
def test_bad_values_are_named(read, text, words):
    with pytest.raises(UsageError, match=words):
        read(text)


def test_what_axolotl_leaves_out_has_a_warm_up(read):
    """3 % of the run, as its builder has it; steps that are given stand alone."""
    assert read("rl: dpo\nbase_model: m").recipe["train"]["warmup"] == 0.03
    assert read("rl: dpo\nbase_model: m\nwarmup_steps: 7").recipe["train"]["warmup"] == 7


def test_an_adapter_that_is_trained_further_brings_its_own_rank(read):
    """A recipe with both would be refused by every run."""
    for text in (
        "stage: dpo\nmodel_name_or_path: m\nadapter_name_or_path: old\nlora_rank: 4",
        "rl: dpo\nbase_model: m\nadapter: lora\nlora_model_dir: old\nlora_r: 4",
    ):
        found = read(text)
        assert found.recipe["model"] == {"name": "m", "adapter": "old"}
        assert {"lora_rank", "lora_r"} & fates(found, "not needed")


def test_bfloat16_switched_off_is_float32(read):
    """On a machine with bfloat16 auto would take that."""
    assert (
        read("loss_type: ipo\nmodel_name_or_path: m\nbf16: false\ntrainer: dpo", "t.yaml").recipe[
            "model"
        ]["dtype"]
        == "float32"
    )
    assert (
        "dtype"
        not in read(
            "loss_type: ipo\nmodel_name_or_path: m\nbf16: true\ntrainer: dpo", "t.yaml"
        ).recipe["model"]
    )


def test_a_null_that_means_something_is_said(read):
    """No cutting in TRL: 1,024 tokens would be another run."""
    assert "max_length" in fates(
        read("loss_type: ipo\nmodel_name_or_path: m\ntrainer: dpo\nmax_length:"), "to do"
    )
    assert "max_length" not in fates(
        read("loss_type: ipo\nmodel_name_or_path: m\ntrainer: dpo"), "to do"
    )


def test_what_is_passed_over_has_its_line(read):
    found = read(
        "loss_type: ipo\nmodel_name_or_path: m\ntrainer: dpo\nmax_steps: 5\nnum_train_epochs:"
        " 3\neval_strategy: steps\neval_steps: 10\nsave_strategy: best"
    )
    assert {"num_train_epochs", "eval_strategy", "save_strategy"} <= fates(found, "not needed")


def test_hostile_text_stays_in_its_comment(read):
    found = read(
        'rl: dpo\nbase_model: "m\\nobjective: {name: sft}"\nspecial_tokens: {a: "x\\ny: 1"}'
    )
    assert yaml.safe_load(found.yaml()) == found.recipe
    assert found.recipe["objective"]["name"] == "dpo"


def test_arguments():
    assert arguments("trl kto --a 1 --b=x --c --no_d --e 1 2 # note") == {
        "trainer": "kto",
        "a": 1,
        "b": "x",
        "c": True,
        "d": False,
        "e": [1, 2],
    }
    with pytest.raises(UsageError, match="cannot be read"):
        arguments("--a 'open")


@pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
def test_every_place_that_a_rule_names_exists(tool):
    for rule in tool.rules.values():
        if isinstance(rule, To):
            node = Config
            for part in rule.path.split("."):
                assert issubclass(node, BaseModel) and part in node.model_fields
                node = node.model_fields[part].annotation


STRANGE = (
    None,
    True,
    False,
    0,
    -1,
    0.5,
    float("inf"),
    float("nan"),
    10**30,
    "",
    "a",
    "5e-6",
    "~nobody-here/x",
    "\0",
    "x" * 5_000,
    "steps",
    "lora",
    [],
    ["a"],
    [1],
    [{}],
    {},
    {"a": 1},
    [{"path": [1]}],
)
SMALL = {
    "axolotl": {"rl": "dpo", "base_model": "m"},
    "trl": {"loss_type": "ipo", "model_name_or_path": "m", "trainer": "dpo"},
    "llama-factory": {"stage": "dpo", "model_name_or_path": "m", "pref_loss": "sigmoid"},
}
JOINT = (
    "max_steps",
    "warmup_steps",
    "warmup_ratio",
    "gradient_accumulation_steps",
    "lora_r",
    "lora_rank",
    "lora_alpha",
    "lora_target",
    "adapter",
    "lora_model_dir",
    "adapter_name_or_path",
    "finetuning_type",
    "pref_beta",
    "beta",
    "label_smoothing",
    "eval_strategy",
    "eval_steps",
    "datasets",
    "dataset",
    "dataset_name",
    "use_peft",
    "adam_beta1",
    "simpo_gamma",
    "rl_beta",
    "trl",
    "loss_type",
    "pref_loss",
    "rl",
    "stage",
    "bf16",
    "num_train_epochs",
    "micro_batch_size",
    "lora_target_modules",
    "base_model",
    "model_name_or_path",
)


@pytest.mark.parametrize("tool", SMALL)
def test_no_value_ends_in_a_traceback(tool, tmp_path):
    """Any value under any key: a recipe, or a refusal in words. 12,000 such files found two that
    ended otherwise.
    """
    rng, file, read_as_recipes = random.Random(0), tmp_path / "settings.yaml", 0
    for _ in range(250):
        settings = SMALL[tool] | {
            key: rng.choice(STRANGE) for key in rng.sample(JOINT, rng.randint(1, 3))
        }
        file.write_text(yaml.safe_dump(settings))
        try:
            import_settings(str(file), tool).yaml()
            read_as_recipes += 1
        except AccordError:
            pass
    assert read_as_recipes > 5


def test_the_two_that_a_fuzz_found(read):
    with pytest.raises(UsageError, match="expected a list of datasets"):
        read("rl: dpo\nbase_model: m\ndatasets: []")
    name = "x" * 5_000  # longer than a file system takes
    assert read(f"rl: dpo\nbase_model: {name}").recipe["model"]["name"] == name
