"""What accord expects of torch, transformers and peft beyond what they promise, and what it does
where that is missing; and that no other module reads such an attribute.
"""

from __future__ import annotations

import ast
import builtins
import subprocess
import sys
import types
from functools import cache
from pathlib import Path

import peft.tuners.tuners_utils
import pytest
import torch
import transformers.cache_utils
import transformers.masking_utils
import transformers.modeling_utils
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from accord import compat

pytestmark = pytest.mark.versions
SOURCE = Path(__file__).parents[1] / "src/accord"


@pytest.fixture
def network():
    torch.manual_seed(0)
    shape = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
    return LlamaForCausalLM(LlamaConfig(vocab_size=37, eos_token_id=5, **shape)).eval()


@pytest.fixture
def adapted(network):
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(network, config)
    model.add_adapter("other", config)
    return model.eval()


@pytest.fixture
def no_module(monkeypatch):
    """Names that cannot be imported from a module."""

    def forbid(module: str, name: str):
        real = builtins.__import__

        def imported(wanted, globals=None, locals=None, fromlist=(), level=0):
            if wanted == module and name in (fromlist or ()):
                raise ImportError(f"cannot import name {name!r} from {module!r}")
            return real(wanted, globals, locals, fromlist, level)

        monkeypatch.setattr(builtins, "__import__", imported)

    return forbid


@pytest.fixture
def no_kernel(monkeypatch):
    """A namespace of torch's operators that lacks one."""

    def without(space: str, name: str):
        real = getattr(torch.ops, space)

        class Lacking:
            def __getattr__(self, asked):
                if asked == name:
                    raise AttributeError(asked)
                return getattr(real, asked)

        monkeypatch.setattr(torch.ops, space, Lacking())

    return without


def refusal(package: str, attribute: str):
    """What a refusal must say: the package, the attribute, and the command that mends it."""
    return pytest.raises(compat.Unavailable, match=rf"(?s){package}.*{attribute}.*pip install ")


# ---------------------------------------------------------------- attention


def test_the_name_of_the_attention(network):
    assert compat.attention_name(network) == "sdpa"
    network.set_attn_implementation("eager")
    assert compat.attention_name(network) == "eager"
    network.config = types.SimpleNamespace()
    assert compat.attention_name(network) is None and not compat.can_switch_attention(network)


def test_whether_attention_can_be_switched(network, monkeypatch):
    assert compat.can_switch_attention(network)
    monkeypatch.setattr(type(network), "_can_set_attn_implementation", None)
    assert not compat.can_switch_attention(network)


def test_whether_there_is_sdpa(network, monkeypatch):
    assert compat.has_sdpa(network) is True
    monkeypatch.delattr(transformers.modeling_utils.PreTrainedModel, "_supports_sdpa")
    for kind in type(network).__mro__:
        if "_supports_sdpa" in vars(kind):
            monkeypatch.delattr(kind, "_supports_sdpa")
    assert compat.has_sdpa(network) is False


@torch.no_grad()
def test_an_attention_of_ours_is_called(network):
    """With keys and queries [B, heads, T, d], and its result is used."""
    seen = []

    def attend(module, query, key, value, attention_mask, **options):
        seen.append((query.shape, key.shape))
        return compat.sdpa_attention(module, query, key, value, attention_mask, **options)

    assert compat.register_attention("accord_test", attend)
    ids = torch.tensor([[1, 2, 3]])
    wanted = network(ids).logits
    network.set_attn_implementation("accord_test")
    assert_close(network(ids).logits, wanted)
    assert seen == [((1, 4, 3, 4), (1, 4, 3, 4))] * 2


@pytest.mark.parametrize(
    "module, name",
    [
        ("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS"),
        ("transformers.masking_utils", "ALL_MASK_ATTENTION_FUNCTIONS"),
        ("transformers.masking_utils", "sdpa_mask"),
    ],
)
def test_without_tables_of_attention_nothing_is_registered(module, name, no_module):
    no_module(module, name)
    assert compat.register_attention("accord_never", print) is False


def test_without_tables_of_attention_the_model_keeps_its_own(network, monkeypatch):
    """The tree path is not taken then, and decoding shares nothing."""
    from accord.forward import attention, choose
    from accord.sampling import shared_prompt

    monkeypatch.setattr(compat, "register_attention", lambda name, function: False)
    assert attention.register() is False
    assert not choose._use_tree_attention(types.SimpleNamespace(network=network))
    assert network.config._attn_implementation == "sdpa"
    with refusal("transformers", "table of attentions"):
        shared_prompt.register()


def test_without_transformers_own_sdpa_there_is_a_refusal(no_module):
    no_module("transformers.integrations.sdpa_attention", "sdpa_attention_forward")
    with refusal("transformers", "sdpa_attention_forward"):
        compat.sdpa_attention()


# ---------------------------------------------------------------- caches


@torch.no_grad()
def test_layers_of_a_cache(network):
    """What decoding needs of them, and that growing layers are exactly of this class."""
    cache = compat.cache_of(network(torch.tensor([[1, 2, 3], [4, 5, 6]]), use_cache=True))
    layers = compat.cache_layers(cache)
    assert len(layers) == 2 and all(type(layer) is compat.dynamic_layer() for layer in layers)
    layer = layers[0]
    assert layer.keys.shape == layer.values.shape == (2, 4, 3, 4) and layer.is_initialized
    assert layer.get_seq_length() == 3
    new = torch.zeros(2, 4, 1, 4)
    keys, values = layer.update(new, new)
    assert keys is layer.keys and values is layer.values and keys.shape[2] == 4
    cache.batch_select_indices(torch.tensor([1, 1, 0]))
    assert layer.keys.shape == (3, 4, 4, 4)


def test_without_the_class_of_layers(no_module, monkeypatch):
    """Prompts are not shared, which is said; rows are selected as transformers does it."""
    from accord.sampling import kv_cache, shared_prompt

    no_module("transformers.cache_utils", "DynamicLayer")
    assert compat.dynamic_layer() is compat.NoSuchLayer
    monkeypatch.setattr(shared_prompt, "DynamicLayer", compat.NoSuchLayer)
    monkeypatch.setattr(kv_cache, "DynamicLayer", compat.NoSuchLayer)
    with refusal("transformers", "DynamicLayer"):
        shared_prompt.shared_cache(None, torch.ones(1, 1), torch.zeros(1), 1)
    cache = transformers.DynamicCache()
    cache.update(torch.zeros(2, 1, 3, 4), torch.zeros(2, 1, 3, 4), 0)
    kv_cache.spread_rows(cache, torch.tensor([0, 1, 1]), 5)
    assert type(cache.layers[0]) is transformers.cache_utils.DynamicLayer
    assert cache.layers[0].keys.shape == (3, 1, 3, 4)


def test_a_cache_without_layers():
    assert compat.cache_layers(object()) == () == compat.cache_layers(None)


@torch.no_grad()
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_cache_is_handed_over_by_its_name(kind, network):
    """Without a warning of deprecation; and it is used: two tokens after one are as three."""
    if kind == "gpt2":
        shape = dict(n_embd=16, n_layer=2, n_head=4)
        network = GPT2LMHeadModel(GPT2Config(vocab_size=37, **shape)).eval()
    ids = torch.tensor([[1, 2, 3]])
    wanted = network(ids).logits[:, 2]
    name = compat.cache_argument(network)
    cache = compat.cache_of(network(input_ids=ids[:, :2], use_cache=True, **{name: None}))
    found = network(input_ids=ids[:, 2:], use_cache=True, **{name: cache})
    assert_close(found.logits[:, 0], wanted)
    assert compat.cache_layers(compat.cache_of(found))[0].get_seq_length() == 3


def test_the_name_of_a_cache_is_what_forward_calls_it():
    class New:
        def forward(self, input_ids, cache=None): ...

    class Old:
        def forward(self, input_ids, past_key_values=None, **rest): ...

    assert (compat.cache_argument(New()), compat.cache_argument(Old())) == (
        "cache",
        "past_key_values",
    )


def test_an_output_without_a_cache_is_refused():
    held = object()
    assert compat.cache_of(types.SimpleNamespace(cache=held)) is held
    assert compat.cache_of(types.SimpleNamespace(past_key_values=held)) is held
    assert compat.cache_of(types.SimpleNamespace(cache=None, past_key_values=held)) is held
    with refusal("transformers", "cache"):
        compat.cache_of(types.SimpleNamespace(logits=held))


# ---------------------------------------------------------------- parts of networks


def test_layers_that_can_be_recomputed(network, no_module):
    kind = compat.checkpointed_layer()
    assert [isinstance(layer, kind) for layer in network.model.layers] == [True, True]
    no_module("transformers.modeling_layers", "GradientCheckpointingLayer")
    from accord.models.recompute import recompute_activations

    assert compat.checkpointed_layer() is compat.NoSuchLayer
    assert recompute_activations(types.SimpleNamespace(network=network)) == 0


def test_linear_layers_of_gpt2(no_module):
    from accord.models.targets import linear_names

    network = GPT2LMHeadModel(GPT2Config(vocab_size=37, n_embd=16, n_layer=1, n_head=4))
    assert "c_attn" in linear_names(network)
    no_module("transformers.pytorch_utils", "Conv1D")
    assert "c_attn" not in linear_names(network) and "lm_head" in linear_names(network)


# ---------------------------------------------------------------- adapters


def test_layers_with_adapters(adapted, no_module):
    assert len(compat.adapter_layers(adapted)) == 2
    no_module("peft.tuners.tuners_utils", "BaseTunerLayer")
    with refusal("peft", "BaseTunerLayer"):
        compat.adapter_layers(adapted)


@torch.no_grad()
def test_adapters_that_transformers_loaded(network):
    assert not compat.adapters_were_loaded(network)
    assert not compat.adapters_were_loaded(object())
    network._hf_peft_config_loaded = True
    assert compat.adapters_were_loaded(network)


def test_one_adapter_alone(adapted):
    """Inside, the network computes by it; outside, and for gradients, nothing changes."""
    ids = torch.tensor([[1, 2, 3]])
    own, layers = adapted(ids).logits, compat.adapter_layers(adapted)
    flags = [p.requires_grad for p in adapted.parameters()]
    with compat.only_adapter(layers, "other"):
        inside = adapted(ids).logits
        assert [p.requires_grad for p in adapted.parameters()] == flags
    assert_close(adapted(ids).logits, own, rtol=0, atol=0)
    adapted.set_adapter("other")
    assert_close(adapted(ids).logits, inside, rtol=0, atol=0)
    assert not torch.equal(own, inside)


@torch.no_grad()
def test_no_adapter(adapted):
    ids = torch.tensor([[1, 2, 3]])
    own, layers = adapted(ids).logits, compat.adapter_layers(adapted)
    flags = [p.requires_grad for p in adapted.parameters()]
    with compat.without_adapters(layers):
        inside = adapted(ids).logits
        assert [p.requires_grad for p in adapted.parameters()] == flags
    assert_close(adapted(ids).logits, own, rtol=0, atol=0)
    with adapted.disable_adapter():
        assert_close(adapted(ids).logits, inside, rtol=0, atol=0)
    assert not torch.equal(own, inside)


@pytest.mark.parametrize("way", ["only_adapter", "without_adapters"])
def test_adapters_that_do_not_listen_are_refused(way, adapted, monkeypatch):
    """Where peft keeps its state elsewhere, ours would be an attribute that nobody reads: the
    reference would be the policy.
    """
    kind = peft.tuners.tuners_utils.BaseTunerLayer
    monkeypatch.setattr(kind, "active_adapters", property(lambda self: ["default"]))
    monkeypatch.setattr(kind, "disable_adapters", property(lambda self: False))
    layers = compat.adapter_layers(adapted)
    inside = compat.only_adapter(layers, "other") if way == "only_adapter" else None
    with refusal("peft", "BaseTunerLayer"), inside or compat.without_adapters(layers):
        pytest.fail("it went on")


# ---------------------------------------------------------------- kernels


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_gradient_of_a_softmax(dtype, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 5, 7, generator=generator).softmax(-1).to(dtype)
    grad = torch.randn(3, 5, 7, generator=generator).to(dtype)
    exact, g = weights.double(), grad.double()
    wanted = exact * (g - (exact * g).sum(-1, keepdim=True))
    bounds = dict(rtol=0.02, atol=0.01) if dtype == torch.bfloat16 else dict(rtol=1e-5, atol=1e-6)
    kernel = compat.softmax_backward(grad, weights)
    monkeypatch.delattr(torch, "_softmax_backward_data")
    fallback = compat.softmax_backward(grad, weights)
    for found in (kernel, fallback):
        assert found.dtype == dtype
        assert_close(found.double(), wanted, **bounds)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_gradient_of_silu(dtype, no_kernel):
    x = torch.linspace(-4, 4, 33, dtype=torch.float64).requires_grad_()
    grad = torch.linspace(-1, 2, 33, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(torch.nn.functional.silu(x), x, grad)
    bounds = dict(rtol=0.02, atol=0.01) if dtype == torch.bfloat16 else dict(rtol=1e-5, atol=1e-6)
    arguments = grad.to(dtype), x.detach().to(dtype)
    kernel = compat.silu_backward(*arguments)
    no_kernel("aten", "silu_backward")
    for found in (kernel, compat.silu_backward(*arguments)):
        assert found.dtype == dtype
        assert_close(found.double(), wanted, **bounds)


def test_attention_that_tells_its_log_sum_exp(no_kernel):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, generator=generator) for n in (5, 6, 6))
    mask = torch.zeros(2, 1, 1, 6)
    mask[1, ..., :2] = -torch.inf
    out, sums = compat.attention_with_sums(q, k, v, mask, 0.3)
    scores = 0.3 * q @ k.mT + mask
    assert_close(out, scores.softmax(-1) @ v)
    assert_close(sums, scores.logsumexp(-1))
    no_kernel("aten", "_scaled_dot_product_flash_attention_for_cpu")
    with refusal("torch", "flash_attention_for_cpu"):
        compat.attention_with_sums(q, k, v, mask, 0.3)


def test_whether_the_processor_has_bfloat16(no_kernel):
    found = compat.cpu_has_bfloat16()
    assert found == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    no_kernel("mkldnn", "_is_mkldnn_bf16_supported")
    assert compat.cpu_has_bfloat16() is False


def test_blocked_weights(no_kernel):
    if compat.cpu_has_bfloat16():
        weight, bias, x = (torch.randn(shape).bfloat16() for shape in ((6, 4), (6,), (3, 4)))
        found = compat.multiply_blocked(compat.blocked_weight(weight, 64), bias, x)
        wanted = torch.nn.functional.linear(x, weight, bias)
        assert_close(found.float(), wanted.float(), rtol=0.02, atol=0.05)
    else:  # the operators are there all the same
        assert torch.ops.mkldnn._reorder_linear_weight and torch.ops.mkldnn._linear_pointwise
    x = torch.zeros(1, 1)
    no_kernel("mkldnn", "_reorder_linear_weight")
    with refusal("torch", "_reorder_linear_weight"):
        compat.blocked_weight(x, 64)


def test_without_products_by_blocked_weights(no_kernel):
    no_kernel("mkldnn", "_linear_pointwise")
    with refusal("torch", "_linear_pointwise"):
        compat.multiply_blocked(torch.zeros(1, 1), None, torch.zeros(1, 1))


def test_the_number_of_compiled_kernels(monkeypatch):
    """Raised, never lowered; by torch's inner setting where the public one is missing; and no
    failure without both.
    """
    inner = torch._dynamo.config
    before = inner.recompile_limit
    try:
        inner.recompile_limit = 8
        assert compat.allow_kernels(64) and inner.recompile_limit == 64
        assert compat.allow_kernels(16) and inner.recompile_limit == 64
        inner.recompile_limit = 8
        monkeypatch.setattr(torch.compiler, "config", None, raising=False)
        assert compat.allow_kernels(32) and inner.recompile_limit == 32
        monkeypatch.setattr(compat, "_dynamo_config", lambda: None)
        assert not compat.allow_kernels(64) and inner.recompile_limit == 32
    finally:
        inner.recompile_limit = before


def test_words_of_an_allocator_without_memory():
    """What torch's own allocators say."""
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    assert compat.is_out_of_memory(failed.value)
    assert compat.is_out_of_memory(torch.OutOfMemoryError()) and compat.is_out_of_memory(
        MemoryError()
    )
    assert not compat.is_out_of_memory(RuntimeError("something else"))


# ---------------------------------------------------------------- the module itself


def test_a_refusal_names_versions_and_a_command():
    error = compat.Unavailable.without("peft", "something", "a thing")
    assert error.code == 2
    assert f"peft {peft.__version__} has no something, which a thing needs" in str(error)
    oldest, newest = compat.TESTED["peft"]
    assert f"{oldest} to {newest}" in str(error) and f"peft=={newest}" in str(error)


def test_importing_it_is_light():
    code = "import accord.compat, sys; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_each_function_has_its_docstring():
    """What is read, and what happens without it."""
    for node in ast.parse((SOURCE / "compat.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            words = ast.get_docstring(node) or ""
            if node.name != "install_command":
                assert any(verb in words for verb in ("Reads", "Calls", "Sets")), node.name
                outcome = ("ithout", "With other words", "Raises")
                assert any(word in words for word in outcome), node.name


# ---------------------------------------------------------------- the rest of the tree

FOREIGN = {"torch", "transformers", "peft", "safetensors", "tokenizers", "accelerate", "numpy"}
# parts of them that have no underscore and that they promise nobody either
INNER_MODULES = (
    "transformers.cache_utils",
    "transformers.masking_utils",
    "transformers.modeling_utils",
    "transformers.modeling_layers",
    "transformers.pytorch_utils",
    "transformers.integrations",
    "peft.tuners",
    "torch.ops",
    "torch._",
)
# an attribute with an underscore that is public all the same -> why
PUBLIC = {"os._exit": "documented: the way to end a process at once"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def own_names() -> frozenset[str]:
    """Private names that accord itself defines: functions, classes, attributes of self, slots."""
    names = set()
    for file in SOURCE.rglob("*.py"):
        if file.name == "compat.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    names.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(name for name in names if is_private(name))


def without_type_checking(tree: ast.AST) -> ast.AST:
    class Drop(ast.NodeTransformer):
        def visit_If(self, node):
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return [self.visit(part) for part in node.orelse]
            return self.generic_visit(node)

    return Drop().visit(tree)


def private_reads(text: str, own: frozenset[str] | set[str]) -> list[str]:
    """Private attributes of other people's objects that a module reads, as line: what."""
    tree = without_type_checking(ast.parse(text))
    foreign = set()  # names that stand for a module or a thing of a library
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign |= {(a.asname or a.name).split(".")[0] for a in node.names if _theirs(a.name)}
        elif isinstance(node, ast.ImportFrom) and _theirs(node.module):
            foreign |= {alias.asname or alias.name for alias in node.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root = node.value
            while isinstance(root, ast.Attribute | ast.Call):
                root = root.value if isinstance(root, ast.Attribute) else root.func
            theirs = isinstance(root, ast.Name) and root.id in foreign
            mine = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if (is_private(node.attr) and (theirs or not (mine or node.attr in own))) or (
                theirs and ast.unparse(node).startswith(INNER_MODULES)
            ):
                found.append((node, ast.unparse(node)))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                name = f"{module}.{alias.name}".lstrip(".")
                inner = name.startswith(INNER_MODULES)
                if inner or (
                    not name.startswith("accord.") and any(map(is_private, name.split(".")))
                ):
                    found.append((node, f"import {name}"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("getattr", "setattr", "hasattr", "delattr", "attrgetter"):
                for argument in node.args:
                    name = getattr(argument, "value", None)
                    if isinstance(name, str) and is_private(name) and name not in own:
                        found.append((node, ast.unparse(node)))
    return sorted({f"{n.lineno}: {what}" for n, what in found if what not in PUBLIC})


def _theirs(module: str) -> bool:
    return not module.startswith("accord") and module.split(".")[0] in FOREIGN


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("part", sorted({file.relative_to(SOURCE).parts[0] for file in FILES}))
def test_no_other_module_reads_a_private_attribute(part):
    own, found = own_names(), []
    for file in FILES:
        if file.relative_to(SOURCE).parts[0] == part and file.name != "compat.py":
            found += [
                f"{file.relative_to(SOURCE)}:{w}" for w in private_reads(file.read_text(), own)
            ]
    assert not found, "move these into accord/compat.py: " + "; ".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch._softmax_backward_data(1)",
        "import torch\ntorch.ops.aten.silu_backward(1)",
        "import torch as t\nt._dynamo",
        "x.config._attn_implementation",
        "getattr(model, '_supports_sdpa', False)",
        "layer._disable_adapters = True",
        "from torch._dynamo import config",
        "from transformers.cache_utils import DynamicLayer",
        "from peft.tuners.tuners_utils import BaseTunerLayer",
        "import torch._inductor",
        # of theirs, though accord has one of the name
        "from torch.nn import Module\nModule()._own",
        "import torch\ntorch.nn.Linear(1, 1)._own",
    ],
)
def test_such_a_read_is_found(code):
    assert private_reads(code, {"_own"})


@pytest.mark.parametrize(
    "code",
    [
        "self._x = 1\nself._x",
        "thing._own()",
        "import os\nos._exit(1)",
        "from accord.forward.choose import _own",
        "x.__class__",
        "if TYPE_CHECKING:\n    from transformers.cache_utils import Cache",
    ],
)
def test_such_a_read_is_ours(code):
    assert not private_reads(code, {"_own"})
