"""Loading: from folders of safetensors only, whole or not at all, and every failure in words."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from accord.models.load import load, pick_device, pick_dtype
from accord.types import UsageError


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def refused(folder, match):
    with pytest.raises(UsageError, match=match) as error:
        load(str(folder), dtype="float32", device="cpu")
    return str(error.value)


def test_a_folder_loads_in_the_dtype_asked_for(tiny_folder):
    for dtype in ("float32", "bfloat16"):
        model = load(str(tiny_folder), dtype=dtype, device="cpu")
        assert model.dtype == getattr(torch, dtype) == model.head.module.weight.dtype
        assert not model.network.training and model.folder == tiny_folder and model.peft is None
        assert model.tokenizer.decode(model.tokenizer("two words")["input_ids"]) == "two words"


def test_loaded_weights_are_those_of_the_file(tiny_folder):
    model = load(str(tiny_folder), dtype="float32", device="cpu")
    stored = load_file(tiny_folder / "model.safetensors")
    state = model.network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items())


def test_names_that_are_no_folder():
    with pytest.raises(
        UsageError, match="nowhere: no such model folder.*save_pretrained layout, or 'smollm2'"
    ):
        load("nowhere")
    with pytest.raises(
        UsageError, match="If this is a hub name, say so: hub:some-org/some-model, or --allow hub"
    ):
        load("some-org/some-model")  # nothing goes to the network unasked


def test_a_folder_without_config(folder):
    (folder / "config.json").unlink()
    assert "save_pretrained" in refused(folder, "no config.json in this folder")


def test_a_folder_without_tokenizer(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    assert "tokenizer.json" in refused(folder, "no tokenizer that loads")


def test_a_damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    refused(folder, "no tokenizer that loads")


def test_a_tokenizer_without_eos(folder):
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k != "eos_token"}))
    refused(folder, "names no EOS token; answers could never end")


def test_an_adapter_given_as_a_model(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "some/base"})
    )
    says = refused(folder, "holds an adapter, not a model")
    assert "--model some/base" in says and f"model.adapter={folder}" in says
    (folder / "adapter_config.json").write_text("{")
    refused(folder, "holds an adapter, not a model")


def test_an_adapter_of_a_run_can_be_merged_for_a_command_that_takes_none(tmp_path):
    adapter = tmp_path / "run" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (adapter.parent / "config.yaml").write_text("")
    for given in (adapter, adapter.parent):
        refused(given, f"accord export {adapter.parent} --merge --output DIR")


def test_pickled_weights_are_not_read(folder):
    """Unpickling runs whatever the file says: a file that would leave a mark leaves none."""

    class Mark:
        def __reduce__(self):
            return (open, (str(folder / "mark"), "w"))

    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Mark()}, folder / "pytorch_model.bin")
    assert "its weights are pickled" in refused(folder, "the model does not load")
    assert not (folder / "mark").exists()


def test_code_beside_the_weights_does_not_run(folder):
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {
        "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    }
    file.write_text(json.dumps(config | {"model_type": "evil"}))
    (folder / "evil.py").write_text(f"open({str(folder / 'mark')!r}, 'w')\n")
    with pytest.raises(UsageError):
        load(str(folder), dtype="float32", device="cpu")
    assert not (folder / "mark").exists()


def test_damaged_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    refused(folder, "the model does not load")


def test_a_tensor_that_is_missing_is_not_drawn_at_random(folder):
    """transformers warns, and goes on with a random layer."""
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    refused(
        folder,
        "(?s)1 of the model's tensors are not in its files, such as"
        " model.layers.1.mlp.up_proj.*random",
    )


def test_a_configuration_that_does_not_fit_the_weights(folder):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"intermediate_size": 40}))
    refused(folder, "the model does not load")
    file.write_text(json.dumps(config | {"model_type": "nonesuch"}))
    refused(folder, "nonesuch")
    file.write_text("{")
    refused(folder, "not a valid JSON")


def test_devices_and_dtypes():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_dtype("float32", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    with pytest.raises(
        UsageError, match="'quantum' is no device of this machine. Expected auto, cpu, cuda"
    ):
        pick_device("quantum")
