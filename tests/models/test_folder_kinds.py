"""Folders that hold no language model that can train are refused by the name of their kind; sound
ones pass.
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from accord.models.folder_kinds import require_known_kind, require_language_model
from accord.models.weight_files import stored_tensors
from accord.types import UsageError

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def config(folder, **values):
    (folder / "config.json").write_text(json.dumps(LLAMA | values), encoding="utf-8")


def weights(folder, dtype=torch.float32, name="model.norm.weight", file="model.safetensors"):
    save_file({name: torch.ones(2).to(dtype)}, folder / file, {"format": "pt"})


def whole(folder, **values):
    config(folder, **values)
    weights(folder)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def quantised(**settings):
    return lambda f: whole(f, quantization_config=settings)


def of(kind, built, **values):
    return lambda f: whole(f, model_type=kind, architectures=[built], **values)


def sharded(folder):
    config(folder)
    weights(folder, file="model-00001-of-00002.safetensors")
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def pointer(folder):
    config(folder)
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid")


def cut_off(folder):
    whole(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])


def below(path):
    def make(folder):
        (folder / path).mkdir(parents=True)
        whole(folder / path)

    return make


def raw(dtype, name="model.layers.0.mlp.up_proj.weight"):
    def make(folder):
        config(folder)
        weights(folder, dtype, name)

    return make


def only(*names, described=True):
    def make(folder):
        if described:
            config(folder)
        touch(folder, *names)

    return make


KINDS = {
    "diffusers": (only("model_index.json"), "diffusers pipeline"),
    "sentences": (only("modules.json"), "sentence-transformers"),
    "DeepSpeed": (only("global_step9/a.pt", "latest", described=False), "zero_to_fp32.py"),
    "FSDP": (only("__0_0.distcp", described=False), "accelerate merge-weights"),
    "the hub's cache": (below("snapshots/ab12"), "Name that folder: .*snapshots/ab12"),
    "a trainer's folder": (below("checkpoint-20"), "Name that: .*checkpoint-20"),
    "a run of accord": (below("final"), "Name that: .*final"),
    "GGUF": (only("tiny-q4.gguf"), r"GGUF folder \(tiny-q4.gguf\)"),
    "GGUF without config": (only("tiny-q4.gguf", described=False), "GGUF folder"),
    "the maker's layout": (only("params.json", "consolidated.00.pth"), "own layout"),
    "pickled": (only("pytorch_model.bin"), "weights are pickled.*can run any code"),
    "TensorFlow": (only("tf_model.h5"), "TensorFlow alone"),
    "a missing shard": (sharded, "1 of the 2 files .* missing: model-00002-of-00002.safetensors"),
    "a pointer": (pointer, "pointer of Git LFS.*lfs pull"),
    "cut off": (cut_off, "model.safetensors is cut off: it has"),
    "fp8": (quantised(quant_method="fp8"), r"quantised model \(fp8\).*dequantize"),
    "mxfp4": (quantised(quant_method="mxfp4"), "mxfp4"),
    "gptq": (quantised(quant_method="gptq", bits=4), "gptq, 4 bits"),
    "awq": (quantised(quant_method="awq", w_bit=4), "awq, 4 bits"),
    "bitsandbytes": (quantised(_load_in_8bit=True), "bitsandbytes, 8 bits"),
    "compressed-tensors": (quantised(quant_method="compressed-tensors"), "compressed-tensors"),
    "one of tomorrow": (quantised(whatever=1), r"quantised model \(unnamed"),
    "quantised inside": (
        lambda f: whole(f, text_config={"quantization_config": {"quant_method": "hqq"}}),
        "hqq",
    ),
    "fp8 weights alone": (raw(torch.float8_e4m3fn), "stored as F8_E4M3"),
    "packed weights alone": (raw(torch.int32, "model.layers.0.mlp.up_proj.qweight"), "qweight"),
    "integer weights alone": (raw(torch.int8), "quantised"),
    "remote code": (
        lambda f: whole(f, model_type="own", auto_map={"AutoConfig": "own.C"}),
        "needs code that comes with it",
    ),
    "BERT": (of("bert", "BertForMaskedLM"), r"an encoder \(BertForMaskedLM\)"),
    "ModernBERT": (of("modernbert", "ModernBertForMaskedLM"), "an encoder"),
    "a bare encoder": (of("roberta", "RobertaModel"), "an encoder"),
    "T5": (of("t5", "T5ForConditionalGeneration", is_encoder_decoder=True), "an encoder–decoder"),
    "T5 unmarked": (of("t5", "T5ForConditionalGeneration"), "an encoder–decoder"),
    "BART": (of("bart", "BartForConditionalGeneration"), "an encoder–decoder"),
    "a reward model": (of("llama", "LlamaForSequenceClassification"), "holds a reward model"),
    "a tagger": (of("llama", "LlamaForTokenClassification"), "gives labels"),
}
SOUND = {
    "llama": whole,
    "float16": raw(torch.float16),
    "code that is not needed": lambda f: whole(f, auto_map={"AutoConfig": "own.C"}),
    "a decoder of BERT's": of("bert", "BertLMHeadModel", is_decoder=True),
    "gpt2": of("gpt2", "GPT2LMHeadModel"),
    "no architectures": lambda f: whole(f, architectures=None),
    "null settings": lambda f: whole(f, quantization_config=None),
    "a pickled copy beside": lambda f: (whole(f), touch(f, "pytorch_model.bin")),
    "a GGUF copy beside": lambda f: (whole(f), touch(f, "model-q4.gguf")),
    "checkpoints below": lambda f: (whole(f), below("checkpoint-20")(f)),
}


def load_by_name(folder):
    require_known_kind(folder, str(folder))
    require_language_model(folder, str(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_named_by_its_kind(kind, tmp_path):
    make, words = KINDS[kind]
    make(tmp_path)
    with pytest.raises(UsageError, match=f"(?s){words}"):
        load_by_name(tmp_path)


@pytest.mark.parametrize("kind", SOUND)
def test_silent_on_a_sound_folder(kind, tmp_path):
    SOUND[kind](tmp_path)
    load_by_name(tmp_path)


def test_a_reward_model_where_one_is_wanted(tmp_path):
    of("llama", "LlamaForSequenceClassification")(tmp_path)
    assert require_language_model(tmp_path, "m", reward=True)


def test_two_sets_of_weights_are_ambiguous(tmp_path):
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match="two sets of weights"):
        stored_tensors(tmp_path, "m")
