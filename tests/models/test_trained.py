"""Is the model the one that was saved: layers that no training touched, models that know no
language, models that look ahead, special tokens without a row. Sound families are silent.
"""

import copy

import pytest
import torch
from forward.tiny import some_trees, tiny
from models.test_sound import Names

from accord.models.causality import causal_finding
from accord.models.fresh_weights import weight_findings
from accord.models.likelihood import PARAGRAPH, adapter_finding, language_finding
from accord.models.lora import add_lora
from accord.models.model_checks import model_findings
from accord.types import Tree

WIDE = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=3, head_dim=32)


@pytest.fixture(scope="module")
def trained():
    """A model of three layers that has learned the paragraph; its rows differ in size, as those of
    trained models do.
    """
    model = tiny("llama", **WIDE)
    model.tokenizer = Names()
    with torch.no_grad():
        for p in model.network.parameters():
            if p.dim() > 1:
                p.div_(12)
                p.mul_(torch.rand(len(p), 1) + 0.5).mul_(torch.rand(1, p.shape[1]) + 0.5)
    ids = torch.tensor([Names()(PARAGRAPH)["input_ids"]])
    optimizer = torch.optim.Adam(model.network.parameters(), 3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        model.network(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.network.zero_grad()
    return model


@pytest.fixture
def model(trained):
    made = copy.deepcopy(trained)
    made.tokenizer = Names()
    return made


def layers(model):
    return model.network.model.layers


def verdicts(model, **options):
    found = {f.check: f for f in model_findings(model, some_trees(), **options)}
    return {name: f for name, f in found.items() if f.verdict != "ok"}


def test_silent_on_a_trained_model(model):
    assert verdicts(model) == {}


@torch.no_grad()
def test_a_layer_of_zeros(model):
    for p in layers(model)[1].parameters():
        p.zero_()
    finding = verdicts(model)["model.layers"]
    assert finding.refused and "hold nothing but zeros" in finding.says
    assert "layers.1.self_attn.q_proj" in finding.says
    assert verdicts(model, allow=("untrained_model",))["model.layers"].verdict == "note"


@torch.no_grad()
def test_one_matrix_of_a_constant(model):
    layers(model)[2].mlp.down_proj.weight.fill_(0.25)
    finding = verdicts(model)["model.layers"]
    assert finding.refused and "value 0.25" in finding.says


@pytest.mark.parametrize("std", [0.02, 0.2, "uniform"])
@torch.no_grad()
def test_a_layer_drawn_anew(model, std):
    torch.manual_seed(1)
    for p in layers(model)[1].parameters():
        if p.dim() > 1:
            p.uniform_(-0.1, 0.1) if std == "uniform" else p.normal_(0, std)
    finding = verdicts(model)["model.layers"]
    assert finding.refused and "as an initialisation draws them" in finding.says
    assert len(finding.evidence["tensors"]) >= 3


def test_a_model_that_is_random_as_a_whole_is_judged_by_its_language():
    model = tiny("llama", **WIDE)
    model.tokenizer = Names()
    assert [f.verdict for f in weight_findings(model)] == ["ok"]
    found = verdicts(model)
    assert list(found) == ["model.language"] and found["model.language"].refused
    says = found["model.language"].says
    assert "no more than chance" in says and "ln V = 4.57" in says
    assert "--allow untrained_model" in found["model.language"].remedy
    assert verdicts(model, allow=("untrained_model",))["model.language"].verdict == "note"


def test_a_tokenizer_with_other_ids(model):
    class Permuted(Names):
        def __call__(self, text):
            order = torch.randperm(97, generator=torch.Generator().manual_seed(3)).tolist()
            return {"input_ids": [order[i] for i in super().__call__(text)["input_ids"]]}

    model.tokenizer = Permuted()
    assert verdicts(model)["model.language"].refused


def test_rows_that_are_known_settle_it(model):
    """A model of another language knows its own rows, if not the paragraph."""
    ids = tuple(model.tokenizer(PARAGRAPH)["input_ids"])
    trees = [type(some_trees()[0])(ids[:10], (ids[10:],), 0)]

    class Foreign(Names):
        def __call__(self, text):
            return {"input_ids": [96 - i for i in super().__call__(text)["input_ids"]]}

    model.tokenizer = Foreign()
    assert language_finding(model, some_trees()).refused
    assert language_finding(model, trees).verdict == "ok"


def test_special_tokens_behind_the_vocabulary():
    model = tiny("llama")
    model.tokenizer = Names(pad=97)
    assert verdicts(model)["model.special_tokens"].verdict == "note"
    model.tokenizer.eos_token_id = 98
    finding = verdicts(model)["model.special_tokens"]
    assert finding.refused and "answers could never begin or end" in finding.says


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "phi3", "mistral", "gemma2", "mixtral", "mamba", "bloom"]
)
def test_sound_families_are_causal(family):
    assert causal_finding(tiny(family), some_trees()).verdict == "ok"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_that_looks_ahead(family):
    model = tiny(family, is_causal=False)
    for module in model.network.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    model.network.set_attn_implementation("sdpa")

    def unmasked(module, args, kwargs):
        length = kwargs["input_ids"].shape[1]
        return args, kwargs | {"attention_mask": torch.zeros(1, 1, length, length)}

    model.network.register_forward_pre_hook(unmasked, with_kwargs=True)
    finding = causal_finding(model, some_trees())
    assert finding.refused and "the model looks ahead" in finding.says


def test_an_adapter_that_makes_noise_of_a_model(model):
    ids = tuple(Names()(PARAGRAPH)["input_ids"])
    rows = [Tree(ids[:20], (ids[20:],), 0)]
    add_lora(model, rank=2, alpha=4.0, targets="attention", dropout=0.0, dora=False, seed=0)
    assert adapter_finding(model, rows).verdict == "ok"
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.normal_(std=5.0)
    found = adapter_finding(model, rows)
    assert (
        found.verdict in ("warning", "refused") and "takes away what the model knew" in found.says
    )
    assert adapter_finding(model, rows, permitted=True).verdict == "warning"
