"""An adapter belongs to one base: it leaves the base as it is, and is refused on another; what is
merged is what the adapter computes.
"""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from forward.tiny import VOCAB, tiny
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from accord.errors import AccordWarning
from accord.models import fingerprint, provenance
from accord.models.base import base_named_by
from accord.models.export import load_saved, logits, rms, save
from accord.models.lora import add_lora, load_adapter, train_all_weights
from accord.models.merge import ROUNDING, merge
from accord.models.save_trial import try_saving
from accord.types import CheckpointError, Refused, UsageError

PROBE = [(5, 6, 7, 8, 9), (50, 2, 30)]
LORA = dict(rank=2, alpha=4.0, dropout=0.0, dora=False, seed=0)


@pytest.fixture(scope="module")
def few_words():
    """A tokenizer of as many words as the tiny models know."""
    vocabulary = {f"w{i}": i for i in range(VOCAB)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="w2", unk_token="w0")


@pytest.fixture
def at(tmp_path, few_words):
    """Make a tiny model that lies in a folder of its own."""

    def make(family="llama", dtype=torch.float32, name="base", **changes):
        model = tiny(family, dtype, **changes)
        model.tokenizer, model.folder = few_words, tmp_path / name
        model.source = str(model.folder)
        if not model.folder.exists():
            model.network.save_pretrained(model.folder)
        return model

    return make


def moved(parameters, by=0.2):
    """Give adapters values that compute something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters:
            drawn = torch.randn(parameter.shape, generator=generator) * by
            parameter.add_(drawn.to(parameter.dtype))


def foreign(folder, family="llama", settings=None, **changes):
    """Write an adapter by PEFT alone, as other tools do."""
    settings = {"r": 2, "target_modules": ["q_proj", "down_proj"]} | (settings or {})
    peft = get_peft_model(tiny(family, **changes).network, LoraConfig(**settings))
    moved(p for name, p in peft.named_parameters() if "lora_" in name)
    peft.save_pretrained(folder)
    return folder


def own(model, folder):
    """Write an adapter by accord."""
    add_lora(model, targets=["q_proj", "v_proj"], **LORA)
    moved(model.trainable().values())
    save(model, folder, {})
    return folder


def warnings_of(work) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(w.message) for w in caught if issubclass(w.category, AccordWarning)]


# ---------------------------------------------------------------- the base stays what it is


@pytest.mark.parametrize("init", [True, False, "gaussian", "orthogonal", "eva"], ids=str)
def test_a_base_is_the_same_after_an_adapter_is_loaded(at, tmp_path, init):
    model = at()
    before = [p.clone() for p in model.network.parameters()]
    folder = foreign(tmp_path / "adapter", settings={"init_lora_weights": init})
    load_adapter(model, str(folder))
    assert fingerprint.base_weights(model.network) == fingerprint.base_weights(tiny().network)
    with model.as_reference():
        reference = logits(model.network, PROBE)
    assert torch.equal(reference, logits(model.network, PROBE)), "its frozen copy"
    with model.peft.disable_adapter():
        assert torch.equal(logits(model.network, PROBE), logits(tiny().network, PROBE))
    assert len(before) < len([*model.network.parameters()])


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora"])
def test_an_initialisation_that_rewrites_the_base_is_refused(at, tmp_path, init):
    model = at()
    folder = foreign(tmp_path / "adapter", settings={"init_lora_weights": init})
    with pytest.raises(UsageError, match=f"(?s){init}.*part out of the base.*path_initial_model"):
        load_adapter(model, str(folder))
    assert model.peft is None
    assert torch.equal(logits(model.network, PROBE), logits(tiny().network, PROBE))


def test_embeddings_in_an_adapters_file_do_not_replace_the_bases(at, tmp_path):
    """PEFT saves a base's embeddings beside an adapter of them, and loads them into the base."""
    folder = foreign(tmp_path / "adapter", settings={"target_modules": ["embed_tokens"]})
    load_adapter(at(), str(folder))  # the same values: nothing changes
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if "base_layer" in name)
    save_file(tensors | {name: tensors[name] * 1.1}, file)
    with pytest.raises(UsageError, match="changes the weights of .*embed_tokens"):
        load_adapter(at(), str(folder))


@pytest.mark.parametrize("form", [{"alora_invocation_tokens": [5]}, {"ensure_weight_tying": True}])
def test_forms_of_lora_that_are_not_computed(at, tmp_path, form):
    folder = foreign(tmp_path / "adapter")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | form))
    with pytest.raises(UsageError, match=f"{next(iter(form))} in adapter_config.json"):
        load_adapter(at(), str(folder))


# ---------------------------------------------------------------- the base is the one


def test_the_digest_of_a_base_is_one_for_all_dtypes_and_adapters(at):
    whole = fingerprint.base_weights(at().network)
    assert whole == fingerprint.base_weights(at().network.to(torch.bfloat16))
    model = at()
    add_lora(model, targets=["q_proj", "embed_tokens"], **LORA)
    assert whole == fingerprint.base_weights(model.network)
    assert fingerprint.numbers(model.network) == fingerprint.numbers(at().network)
    model.network.model.layers[1].mlp.down_proj.weight.data[3, 5] *= 1.01
    assert whole != fingerprint.base_weights(model.network)


def test_a_record_names_the_base_whole(at, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = at()
    model.folder = Path("base")
    folder = own(model, tmp_path / "adapter")
    record, config = (
        provenance.read(folder),
        json.loads((folder / "adapter_config.json").read_text()),
    )
    assert record.base == config["base_model_name_or_path"] == str(tmp_path / "base")
    assert record.base_config["rope_parameters.rope_theta"] == 10_000
    assert not {"dtype", "eos_token_id", "attention_dropout"} & {*record.base_config}


def edited(model):
    model.network.model.norm.weight.data[0] += 1


def other_rope(model):
    model.network.config.rope_parameters["rope_theta"] = 5e5


def trained_on(model):
    """A change of every weight by a thousandth, far below bfloat16's spacing."""
    for parameter in model.network.parameters():
        parameter.data.mul_(1.001)


@pytest.mark.parametrize(
    ("change", "words"),
    [(edited, "weights differ"), (trained_on, "weights differ"), (other_rope, "rope_theta")],
    ids=["edited", "trained_on", "other_rope"],
)
def test_another_base_is_refused(at, tmp_path, change, words):
    folder = own(at(), tmp_path / "adapter")
    model = at()
    change(model)
    with pytest.raises(Refused, match=f"(?s)is not that model as it was.*{words}.*--model"):
        load_adapter(model, str(folder))


def test_the_same_base_in_another_dtype_place_and_number_of_files(at, tmp_path):
    folder = own(at(), tmp_path / "adapter")
    shutil.copytree(folder, tmp_path / "elsewhere" / "adapter")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    network.save_pretrained(tmp_path / "copy", max_shard_size="10KB")
    model = at()
    model.network = AutoModelForCausalLM.from_pretrained(tmp_path / "copy", dtype=torch.float32)
    model.folder = tmp_path / "copy"
    assert warnings_of(lambda: load_adapter(model, str(tmp_path / "elsewhere/adapter"))) == []


def test_an_adapter_on_the_model_that_it_was_merged_into(at, tmp_path):
    model = at()
    folder = own(model, tmp_path / "adapter")
    merge(model, tmp_path / "merged", PROBE, torch.float32)
    assert provenance.read(tmp_path / "merged").merged
    merged = at(name="merged")
    merged.network = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with pytest.raises(Refused, match="(?s)merged into it already.*--model .*base"):
        load_adapter(merged, str(folder))


def test_an_adapter_of_another_tool_is_taken_and_said(at, tmp_path):
    folder = foreign(tmp_path / "adapter")
    file = folder / "adapter_config.json"
    for named, words in (("hub/base", "it names hub/base, as the"), ("hub/x", "make sure")):
        written = json.loads(file.read_text()) | {"base_model_name_or_path": named}
        file.write_text(json.dumps(written))
        said = warnings_of(lambda: load_adapter(at(), str(folder)))
        assert len(said) == 1 and "no record" in said[0] and words in said[0]


def test_a_base_is_found_by_a_relative_path_or_said_to_be_gone(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/base").mkdir()
    file = tmp_path / "adapter/adapter_config.json"
    for named, found in (("base", True), ("smollm2", True), ("gone", False), ("", False)):
        file.write_text(json.dumps({"base_model_name_or_path": named}))
        if found:
            assert base_named_by(tmp_path / "adapter").endswith(named)
        else:
            with pytest.raises(UsageError, match="base_model_name_or_path"):
                base_named_by(tmp_path / "adapter")


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["q_proj", "typo"], "called typo.*Correct or remove"),
        ("(q_proj", "unterminated"),
        ("nothing.*", "not found"),
    ],
    ids=["one of a list", "broken expression", "expression without a match"],
)
def test_targets_that_nothing_has_are_refused(targets, words):
    with pytest.raises(UsageError, match=f"(?s)model.lora.targets = .*{words}.*q_proj, up_proj"):
        add_lora(tiny(), targets=targets, **LORA)


def test_targets_that_match_in_a_part_of_the_layers_are_said():
    model = tiny()
    model.network.model.layers[1].mlp.other = model.network.model.layers[1].mlp.up_proj
    del model.network.model.layers[1].mlp.up_proj
    said = warnings_of(lambda: add_lora(model, targets=["q_proj", "up_proj"], **LORA))
    assert len(said) == 1 and "up_proj matches in 1 of the 2 layers" in said[0]
    assert warnings_of(lambda: add_lora(tiny(), targets=["layers.0.mlp.up_proj"], **LORA)) == []
    said = warnings_of(lambda: add_lora(tiny(), targets=r".*\.(q_proj|typo)", **LORA))
    assert len(said) == 1 and "typo in it matches nothing" in said[0]
    assert warnings_of(lambda: add_lora(tiny(), targets=r".*\.(q|v)_proj", **LORA)) == []


# ---------------------------------------------------------------- merging

TIED = {"tie_word_embeddings": True}
EXACT = {
    "patterns": (
        "llama",
        dict(rank_pattern={"down_proj": 4}, alpha_pattern={"q_proj": 32}, use_rslora=True),
        {},
    ),
    "dora": ("llama", dict(use_dora=True), {}),
    "embedding of a tied model": ("llama", dict(target_modules=["embed_tokens"]), TIED),
    "head of a tied model": ("llama", dict(target_modules=["lm_head"]), TIED),
    "both of a tied model": ("llama", dict(target_modules=["lm_head", "embed_tokens"]), TIED),
    "transposed": ("gpt2", dict(target_modules=["c_attn", "c_proj"], use_rslora=True), {}),
    "embedding of gpt2": ("gpt2", dict(target_modules=["wte", "c_attn"]), {}),
    "bias": ("gpt2", dict(target_modules=["c_attn"], lora_bias=True), {}),
}


@pytest.mark.parametrize("kind", EXACT)
def test_a_merge_is_exact(at, tmp_path, kind):
    family, settings, changes = EXACT[kind]
    model = at(family, **changes)
    base = logits(model.network, PROBE)
    load_adapter(model, str(foreign(tmp_path / "adapter", family, settings, **changes)))
    wanted = logits(model.network, PROBE)
    done = merge(model, tmp_path / "merged", PROBE, torch.float32)
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), PROBE)
    assert rms(merged - wanted) < 1e-4 * wanted.std() and rms(base - wanted) > 0.01 * wanted.std()
    untied = "tied" in kind or kind == "embedding of gpt2"
    assert any("two tensors" in note for note in done.notes) == untied
    written = json.loads((tmp_path / "merged/config.json").read_text())
    assert not untied or written["tie_word_embeddings"] is False
    assert model.network.config.tie_word_embeddings == bool(changes or family == "gpt2")


def test_a_bias_without_a_place_is_refused_with_its_cause(at, tmp_path):
    model = at()
    load_adapter(model, str(foreign(tmp_path / "adapter", settings={"lora_bias": True})))
    with pytest.raises(CheckpointError, match="(?s)lora_bias.*q_proj, which has none.*--merge"):
        merge(model, tmp_path / "merged", PROBE, torch.float32)


def test_float32_is_the_default_where_rounding_would_undo_the_adapter(at, tmp_path):
    model = at(dtype=torch.bfloat16)
    add_lora(model, targets=["q_proj"], **LORA)
    moved(model.trainable().values(), by=0.002)
    done = merge(model, tmp_path / "small", PROBE)
    assert done.dtype == torch.float32 and done.lost < 0.01
    assert "written in float32: in bfloat16 rounding would change" in done.notes[0]
    moved(model.trainable().values(), by=3)
    done = merge(model, tmp_path / "large", PROBE)
    assert done.dtype == torch.bfloat16 and done.lost <= ROUNDING and not done.notes


def test_an_adapter_that_does_nothing_loses_nothing(at, tmp_path):
    model = at()
    add_lora(model, targets=["q_proj"], **LORA)
    assert merge(model, tmp_path / "merged", PROBE, torch.float32).lost == 0


# ---------------------------------------------------------------- saving, tried before training


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_sound_model_can_be_saved(at, tmp_path, family):
    model = at(family)
    train_all_weights(model)
    try_saving(model, tmp_path / "whole", {})
    ends = {"llama": ["embed_tokens", "q_proj"], "gpt2": ["wte", "c_attn"]}
    add_lora(model, targets=ends[family], **LORA | {"dora": True})
    masters = {name: p.detach().float() for name, p in model.trainable().items()}
    try_saving(model, tmp_path / "adapter", masters)
    assert load_saved(tmp_path / "adapter", model, torch.float32) is not None


def test_what_cannot_be_saved_is_refused_before_training(at, tmp_path, monkeypatch):
    model = at()
    train_all_weights(model)
    model.network.generation_config.do_sample = False
    model.network.generation_config.temperature = 0.5  # transformers refuses to save it
    with pytest.raises(Refused, match="(?s)cannot be saved, tried before the first.*Nothing"):
        try_saving(model, tmp_path / "settings", {})
    model = at()
    model.network.register_buffer("extra", torch.zeros(1))
    with pytest.raises(Refused, match="cannot be saved.*extra"):
        try_saving(model, tmp_path / "buffer", {})
    model = at()
    add_lora(model, targets=["q_proj"], **LORA)
    masters = {name: p.detach().float() for name, p in model.trainable().items()}
    with monkeypatch.context() as patch:
        patch.setattr("accord.models.export.adapter_state", lambda m, _: m.peft.state_dict())
        name = next(iter(masters))
        with pytest.raises(Refused, match="read back with other values"):
            try_saving(model, tmp_path / "adapter", masters | {name: masters[name] + 1})


# ---------------------------------------------------------------- what was saved is what is loaded


@pytest.mark.parametrize("part", ["weights", "settings"])
def test_an_adapter_that_was_changed_since_it_was_saved_is_refused(at, tmp_path, part):
    folder = own(at(), tmp_path / "adapter")
    if part == "weights":
        file = folder / "adapter_model.safetensors"
        save_file({name: t + 0.01 for name, t in load_file(file).items()}, file)
    else:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 400}))
    with pytest.raises(Refused, match=f"{file.name} was changed since accord.json was written"):
        load_adapter(at(), str(folder))
    (folder / provenance.NAME).unlink()
    load_adapter(at(), str(folder))  # as the refusal says


def test_another_place_of_the_base_is_no_change(at, tmp_path):
    folder = own(at(), tmp_path / "adapter")
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text()) | {"base_model_name_or_path": "elsewhere"}
    file.write_text(json.dumps(settings, indent=8))
    load_adapter(at(), str(folder))


def test_names_that_no_module_has_are_said(at, tmp_path):
    folder = foreign(tmp_path / "adapter")
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"target_modules": ["q_proj", "down_proj", "c_attn"]}))
    said = warnings_of(lambda: load_adapter(at(), str(folder)))
    assert any("no module of" in each and "is called c_attn" in each for each in said)


def test_another_rank_names_the_shapes(at, tmp_path):
    folder = foreign(tmp_path / "adapter")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": 4}))
    with pytest.raises(UsageError, match="does not fit .*size mismatch"):
        load_adapter(at(), str(folder))


def test_an_adapter_of_nan_is_refused(at, tmp_path):
    folder = foreign(tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UsageError, match="1 of its tensors hold NaN or infinite"):
        load_adapter(at(), str(folder))


def test_an_incomplete_adapter_is_called_that(at, tmp_path):
    folder = foreign(tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if ".0." not in n}, file, {"format": "pt"})
    with pytest.raises(
        UsageError, match=r"its file lacks \d+ tensors .* such as base_model"
    ) as told:
        load_adapter(at(), str(folder))
    assert ".reference" not in str(told.value) and "it is incomplete" in str(told.value)


def test_more_positions_of_plain_rope_are_the_same_base(at, tmp_path):
    folder = own(at(), tmp_path / "adapter")
    longer = at(name="longer", max_position_embeddings=4096)
    load_adapter(longer, str(folder))
