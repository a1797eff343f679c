"""What is saved computes what was trained; a save that does not is found out."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from accord.models import merge as merging
from accord.models.export import load_saved, logits, read_back, rms, save
from accord.models.load import load
from accord.models.lora import add_lora, load_adapter, train_all_weights
from accord.models.merge import merge
from accord.types import CheckpointError

PROBE = [(5, 6, 7, 8, 9), (100, 2, 30)]


def model_of(folder, dtype="float32"):
    return load(str(folder), dtype=dtype, device="cpu")


def adapted(folder, dtype="float32", by=0.2, targets="all-linear"):
    model = model_of(folder, dtype)
    add_lora(model, rank=2, alpha=4.0, targets=targets, dropout=0.0, dora=False, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(
                torch.randn(parameter.shape, generator=generator).to(parameter.dtype) * by
            )
    return model


@pytest.fixture
def trained(tiny_folder):
    """All weights trained a little; embeddings are tied."""
    model = model_of(tiny_folder)
    train_all_weights(model)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.mul_(1.01)
    return model


def spoil(folder, name, change):
    file = next(folder.glob("*.safetensors"))
    tensors = load_file(file)
    key = next(key for key in tensors if name in key)
    tensors[key] = change(tensors[key].clone())
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_reads_back_exactly(tiny_folder, tmp_path, dtype):
    model = adapted(tiny_folder, dtype)
    masters = {name: p.detach().float() for name, p in model.trainable().items()}
    save(model, tmp_path / "out", masters)
    assert read_back(model, tmp_path / "out", PROBE) == 0.0
    stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float32}, "the masters, not their rounding"
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (
        config["base_model_name_or_path"] == str(tiny_folder) and config["inference_mode"] is True
    )


def test_masters_are_what_is_saved(tiny_folder, tmp_path):
    model = adapted(tiny_folder, "bfloat16")
    masters = {name: p.detach().float() * (1 + 2**-12) for name, p in model.trainable().items()}
    save(model, tmp_path / "out", masters)
    stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
    for name, master in masters.items():
        assert torch.equal(stored[name.replace(".default.", ".")], master)
    # PEFT's own card only where it is asked for, and the model is as it was
    assert not (tmp_path / "out/README.md").exists()
    save(model, tmp_path / "out", masters, card=True)
    assert (tmp_path / "out/README.md").is_file()


def test_an_adapter_that_went_on_saves_what_was_trained_and_not_its_reference(
    tiny_folder, tmp_path
):
    save(adapted(tiny_folder), tmp_path / "sft", {})
    model = model_of(tiny_folder)
    load_adapter(model, str(tmp_path / "sft"))
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.mul_(1.3)
    save(model, tmp_path / "out", {})
    assert read_back(model, tmp_path / "out", PROBE) == 0.0
    assert [f.name for f in (tmp_path / "out").rglob("*.safetensors")] == [
        "adapter_model.safetensors"
    ]


def test_all_weights_read_back_exactly_and_stay_tied(trained, tmp_path):
    save(trained, tmp_path / "out", {})
    assert read_back(trained, tmp_path / "out", PROBE) == 0.0
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert network.lm_head.weight is network.model.embed_tokens.weight
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == trained.tokenizer.chat_template


SABOTAGE = {
    "one large weight": ("up_proj", lambda t: t.index_fill_(0, torch.tensor([0]), 3.0)),
    "a layer lost": ("o_proj", torch.zeros_like),
    "transposed": ("layers.0.self_attn.o_proj", lambda t: t.T.contiguous()),
    "not a number": ("down_proj", lambda t: t.fill_(float("nan"))),
    "wrong shape": ("down_proj", lambda t: t[:, :-1].contiguous()),
}


@pytest.mark.parametrize("kind", SABOTAGE)
def test_a_spoilt_save_is_found_out(trained, tmp_path, kind):
    save(trained, tmp_path / "out", {})
    spoil(tmp_path / "out", *SABOTAGE[kind])
    with pytest.raises(CheckpointError, match="computes other logits|does not load again"):
        read_back(trained, tmp_path / "out", PROBE)


def test_a_spoilt_adapter_is_found_out(tiny_folder, tmp_path):
    model = adapted(tiny_folder)
    save(model, tmp_path / "out", {})
    spoil(tmp_path / "out", "lora_B", torch.zeros_like)
    with pytest.raises(CheckpointError, match="computes other logits than the trained model"):
        read_back(model, tmp_path / "out", PROBE)


def test_a_save_with_half_of_it_gone(trained, tmp_path):
    save(trained, tmp_path / "out", {})
    file = tmp_path / "out" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="was saved but does not load again"):
        read_back(trained, tmp_path / "out", PROBE)


def test_a_resized_vocabulary_that_was_not_saved(trained, tmp_path):
    save(trained, tmp_path / "out", {})
    trained.network.resize_token_embeddings(len(trained.tokenizer) + 8, mean_resizing=False)
    with pytest.raises(CheckpointError, match="computes other logits"):
        read_back(trained, tmp_path / "out", PROBE)


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_computes_what_the_adapter_computes(tiny_folder, tmp_path, dtype):
    model = adapted(tiny_folder, dtype)
    assert merge(model, tmp_path / "merged", PROBE, torch.float32).lost < 1e-4
    assert 0 < merge(model, tmp_path / "rounded", PROBE, torch.bfloat16).lost < 0.2
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    wanted = logits(model.network.float(), PROBE)
    assert rms(logits(merged, PROBE) - wanted) < 1e-4 * wanted.std()
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_merging_leaves_the_model_in_memory(tiny_folder, tmp_path):
    model = adapted(tiny_folder)
    before = {name: p.clone() for name, p in model.root.state_dict().items()}
    wanted = logits(model.network, PROBE)
    merge(model, tmp_path / "merged", PROBE, torch.bfloat16)
    assert torch.equal(logits(model.network, PROBE), wanted) and model.dtype == torch.float32
    assert all(torch.equal(p, before[name]) for name, p in model.root.state_dict().items())


def test_the_merge_takes_the_trained_adapter_and_not_its_reference(tiny_folder, tmp_path):
    save(adapted(tiny_folder), tmp_path / "sft", {})
    model = model_of(tiny_folder)
    load_adapter(model, str(tmp_path / "sft"))
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.mul_(1.5)
    assert merge(model, tmp_path / "merged", PROBE, torch.float32).lost < 1e-4


def test_an_update_that_rounding_swallows_is_refused(tiny_folder, tmp_path):
    """Far smaller than bfloat16's spacing: the merged model would be the base. float32 keeps it."""
    model = adapted(tiny_folder, "bfloat16")
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            parameter.mul_(1e-3 if "lora_B" in name else 1.0)
    with pytest.raises(CheckpointError, match="(?s)bfloat16.*loses .*%.*Merge into float32"):
        merge(model, tmp_path / "merged", PROBE, torch.bfloat16)
    assert merge(model, tmp_path / "whole", PROBE, torch.float32).lost < 0.05


def test_a_merge_that_is_written_wrong_is_found_out(tiny_folder, tmp_path, monkeypatch):
    """As if the base were written in place of the sum."""
    model = adapted(tiny_folder)

    def write_the_base(folder, *args):
        shutil.copytree(tiny_folder, folder, dirs_exist_ok=True)
        return load_saved(folder, *args)

    monkeypatch.setattr(merging, "load_saved", write_the_base)
    with pytest.raises(CheckpointError, match="(?s)files compute other logits"):
        merge(model, tmp_path / "merged", PROBE, torch.float32)


def test_rms_of_what_is_not_finite():
    assert rms(torch.tensor([3.0, 4.0])) == pytest.approx(12.5**0.5)
    assert (
        rms(torch.tensor([1.0, float("nan")])) == float("inf") == rms(torch.tensor([float("inf")]))
    )
