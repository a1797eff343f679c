"""Bad recipes, templates, model folders and adapters: refused in words with the exit code of their
kind, nothing run.
"""

import json
import shutil

import pytest
import torch
from data.crafted import crafted, pair
from safetensors.torch import load_file, save_file

from accord.config.schema import load_recipe, make_config
from accord.data.templates import make_template
from accord.data.trees import Limits, encode
from accord.errors import AccordError
from accord.models.load import load
from accord.models.lora import add_lora, load_adapter
from accord.objectives.configured import resolve_objective


def refused(work, code, words):
    with pytest.raises(AccordError) as error:
        work()
    message = str(error.value)
    assert error.value.code == code and any(word in message for word in words.split("|")), message
    assert len(message) < 3_000 and message.encode()


# ---------------------------------------------------------------- recipes

RECIPES = {
    "nothing": (b"", "expected a mapping"),
    "a word": (b"dpo", "expected a mapping"),
    "a list": (b"- data: x\n", "expected a mapping"),
    "no data": (b"train: {steps: 3}\n", "data: missing"),
    "tabs": (b"data:\n\ttrain: x\n", "not valid YAML"),
    "an open bracket": (b"data: {train: x\n", "not valid YAML"),
    "an unknown alias": (b"data: {train: *file}\n", "not valid YAML"),
    "two documents": (b"data: {train: x}\n---\ndata: {train: y}\n", "not valid YAML"),
    "Latin-1": (b"data: {train: \xe9.jsonl}\n", "not valid YAML"),
    "a control character": (b"data: {train: a\x07b}\n", "not valid YAML"),
    "an object of Python": (b"data: !!python/object/apply:os.system [id]\n", "not valid YAML"),
    "a list for a key": (b"? [a]\n: b\n", "not valid YAML"),
    "a number for a key": (b"data: {train: x}\n7: x\n", "7"),
    "a number for a file": (b"data: {train: 7}\n", "data.train: expected text"),
    "null for a section": (b"data: {train: x}\ntrain: null\n", "train: "),
    "a list for a section": (b"data: {train: x}\ntrain: [1]\n", "train: "),
    "infinity": (b"data: {train: x}\ntrain: {max_grad_norm: .inf}\n", "train.max_grad_norm"),
    "not a number": (b"data: {train: x}\ntrain: {learning_rate: .nan}\n", "train.learning_rate"),
    "yes for a number": (b"data: {train: x}\ntrain: {steps: yes}\n", "train.steps"),
    "a sexagesimal": (b"data: {train: x}\ntrain: {learning_rate: 1:30}\n", "train.learning_rate"),
    "an objective of nothing": (
        b"data: {train: x}\nobjective: null\n",
        "expected a name and its options",
    ),
    "an objective without its name": (
        b"data: {train: x}\nobjective: {name: 7}\n",
        "expected a name and its options",
    ),
    "a list for beta": (
        b"data: {train: x}\nobjective: {name: dpo, beta: [0.1]}\n",
        "finite number",
    ),
    "a number for an option": (
        b"data: {train: x}\nobjective: {name: dpo, 7: 0.1}\n",
        "objective.7",
    ),
    "a binary objective": (
        b"data: {train: x}\nobjective: !!binary aGk=\n",
        "expected a name and its options",
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_bad_recipe(name, tmp_path):
    data, words = RECIPES[name]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    refused(lambda: resolve_objective(make_config(load_recipe(str(path)))), 2, words)


# ------------------------------------------------------------ templates: the rows say what is wrong

TEMPLATES = {
    "not closed": "{% for m in messages %}{{ m.content }}",
    "a tag that is none": "{% frobnicate %}",
    "an unknown name": "{{ conversation[0].content }}",
    "beyond the last turn": "{{ messages[99].content }}",
    "a division by zero": "{{ 1 / 0 }}",
    "refuses without a word": "{{ raise_exception('') }}",
    "looks into Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "changes the conversation": "{{ messages.append(1) }}",
    "includes a file": "{% include '/etc/passwd' %}",
    "counts for ever": "{% for i in range(10**12) %}x{% endfor %}",
    "says nothing": "{# nothing #}",
    "forgets the answer": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
    "another prompt in context": (
        "{{ messages | length }}{% for m in messages %}{{ m.content }}<end>{% endfor %}"
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_bad_template(name, tmp_path):
    path = tmp_path / "own.jinja"
    path.write_text(TEMPLATES[name])
    encoding = encode(
        [pair("hi"), pair("ho")], make_template(crafted(None), str(path)), Limits(200)
    )
    assert not encoding.trees and len(encoding.unfit) == 2
    assert all(rejection.reason and rejection.says.isprintable() for rejection in encoding.unfit)


# ---------------------------------------------------------------- models


def text(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")


def change(folder, name, **values):
    text(folder, name, json.dumps(json.loads((folder / name).read_text()) | values))


def cut(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def reshaped(folder, name):
    tensors = load_file(folder / name)
    key = sorted(tensors)[0]
    save_file(tensors | {key: torch.zeros(3, 3)}, folder / name, {"format": "pt"})


def without_one(folder, name):
    tensors = load_file(folder / name)
    del tensors[sorted(tensors)[-1]]
    save_file(tensors, folder / name, {"format": "pt"})


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")


WEIGHTS = "model.safetensors"
MODELS = {
    "config cut off": (lambda f: cut(f, "config.json"), "does not load|no tokenizer"),
    "config a list": (lambda f: text(f, "config.json", "[1]"), "does not load|no tokenizer"),
    "config empty": (lambda f: text(f, "config.json", "{}"), "does not load|no tokenizer"),
    "config null": (lambda f: text(f, "config.json", "null"), "does not load|no tokenizer"),
    "a model that nobody knows": (
        lambda f: change(f, "config.json", model_type="frob"),
        "does not load|no tokenizer",
    ),
    "a model that writes no text": (
        lambda f: change(f, "config.json", model_type="vit"),
        "does not load|no tokenizer",
    ),
    "a size that is a word": (
        lambda f: change(f, "config.json", hidden_size="large"),
        "does not load|no tokenizer",
    ),
    "a negative size": (
        lambda f: change(f, "config.json", hidden_size=-8),
        "does not load|no tokenizer",
    ),
    "no heads": (
        lambda f: change(f, "config.json", num_attention_heads=0),
        "does not load|no tokenizer",
    ),
    "more layers than weights": (
        lambda f: change(f, "config.json", num_hidden_layers=3),
        "not in its files",
    ),
    "a smaller vocabulary than weights": (
        lambda f: change(f, "config.json", vocab_size=7),
        "does not load|vocabulary",
    ),
    "weights cut off": (lambda f: cut(f, WEIGHTS), "does not load"),
    "weights that are none": (lambda f: (f / WEIGHTS).write_bytes(b"\x80\x04]q"), "does not load"),
    "weights of another shape": (lambda f: reshaped(f, WEIGHTS), "does not load|not in its files"),
    "weights without one": (lambda f: without_one(f, WEIGHTS), "not in its files"),
    "pickled weights": (pickled, "does not load"),
    "tokenizer cut off": (lambda f: cut(f, "tokenizer.json"), "no tokenizer that loads"),
    "tokenizer empty": (lambda f: text(f, "tokenizer.json", "{}"), "no tokenizer that loads"),
    "tokenizer of no kind": (
        lambda f: text(f, "tokenizer.json", '{"model": {"type": "frob"}}'),
        "no tokenizer that loads",
    ),
    "tokenizer settings a list": (
        lambda f: text(f, "tokenizer_config.json", "[]"),
        "no tokenizer that loads",
    ),
    "generation settings broken": (
        lambda f: text(f, "generation_config.json", "{"),
        "stop tokens would be lost",
    ),
}


@pytest.fixture
def model_copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


@pytest.mark.parametrize("name", MODELS)
def test_bad_model(name, model_copy):
    spoil, words = MODELS[name]
    spoil(model_copy)
    refused(lambda: load(str(model_copy), dtype="float32", device="cpu"), 2, words)


def test_code_of_a_model_never_runs(model_copy, tmp_path):
    """trust_remote_code is off: a model that needs its own code is refused,
    or loaded without it.
    """
    text(model_copy, "own.py", f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    change(
        model_copy,
        "config.json",
        auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"},
        model_type="own",
    )
    refused(
        lambda: load(str(model_copy), dtype="float32", device="cpu"),
        2,
        "does not load|no tokenizer",
    )
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------- adapters

SETTINGS, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
ADAPTERS = {
    "no settings": (lambda f: (f / SETTINGS).unlink(), "no adapter_config.json"),
    "settings cut off": (lambda f: cut(f, SETTINGS), "cannot be read"),
    "settings a list": (lambda f: text(f, SETTINGS, "[]"), "cannot be read"),
    "settings empty": (lambda f: text(f, SETTINGS, "{}"), "cannot be read|only LoRA"),
    "settings of no kind": (lambda f: change(f, SETTINGS, peft_type="FROB"), "cannot be read"),
    "of another kind": (lambda f: change(f, SETTINGS, peft_type="IA3"), "only LoRA adapters"),
    "with whole modules": (
        lambda f: change(f, SETTINGS, modules_to_save=["lm_head"]),
        "trains whole modules",
    ),
    "with biases": (lambda f: change(f, SETTINGS, bias="all"), "trains whole modules"),
    "of another rank": (lambda f: change(f, SETTINGS, r=3), "does not fit"),
    "on modules that are not there": (
        lambda f: change(f, SETTINGS, target_modules=["frob"]),
        "does not fit",
    ),
    "a rank that is a word": (
        lambda f: change(f, SETTINGS, r="high"),
        "cannot be read|does not fit",
    ),
    "no weights": (lambda f: (f / ADAPTER).unlink(), "no adapter_model.safetensors"),
    "weights cut off": (lambda f: cut(f, ADAPTER), "does not fit"),
    "weights without one": (lambda f: without_one(f, ADAPTER), "does not fit"),
    "weights of another shape": (lambda f: reshaped(f, ADAPTER), "does not fit"),
}


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory):
    """A good LoRA adapter of the tiny model."""
    folder = tmp_path_factory.mktemp("adapter")
    model = load(str(tiny_folder), dtype="float32", device="cpu")
    add_lora(model, rank=2, alpha=4, targets="attention", dropout=0.0, dora=False, seed=0)
    model.peft.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("name", ADAPTERS)
def test_bad_adapter(name, adapter, tiny_folder, tmp_path):
    spoil, words = ADAPTERS[name]
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    spoil(folder)
    refused(
        lambda: load_adapter(load(str(tiny_folder), dtype="float32", device="cpu"), str(folder)),
        2,
        words,
    )


def test_the_good_ones_load(adapter, tiny_folder):
    """Or the tests above would show nothing."""
    load_adapter(load(str(tiny_folder), dtype="float32", device="cpu"), str(adapter))
