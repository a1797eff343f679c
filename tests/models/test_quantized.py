"""A quantised base is the dense model of its dequantised weights: the same numbers, the same
gradients, before and after a pass in evaluation mode.
"""

import copy
import json
from importlib import metadata

import pytest
import torch
import torch.nn.functional as F
from forward.tiny import gradients, some_trees, tiny
from torch import nn
from transformers import AutoModelForSequenceClassification

from accord.config.quantize_section import QuantizeConfig
from accord.forward.choose import choose
from accord.models import fingerprint, packing, quantized
from accord.models.fresh_weights import weight_findings
from accord.models.lean_layers import make_lean
from accord.models.lora import add_lora
from accord.models.model_checks import findings_of_weights
from accord.models.packing import KINDS, NF4, NF4_BITS, require_possible
from accord.models.quantized import (
    QuantizedLinear,
    count_weights,
    dequantize,
    named_weights,
    packable_weights,
    quantize,
    quantized_layers,
    stored_bytes,
)
from accord.models.recompute import recompute_activations
from accord.sampling.onednn_weights import packed_weights
from accord.types import UsageError

pytest.importorskip("bitsandbytes")

NF4_DOUBLE, NF4_PLAIN = QuantizeConfig(kind="nf4"), QuantizeConfig(kind="nf4", double=False)
INT8 = QuantizeConfig(kind="int8")
EVERY = {"nf4": NF4_DOUBLE, "nf4, scales in float32": NF4_PLAIN, "int8": INT8}
every_kind = pytest.mark.parametrize("settings", EVERY.values(), ids=EVERY)
# nothing divides anything: blocks of 64 end inside a row, and the last one is short
SHAPES = [(32, 32), (16, 96), (3, 64), (5, 37), (8, 1), (7, 130), (24, 44), (64, 320)]
LORA = dict(rank=2, alpha=4.0, targets="all-linear", dropout=0.0, dora=False, seed=0)


def drawn(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def quantised(family="llama", settings=NF4_DOUBLE, dtype=torch.float32, **changes):
    model = tiny(family, dtype, **changes)
    model.quantization = quantize(model.network, settings, family)
    return model


def twin(model):
    """The dense model of the dequantised weights."""
    dense = copy.deepcopy(model)
    dequantize(dense.network)
    return dense


# ---------------------------------------------------------------- packing


def nf4_by_definition(packed, shape):
    """Each byte holds two places of the table, the former in its high bits; each 64 weights in the
    order of rows share a scale.
    """
    codes = packed["codes"].tolist()
    places = [place for byte in codes for place in (byte >> 4, byte & 15)][: shape[0] * shape[1]]
    scales = scales_by_definition(packed)
    values = [torch.tensor(NF4[p]) * scales[i // 64] for i, p in enumerate(places)]
    return torch.stack(values).reshape(shape)


def scales_by_definition(packed):
    """Scales themselves, or their mean and in 8 bits the rest of them, 256 to one outer scale."""
    if "mean" not in packed:
        return packed["scales"]
    from bitsandbytes.functional import create_dynamic_map

    rest = create_dynamic_map()[packed["scales"].long()]
    outer = packed["outer_scales"].repeat_interleave(256)[: len(rest)]
    return rest * outer + packed["mean"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("double", [False, True])
def test_nf4_is_its_definition(shape, double):
    weight = drawn(shape)
    packed = KINDS["nf4"].pack(weight, double)
    found = KINDS["nf4"].unpack(packed, shape, torch.float32)
    torch.testing.assert_close(found, nf4_by_definition(packed, shape), rtol=1e-6, atol=0)
    # each weight has the nearest of the 16 values of its block
    blocks = F.pad(weight.reshape(-1), (0, -weight.numel() % 64)).view(-1, 64)
    scales = blocks.abs().amax(1)
    table = torch.tensor(NF4)
    nearest = (blocks / scales[:, None]).unsqueeze(-1).sub(table).abs().amin(-1) * scales[:, None]
    if not double:
        assert torch.equal(packed["scales"], scales)
        off = (found - weight).abs().reshape(-1)
        assert (off - nearest.reshape(-1)[: len(off)]).abs().max() < 1e-6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8_is_off_by_half_a_step_at_most(shape):
    weight = drawn(shape)
    weight[0] = 0.0
    packed = KINDS["int8"].pack(weight, False)
    found = KINDS["int8"].unpack(packed, shape, torch.float32)
    scales = weight.abs().amax(1, keepdim=True) / 127
    assert torch.equal(packed["scales"], scales) and packed["codes"].dtype == torch.int8
    assert bool(((found - weight).abs() <= scales * 0.5001).all())
    assert torch.equal(found[0], torch.zeros(shape[1]))


@every_kind
def test_other_dtypes_have_the_same_weights_rounded(settings):
    kind, shape = KINDS[settings.kind], (7, 130)
    packed = kind.pack(drawn(shape), bool(settings.double))
    exact = kind.unpack(packed, shape, torch.float32)
    for dtype in (torch.bfloat16, torch.float64):
        assert torch.equal(kind.unpack(packed, shape, dtype), exact.to(dtype))


# ---------------------------------------------------------------- a layer


@every_kind
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_is_a_dense_one_of_its_weights(settings, bias):
    torch.manual_seed(0)
    layer = QuantizedLinear(nn.Linear(37, 24, bias=bias), settings).eval()
    dense = nn.Linear(37, 24, bias=bias)
    dense.weight = nn.Parameter(layer.weight.clone())
    dense.bias = layer.bias
    one, other = (drawn((2, 5, 37), 1).requires_grad_() for _ in range(2))
    for x, module in ((one, layer), (other, dense)):
        module(x).square().sum().backward()
    assert torch.equal(layer(one), dense(other)) and torch.equal(one.grad, other.grad)


def test_its_bias_trains_where_it_is_asked_to():
    layer = QuantizedLinear(nn.Linear(37, 24), INT8)
    x = drawn((2, 5, 37), 1)
    weights = drawn((2, 5, 24), 2)
    (layer(x) * weights).sum().backward()
    torch.testing.assert_close(layer.bias.grad, weights.sum((0, 1)))


@every_kind
def test_casts_change_what_it_computes_in_and_nothing_else(settings):
    layer = QuantizedLinear(nn.Linear(130, 24), settings)
    before = {name: tensor.clone() for name, tensor in layer.packed.items()}
    exact = layer.weight
    layer.to(torch.bfloat16)
    assert layer.weight.dtype == layer.bias.dtype == torch.bfloat16
    assert torch.equal(layer.weight, exact.to(torch.bfloat16))
    assert torch.equal(layer.double().weight, exact.double())
    for name, tensor in layer.packed.items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name]), name
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)


def test_writing_into_its_weight_is_an_error():
    layer = QuantizedLinear(nn.Linear(64, 24), INT8)
    for value in (torch.zeros(24, 64), nn.Parameter(torch.zeros(24, 64))):
        with pytest.raises((AttributeError, KeyError)):
            layer.weight = value


# ---------------------------------------------------------------- a model


@every_kind
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox", "mixtral"])
@pytest.mark.parametrize("path", ["tree", "padded"])
def test_log_probs_and_gradients_are_those_of_the_dense_model(family, path, settings):
    model = quantised(family, settings)
    dense = twin(model)
    assert [type(m) for m in dense.network.modules() if isinstance(m, QuantizedLinear)] == []
    found = []
    for each in (model, dense):
        add_lora(each, **LORA)
        with torch.no_grad():
            for number, p in enumerate(each.trainable().values()):
                p.add_(drawn(p.shape, number) * 0.1)
        forward = choose(each, some_trees(), path)
        values = forward.token_logps(some_trees()).values
        found.append((values, gradients(each, values)))
    (one, slopes), (other, wanted) = found
    assert torch.equal(one, other)
    assert slopes.keys() == wanted.keys()
    for name in wanted:
        assert wanted[name].abs().max() > 0
        assert (slopes[name] - wanted[name]).norm() <= 1e-6 * wanted[name].norm(), name


def test_recomputed_layers_give_the_same_gradient():
    found = []
    for recompute in (False, True):
        model = quantised()
        add_lora(model, **LORA)
        if recompute:
            assert recompute_activations(model) == 2
        values = choose(model, some_trees(), "tree").token_logps(some_trees()).values
        found.append(gradients(model, values))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def trained_slopes(model):
    values = choose(model, some_trees(), "padded").token_logps(some_trees()).values
    return gradients(model, values)


@every_kind
def test_a_pass_without_gradients_leaves_the_gradients_there(settings):
    """The trap: bitsandbytes repacks a layer in such a pass, and nothing below it trains again."""
    model = quantised(settings=settings, dtype=torch.bfloat16)
    dense = twin(model)
    for each in (model, dense):
        add_lora(each, **LORA)
        with torch.no_grad():
            each.network(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False)
    slopes, wanted = trained_slopes(model), trained_slopes(dense)
    moved = [name for name, slope in wanted.items() if bool(slope.any())]
    assert moved and all(torch.equal(slopes[name], wanted[name]) for name in wanted)


def test_bitsandbytes_own_layer_falls_into_the_trap():
    """The reason for a layer of our own; where this fails, their layer could be looked at again."""
    import bitsandbytes
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("bitsandbytes repacks on processors with AVX512-BF16 alone")
    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16)
    layer = layer.to("cpu").eval()
    x = drawn((2, 64), dtype=torch.bfloat16)
    with torch.no_grad():
        layer(x)
    x.requires_grad_()
    with pytest.warns(UserWarning, match="an autograd kernel was not registered"):
        layer(x).sum().backward()
    assert x.grad is None, "a gradient passes: the trap is gone in this release"


def test_bitsandbytes_unpacks_some_shapes_wrongly():
    """The reason for rows of one block each."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    def off(weight):
        return (dequantize_4bit(*quantize_4bit(weight, quant_type="nf4")) - weight).norm().item()

    weight = drawn((64, 96))
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("the kernel of other processors was not looked at")
    assert off(weight) > 2 * off(weight.view(-1, 64))


# ---------------------------------------------------------------- what is quantised, and its size


@every_kind
def test_trunk_layers_alone_are_quantised(settings):
    model = quantised(settings=settings)
    names = {path.rpartition(".")[2] for path, _ in quantized_layers(model.network)}
    assert names == {*("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")}
    assert type(model.network.lm_head) is nn.Linear
    assert all(p.dtype == torch.float32 for p in model.network.parameters())
    before = tiny()
    assert count_weights(model.network) == count_weights(before.network)
    assert packable_weights(before.network) == model.quantization.weights
    shapes = {name: tuple(p.shape) for name, p in before.network.named_parameters()}
    assert {name: tuple(p.shape) for name, p in named_weights(model.network)} == shapes


def test_the_classifier_of_a_model_is_quantised_alike():
    """A reward model's base is read as a classifier: the same layers, and never its head."""
    model = quantised()
    network = AutoModelForSequenceClassification.from_config(model.network.config)
    quantize(network, NF4_DOUBLE, "llama")
    ours, theirs = (
        [path for path, _ in quantized_layers(each)] for each in (model.network, network)
    )
    assert ours == theirs and type(network.score) is nn.Linear


def test_what_is_kept_stays():
    settings = QuantizeConfig(kind="nf4", keep=("down_proj", "layers.1.self_attn.q_proj"))
    model = quantised(settings=settings)
    layers = [path for path, _ in quantized_layers(model.network)]
    assert len(layers) == 14 - 3 and "model.layers.0.self_attn.q_proj" in layers
    assert type(model.network.model.layers[1].self_attn.q_proj) is nn.Linear
    with pytest.raises(UsageError, match="(?s)keep: no linear layer of .* is called wo.*q_proj"):
        quantised(settings=QuantizeConfig(kind="nf4", keep=("wo",)))


def test_gates_and_shared_weights_stay():
    model = tiny()
    block = model.network.model.layers[0]
    block.gate = nn.Linear(24, 1)
    block.mlp.up_proj.weight = block.mlp.gate_proj.weight
    block.self_attn.k_proj = block.self_attn.v_proj  # one layer in two places
    quantize(model.network, INT8, "llama")
    assert type(block.gate) is nn.Linear and type(block.mlp.up_proj) is nn.Linear
    assert type(block.self_attn.k_proj) is QuantizedLinear
    assert block.self_attn.k_proj is block.self_attn.v_proj


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(UsageError, match="(?s)gpt2.*no linear layer.*model.quantize=null"):
        quantised("gpt2")


def test_bits_and_bytes():
    """The bits of a weight follow from blocks of 64 and 256; of a model of this shape two fifths of
    bfloat16's bytes are left.
    """
    wide = dict(hidden_size=256, intermediate_size=704, head_dim=64)
    for settings, bits in ((NF4_DOUBLE, NF4_BITS), (NF4_PLAIN, 4.5), (INT8, 8 + 32 / 320)):
        model = quantised("llama", settings, torch.bfloat16, **wide)
        found = model.quantization
        assert found.bytes == stored_bytes(model.network) < found.bytes_before
        assert found.bits == pytest.approx(bits, rel=0.01)
        if settings is NF4_DOUBLE:
            assert found.bytes <= 0.41 * found.bytes_before
    assert pytest.approx(4.127, abs=5e-4) == NF4_BITS


@every_kind
def test_it_says_how_far_the_weights_are_off(settings):
    model = quantised(settings=settings)
    dense = dict(tiny().network.named_parameters())
    layers = {f"{path}.weight" for path, _ in quantized_layers(model.network)}
    wrong = sum(
        (w - dense[n]).square().sum().item() for n, w in named_weights(model.network) if n in layers
    )
    own = sum(dense[name].square().sum().item() for name in layers)
    assert model.quantization.error == pytest.approx((wrong / own) ** 0.5, rel=1e-4)
    assert 0.001 < model.quantization.error < 0.15
    told = [f for f in findings_of_weights_of(model) if f.check == "model.quantize"]
    assert len(told) == 1 and f"off by {model.quantization.error:.1%}" in told[0].says


def findings_of_weights_of(model):
    class Words(dict):
        eos_token_id = bos_token_id = None

        def get_added_vocab(self):
            return {}

    model.tokenizer = Words()
    return findings_of_weights(model, some_trees())


def test_the_base_is_known_by_the_weights_that_it_was_made_from():
    model = tiny()
    dense = fingerprint.base_weights(model.network)
    prints = {fingerprint.weights(model.network)}
    for settings in EVERY.values():
        made = quantised(settings=settings)
        assert made.quantization.dense == dense
        prints.add(fingerprint.weights(made.network))
    assert len(prints) == 4


def test_quantising_twice_gives_the_same_bits():
    one, other = quantised(), quantised()
    assert fingerprint.weights(one.network) == fingerprint.weights(other.network)


def test_answers_are_drawn_with_unpacked_weights_and_the_same_numbers():
    """Unpacked at every token it would cost as much as the products."""
    model = quantised(dtype=torch.bfloat16)
    row = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = model.network(input_ids=row, use_cache=False).logits
        with packed_weights(model.network, tokens=20) as many:
            if not many:
                pytest.skip("oneDNN blocks no bfloat16 weights on this processor")
            assert many == 15, "the head as well"
            inside = model.network(input_ids=row, use_cache=False).logits
        assert not any("forward" in vars(layer) for _, layer in quantized_layers(model.network))
    torch.testing.assert_close(inside, before, rtol=0.02, atol=0.02 * before.abs().max().item())


def test_a_lean_layer_over_quantised_ones():
    """The check that a lean layer gives the module's own numbers needs a weight of the module."""
    model = quantised("llama", mlp_bias=True)
    before = model.network(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert make_lean(model.network) == 2 + 5
    assert torch.equal(model.network(input_ids=torch.tensor([[5, 6, 7]])).logits, before)


# ---------------------------------------------------------------- broken weights


@every_kind
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_weight_is_found_behind_the_packing(settings, value):
    model = tiny()
    with torch.no_grad():
        model.network.model.layers[0].mlp.up_proj.weight[3, 5] = value
    model.quantization = quantize(model.network, settings, "llama")
    found = [f for f in findings_of_weights_of(model) if f.check == "model.weights"]
    assert found[0].refused and "up_proj" in found[0].says


def test_a_constant_matrix_is_found_behind_the_packing():
    model = tiny()
    with torch.no_grad():
        model.network.model.layers[0].mlp.up_proj.weight.zero_()
    model.quantization = quantize(model.network, INT8, "llama")
    (found,) = weight_findings(model)
    assert found.refused and "nothing but zeros" in found.says and "up_proj" in found.says


def test_a_layer_that_would_be_damaged_is_refused(monkeypatch):
    """A library that packs something else than it says."""
    right = KINDS["nf4"]

    def wrong(packed, shape, dtype):
        return right.unpack(packed, shape, dtype) * 1.5

    monkeypatch.setitem(KINDS, "nf4", packing.Kind(right.pack, wrong, right.problem))
    with pytest.raises(UsageError, match=r"(?s)off by \d+% of their size.*keep=\[.*int8"):
        quantised()


# ---------------------------------------------------------------- the library


@pytest.fixture
def asked_anew():
    packing._nf4_problem.cache_clear()
    yield
    packing._nf4_problem.cache_clear()


def missing(name):
    raise metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    "version, words",
    [
        (missing, "not installed.*pip.*install.*bitsandbytes>=0.50.*model.quantize=int8"),
        (lambda name: "0.49.2", "0.50 or newer, and 0.49.2 is installed.*bitsandbytes>=0.50"),
        (lambda name: "dev", "0.50 or newer, and dev is installed"),
    ],
    ids=["missing", "too old", "of no version"],
)
def test_a_library_that_does_not_serve_is_named(version, words, monkeypatch, asked_anew):
    monkeypatch.setattr(packing.metadata, "version", version)
    with pytest.raises(UsageError, match=f"(?s)model.quantize = nf4: .*{words}"):
        require_possible("nf4", torch.device("cpu"))
    require_possible("int8", torch.device("cpu"))


def test_a_library_without_this_processor(monkeypatch, asked_anew):
    def none_for_it():
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(packing, "_functional", none_for_it)
    with pytest.raises(UsageError, match="(?s)does not work on cpu.*no kernel image"):
        require_possible("nf4", torch.device("cpu"))


def test_a_library_that_computes_something_else(monkeypatch, asked_anew):
    right = packing._unpack_nf4
    monkeypatch.setattr(packing, "_unpack_nf4", lambda *given: right(*given) * 1.01)
    with pytest.raises(UsageError, match="(?s)computes something else than nf4 on cpu.*came back"):
        require_possible("nf4", torch.device("cpu"))


def test_this_library_serves():
    require_possible("nf4", torch.device("cpu"))


# ---------------------------------------------------------------- settings


def test_settings_that_do_nothing_are_errors():
    with pytest.raises(ValueError, match="int8 has one for each output"):
        QuantizeConfig(kind="int8", double=True)
    assert QuantizeConfig(kind="nf4").double is True and QuantizeConfig(kind="int8").double is None
    dumped = json.loads(QuantizeConfig(kind="int8").model_dump_json())
    assert QuantizeConfig.model_validate(dumped) == QuantizeConfig(kind="int8")


@every_kind
def test_the_setting_is_written_as_set_takes_it(settings):
    import shlex

    from accord.config.schema import make_config, parse_assignment

    (word,) = shlex.split(quantized.assignment(settings))
    path, value = parse_assignment(word)
    config = make_config({"data": {"train": "-"}, path[0]: {path[1]: value}})
    assert config.model.quantize == settings
