"""Optimizers, gradient checkpointing and quantised bases of other tools, and TRL's configs in
Python.
"""

import pytest
import yaml
from conftest import pair_rows, write_rows
from transformers.training_args import OptimizerNames

import accord
from accord.config.schema import make_config
from accord.errors import UsageError
from accord.migrate import memory_keys, python_calls

# A DPO run as tutorials write it: paged AdamW, gradient checkpointing, a prompt of its own length,
# adapters of four projections.
TUTORIAL = """
from trl import DPOConfig as TRLConfig, DPOTrainer

def make():
    return TRLConfig(
        output_dir="./out",
        num_train_epochs=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=5e-7,
        beta=0.1,
        max_length=512,
        max_prompt_length=256,
        warmup_ratio=0.1,
        logging_steps=10,
        save_steps=500,
        bf16=True,
        gradient_checkpointing=True,
        optim="paged_adamw_32bit",
        use_peft=True,
        lora_r=4,
        lora_alpha=8,
        lora_dropout=0.05,
        lora_target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
"""
# keys that another key's line accounts for, and what it says of them
TOGETHER = {
    "use_peft": "model.lora.rank = 4",
    "gradient_accumulation_steps": "rows at once 2 × accumulated 2",
}

QLORA = """
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer

bits = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
)
model = AutoModelForCausalLM.from_pretrained("some/model", quantization_config=bits)
rows = load_dataset("some/pairs", split="train")
adapters = LoraConfig(r=8, target_modules="all-linear", bias="none", task_type="CAUSAL_LM")
trainer = DPOTrainer(model, args=DPOConfig(loss_type="ipo", optim="adamw_bnb_8bit"),
                     train_dataset=rows, peft_config=adapters)
"""


def lines(found, key):
    return [(line.fate, line.text) for line in found.lines if line.key == key]


# ---------------------------------------------------------------- a tutorial's run


def test_every_key_of_a_tutorials_config_is_accounted_for(read):
    given = python_calls.settings_of(TUTORIAL)
    found = read(TUTORIAL, "train.py")
    assert found.tool == "TRL" and given.pop("trainer") == "dpo" and len(given) == 19
    for key in given:
        assert lines(found, key) or TOGETHER[key] in found.account(), key
    assert found.recipe["train"]["optimizer"] == "adamw"
    assert found.recipe["train"]["recompute"] == "always"
    assert ("to do", "optim") in {(line.fate, line.key) for line in found.lines}
    assert "train.optimizer=paged_adamw " in found.yaml()


def test_the_recipe_of_a_tutorials_config_runs(read, tiny_folder, tmp_path):
    found = read(TUTORIAL, "train.py")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(found.yaml(str(recipe)))
    rows = write_rows(tmp_path / "pairs.jsonl", pair_rows(12))
    quick = {"monitor.samples": 0, "monitor.audit_rows": 0}
    out = str(tmp_path / "run")
    done = accord.train(str(recipe), model=str(tiny_folder), data=rows, output=out, set=quick)
    config = yaml.safe_load((done.folder / "config.yaml").read_text())
    assert config["train"]["batch_size"] == 4 and config["train"]["steps"] == 3
    assert config["train"]["optimizer"] == "adamw" and config["train"]["recompute"] == "always"
    assert config["model"]["lora"]["targets"] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert config["data"]["max_tokens"] == 512


# ---------------------------------------------------------------- Python


def test_a_script_with_adapters_a_quantised_base_and_names_of_a_hub(read):
    found = read(QLORA, "train.py")
    assert found.recipe["objective"] == {"name": "ipo", "beta": 0.1}
    assert found.recipe["train"]["optimizer"] == "adamw_8bit"
    assert found.recipe["model"]["name"] == "some/model"
    assert found.recipe["data"]["train"] == "some/pairs"
    lora = found.recipe["model"]["lora"]
    # alpha and dropout are peft's defaults, not TRL's
    assert lora == {"rank": 8, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}
    # transformers quantises no scales unless it is told to
    assert found.recipe["model"]["quantize"] == {"kind": "nf4", "double": False}
    for key in ("bnb_4bit_quant_type", "bnb_4bit_compute_dtype"):
        assert lines(found, key)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("trl.DPOConfig(beta=arguments.beta)", "computed.*beta = arguments.beta.*--leave-out beta"),
        ("trl.DPOConfig(**options)", r"computed.*\*\*options"),
        ("trl.DPOConfig(seed=1)\ntrl.DPOConfig(seed=2)", "seed is 1 in one place and 2 in another"),
        ("trl.DPOConfig(learning_rat=1e-5)", "did you mean learning_rate"),
        ("trl.KTOConfig(loss_type='sigmoid', label_smoothing=0.5)", "no equivalent"),
    ],
)
def test_what_a_script_does_not_say_is_an_error(read, code, words):
    with pytest.raises(UsageError, match=f"(?s){words}"):
        read(code, "train.py")


def test_a_computed_value_can_be_left_out(read):
    found = read("trl.DPOConfig(beta=given.beta, seed=7)", "t.py", leave_out=("beta",))
    assert found.recipe["train"]["seed"] == 7 and found.recipe["objective"]["beta"] == 0.1


def test_nothing_of_a_script_is_run(read, tmp_path):
    mark = tmp_path / "mark"
    text = f"open({str(mark)!r}, 'w').write('ran')\nimport trl\ntrl.DPOConfig(beta=0.25)"
    assert read(text, "train.py").recipe["objective"]["beta"] == 0.25 and not mark.exists()


@pytest.mark.parametrize("text", ["", "not python (", "print('--beta 0.1')", "x = 1"])
def test_other_texts_are_no_scripts(text):
    assert not python_calls.is_python(text)


# ---------------------------------------------------------------- optimizers


def test_names_are_those_of_transformers():
    known = {each.value for each in OptimizerNames}
    # two that older releases had
    assert set(memory_keys.OPTIMIZERS) - known == {"adamw_hf", "paged_adamw"}


@pytest.mark.parametrize("given", memory_keys.OPTIMIZERS)
@pytest.mark.parametrize(
    "file",
    [
        "trainer: dpo\nloss_type: ipo\noptim: {}",
        "rl: dpo\nbase_model: m\nlearning_rate: 1e-4\noptimizer: {}",
        "stage: dpo\nmodel_name_or_path: m\npref_loss: ipo\noptim: {}",
    ],
    ids=["trl", "axolotl", "llama-factory"],
)
def test_each_optimizer_of_each_tool_is_one_that_runs_anywhere_it_can(read, file, given):
    found = read(file.format(given))
    name = memory_keys.OPTIMIZERS[given]
    assert found.recipe["train"]["optimizer"] == name.removeprefix("paged_")
    key = "optimizer" if "rl:" in file else "optim"
    assert any(f"train.optimizer={name} " in text for fate, text in lines(found, key)) == (
        name.startswith("paged_")
    )
    assert make_config(yaml.safe_load(found.yaml()) | {"data": {"train": "x"}})


def test_an_optimizer_that_accord_lacks_has_no_equivalent(read):
    found = read("trainer: dpo\nloss_type: ipo\noptim: lion_32bit")
    assert "optimizer" not in found.recipe["train"]
    (said,) = lines(found, "optim")
    assert said[0] == "no equivalent" and "adafactor" in said[1]


@pytest.mark.parametrize(
    ("more", "momentum"),
    [("", 0.0), ("optim_args: momentum=0.75", 0.75), ("optim_args: nesterov=True", 0.0)],
)
def test_sgd_has_the_momentum_that_it_had(read, more, momentum):
    found = read(f"trainer: dpo\nloss_type: ipo\noptim: sgd\nadam_beta1: 0.5\n{more}")
    assert found.recipe["train"]["momentum"] == momentum and "betas" not in found.recipe["train"]
    assert lines(found, "adam_beta1") == [("not needed", "sgd has no such moments")]
    assert bool(lines(found, "optim_args")) == ("nesterov" in more)


def test_betas_are_named_by_a_key_that_was_given(read):
    found = read("trainer: dpo\nloss_type: ipo\nadam_beta2: 0.99")
    assert found.recipe["train"]["betas"] == [0.9, 0.99] and lines(found, "adam_beta2")


@pytest.mark.parametrize(("given", "wanted"), [("true", "always"), ("false", None)])
def test_gradient_checkpointing_by_its_name(read, given, wanted):
    found = read(f"trainer: dpo\nloss_type: ipo\ngradient_checkpointing: {given}")
    assert found.recipe["train"].get("recompute") == wanted
    ((fate, text),) = lines(found, "gradient_checkpointing")
    assert fate == ("mapped" if wanted else "not needed") and "train.recompute" in text


@pytest.mark.parametrize(
    ("key", "here"),
    [("gradient_checkpointing", "train.recompute=always"), ("optim", "train.optimizer")],
)
def test_a_key_typed_out_of_habit_names_the_right_one(key, here):
    with pytest.raises(UsageError, match=f"TRL's name; here it is {here}"):
        make_config({"data": {"train": "x"}, "train": {key: True}})


# ---------------------------------------------------------------- a quantised base


@pytest.mark.parametrize(
    ("text", "quantize"),
    [
        ("use_peft: true\ntrainer: dpo\nload_in_8bit: true", "int8"),
        ("use_peft: true\ntrainer: dpo\nload_in_4bit: true", {"kind": "nf4", "double": False}),
        ("use_peft: true\ntrainer: dpo\nload_in_4bit: true\nuse_bnb_nested_quant: true", "nf4"),
        ("rl: dpo\nbase_model: m\nadapter: qlora", "nf4"),
        ("rl: dpo\nbase_model: m\nadapter: lora\nload_in_8bit: true", "int8"),
        ("stage: dpo\nmodel_name_or_path: m\nquantization_bit: 4", "nf4"),
        ("stage: dpo\nmodel_name_or_path: m\nquantization_bit: 8", "int8"),
        (
            "stage: dpo\nmodel_name_or_path: m\nquantization_bit: 4\ndouble_quantization: false",
            {"kind": "nf4", "double": False},
        ),
    ],
)
def test_a_quantised_base_is_mapped(read, text, quantize):
    found = read(text)
    assert found.recipe["model"]["quantize"] == quantize
    assert make_config(yaml.safe_load(found.yaml()) | {"data": {"train": "x"}})


@pytest.mark.parametrize("text", ["load_in_4bit: true", "load_in_8bit: true"])
def test_a_quantised_base_is_accounted_for(read, text):
    found = read(f"use_peft: true\ntrainer: dpo\n{text}")
    assert lines(found, text.partition(":")[0])


# ---------------------------------------------------------------- what a stranger's files have


@pytest.mark.parametrize(
    "text",
    [
        "rl: dpo\nbase_model: m\nadapter: lora\nload_in_8bit: false\nload_in_4bit: false",
        "trainer: dpo\nloss_type: ipo\nload_in_4bit: false\nuse_rslora: false",
        "stage: dpo\nmodel_name_or_path: m\nfinetuning_type: full\nlora_rank: 8\nuse_dora: true",
        "stage: dpo\nmodel_name_or_path: m\nfinetuning_type: full",
        "rl: dpo\nbase_model: m\npeft_use_rslora: true\npeft_use_dora: true",
    ],
)
def test_what_is_switched_off_or_has_no_adapters_to_act_on_is_no_unknown_key(read, text):
    assert "quantize" not in read(text).recipe["model"]


@pytest.mark.parametrize(
    "text",
    [
        "trainer: dpo\nuse_peft: true\nlora_r: 16\nlora_alpha: 8\nuse_rslora: true",
        "rl: dpo\nbase_model: m\nadapter: lora\nlora_r: 16\nlora_alpha: 8\npeft_use_rslora: true",
        "stage: dpo\nmodel_name_or_path: m\nlora_rank: 16\nlora_alpha: 8\nuse_rslora: true",
    ],
)
def test_rslora_scales_by_the_root_of_the_rank(read, text):
    found = read(text)
    assert found.recipe["model"]["lora"]["alpha"] == 8 * 4 and "rslora" in found.account()
    assert "no equivalent" not in {line.fate for line in found.lines}


def test_axolotls_dora_is_taken(read):
    found = read("rl: dpo\nbase_model: m\nadapter: lora\npeft_use_dora: true")
    assert found.recipe["model"]["lora"]["dora"] is True


def test_a_base_of_4_and_of_8_bits_is_an_error(read):
    with pytest.raises(UsageError, match="both true"):
        read("trainer: dpo\nuse_peft: true\nload_in_4bit: true\nload_in_8bit: true")


def test_switches_in_quotation_marks_are_switches(read):
    found = read('trainer: dpo\nuse_peft: "False"\nload_in_4bit: "true"')
    assert found.recipe["model"]["lora"] is None and "load_in_4bit" in found.account()


def test_a_value_that_is_no_number_is_said_with_its_key(read):
    with pytest.raises(UsageError, match="learning_rate: expected a number, got 'fast'"):
        read("trainer: dpo\nlearning_rate: fast")
    with pytest.raises(UsageError, match="optim_args: momentum: expected a number"):
        read("trainer: dpo\nloss_type: ipo\noptim: sgd\noptim_args: momentum=much")


def test_the_embedded_model_is_no_name_of_a_hub(read):
    found = read("trainer: dpo\nloss_type: ipo\nmodel_name_or_path: smollm2")
    assert not lines(found, "model.name")


# ---------------------------------------------------------------- a stranger's scripts

SCRIPT = """
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer, ModelConfig
SIZE, RATE = "135M", 3e-5
ORG = "org"
RATES = [1e-5]
NAME = f"{ORG}/model"
BETA = 0.25
rows = load_dataset("json", data_files={"train": "a.jsonl", "test": "b.jsonl"}, split="train[:9]")
flags = ModelConfig(use_peft=True, lora_r=4, **{"lora_alpha": 6})
trainer = DPOTrainer(f"{ORG}/model", args=DPOConfig("out", beta=BETA), train_dataset=rows)
"""


def test_names_assigned_once_positions_and_the_flags_of_trl_in_a_script(read):
    found = read(SCRIPT, "train.py")
    assert found.recipe["objective"] == {"name": "dpo", "beta": 0.25}
    assert found.recipe["model"]["name"] == "org/model" and found.recipe["output"] == "out"
    assert found.recipe["model"]["lora"]["rank"] == 4
    assert found.recipe["model"]["lora"]["alpha"] == 6
    assert found.recipe["data"]["train"] == "a.jsonl"
    assert "data.train" in lines(found, "dataset_train_split")[0][1]
    assert "data.held_out" in lines(found, "dataset_test_split")[0][1]


@pytest.mark.parametrize(
    ("code", "computed"),
    [
        ("B = 0.1\nB = 0.2\ntrl.DPOConfig(beta=B)", "beta"),
        ("B = 0.1\ndef f(B):\n    trl.DPOConfig(beta=B)", "beta"),
        ("if x:\n    B = 0.1\ntrl.DPOConfig(beta=B)", "beta"),
        ("B = 0.1\nB += 1\ntrl.DPOConfig(beta=B)", "beta"),
        ("B = 0.1\nfor B in (1, 2):\n    trl.DPOConfig(beta=B)", "beta"),
        ("B = ['q_proj']\nB.append('x')\ntrl.DPOConfig(lora_target_modules=B)", "lora_target"),
        ("trl.DPOTrainer(f'org/{size}')", "model_name_or_path"),
        ("trl.DPOConfig()\nAutoModelForCausalLM.from_pretrained(name)", "model_name_or_path"),
        ("trl.DPOConfig()\nload_dataset(f'{x}')", "dataset_name"),
        ("trl.DPOConfig('out', True)", "DPOConfig"),
    ],
)
def test_what_may_be_another_value_is_computed(read, code, computed):
    with pytest.raises(UsageError, match=f"(?s)computed.*{computed}.*--leave-out"):
        read(code, "train.py")


def test_a_model_that_is_loaded_in_4_bits_is_quantised(read):
    code = "AutoModelForCausalLM.from_pretrained('m', load_in_4bit=True)\npeft.LoraConfig(r=2)\n"
    found = read(code + "trl.DPOTrainer()", "train.py")
    assert "quantize" in found.recipe["model"]


@pytest.mark.parametrize(
    ("code", "words"),
    [("trl.GRPOConfig(beta=0.1)", "DPOConfig.*no equivalent"), ("trl.DPOConfig(", "line 1")],
)
def test_a_script_without_a_trainer_of_ours_says_what_is_read(read, code, words):
    with pytest.raises(UsageError, match=words):
        read(code, "train.py")
