"""Faults of a model's folder: its weights, configuration, tokenizer, and its architecture."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from benchmarks.silentbench.lifecycle.case import Case
from benchmarks.silentbench.lifecycle.kinds import FOLDER, PAIRS, Kind

LAYER = re.compile(r"(?:layers|h)\.(\d+)\.")
BOTH = ("llama", "gpt2")
EVERYWHERE = (*FOLDER, "compare")
# what a check of likelihood may say: the figure that gives it away, or what it means
KNOWS_NOTHING = (
    r"ln\s?V|uniform|untrained|re-?initiali|random(ly)? (weights|initial)"
    r"|knows? (no|nothing|little)"
    r"|NLL|guess(es|ing)?|likel(y|ihood) of|no language|log\(?V\)?|not (a )?trained"
)


def layer_of(name: str) -> int | None:
    found = LAYER.search(name)
    return int(found[1]) if found else None


def zeroed_layer(case: Case) -> str:
    layer, part = case.rng.randrange(4), case.rng.choice(("all", "attn", "mlp"))

    def change(tensors):
        for name, tensor in tensors.items():
            if layer_of(name) == layer and (part == "all" or part in name):
                tensor.zero_()

    case.tensors(change)
    return f"layer {layer}, {part}"


def new_layers(case: Case) -> str:
    layers = sorted(case.rng.sample(range(4), case.rng.choice((3, 4))))
    spread = case.rng.choice((0.02, 0.1, 0.3))
    generator = torch.Generator().manual_seed(case.rng.randrange(1_000))

    def change(tensors):
        for name, tensor in tensors.items():
            if layer_of(name) in layers and tensor.dim() > 1:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)

    case.tensors(change)
    return f"layers {layers} drawn anew, deviation {spread}"


def new_embedding(case: Case) -> str:
    how = case.rng.choice(("drawn anew", "rows shuffled"))
    generator = torch.Generator().manual_seed(case.rng.randrange(1_000))

    def change(tensors):
        name = next(n for n in tensors if "embed_tokens" in n or n.endswith("wte.weight"))
        old = tensors[name]
        order = torch.randperm(len(old), generator=generator)
        new = torch.randn(old.shape, generator=generator) * old.std()
        tensors[name] = old[order] if how == "rows shuffled" else new

    case.tensors(change)
    return f"embedding {how}"


def scaled_weights(case: Case) -> str:
    scale = case.rng.choice((0.1, 5.0, 12.0))

    def change(tensors):
        for tensor in tensors.values():
            if tensor.dim() > 1:
                tensor.mul_(scale)

    case.tensors(change)
    return f"every matrix times {scale}"


def fewer_layers(case: Case) -> str:
    left = case.rng.choice((1, 2, 3))
    key = "n_layer" if case.family == "gpt2" else "num_hidden_layers"

    def change(config):
        config[key] = left
        config.pop("layer_types", None)

    case.config("config.json", change)
    return f"{key} {left} of 4"


def more_layers(case: Case) -> str:
    key, more = (
        ("n_layer" if case.family == "gpt2" else "num_hidden_layers"),
        case.rng.choice((5, 6)),
    )

    def change(config):
        config[key] = more
        config.pop("layer_types", None)

    case.config("config.json", change)
    return f"{key} {more} of 4"


def missing_tensor(case: Case) -> str:
    dropped: list[str] = []

    def change(tensors):
        names = sorted(n for n in tensors if layer_of(n) is not None)
        dropped.extend(case.rng.sample(names, case.rng.choice((1, 3))))
        for name in dropped:
            del tensors[name]

    case.tensors(change)
    return f"without {', '.join(dropped)}"


def unexpected_tensor(case: Case) -> str:
    name = case.rng.choice(
        ("model.layers.0.self_attn.q_proj.bias", "model.layers.1.mlp.gate.weight", "score.weight")
    )
    case.tensors(lambda tensors: tensors.update({name: torch.ones(64)}))
    return f"with {name}"


def permuted_tokenizer(case: Case, folder: Path | None = None) -> str:
    share = case.rng.choice((0.5, 1.0))
    shift = case.rng.choice((1, 7, 100))

    def change(state):
        vocab = state["model"]["vocab"]
        words = sorted((w for w in vocab if vocab[w] > 300), key=vocab.get)
        words = words[: int(len(words) * share)]
        ids = [vocab[word] for word in words]
        vocab.update(zip(words, ids[shift:] + ids[:shift], strict=True))

    case.config("tokenizer.json", change, folder)
    return f"{share:.0%} of the ids turned by {shift}"


def smaller_vocabulary(case: Case) -> str:
    share, rows = case.rng.choice((0.2, 0.5)), []

    def change(tensors):
        for name in [n for n in tensors if "embed_tokens" in n or "wte" in n or "lm_head" in n]:
            tensors[name] = tensors[name][: int(len(tensors[name]) * share)]
            rows.append(len(tensors[name]))

    case.tensors(change)
    case.config("config.json", lambda config: config.update(vocab_size=rows[0]))
    return f"{rows[0]} embeddings"


QUANTISED = {
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
    "mxfp4": {"quant_method": "mxfp4"},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
}


def quantised(case: Case) -> str:
    name = case.rng.choice(sorted(QUANTISED))
    case.config("config.json", lambda c: c.update(quantization_config=QUANTISED[name]))
    return name


def _replace_by(case: Case, config, model_class) -> None:
    torch.manual_seed(0)
    for file in ("config.json", "model.safetensors", "generation_config.json"):
        (case.model / file).unlink(missing_ok=True)
    model_class(config).save_pretrained(case.model)


def encoder(case: Case) -> str:
    import transformers as tf

    name = case.rng.choice(("Bert", "Roberta"))
    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    config = getattr(tf, f"{name}Config")(vocab_size=2048, **small)
    _replace_by(case, config, getattr(tf, f"{name}ForMaskedLM"))
    return name


def encoder_decoder(case: Case) -> str:
    import transformers as tf

    name = case.rng.choice(("T5", "Bart"))
    small = dict(d_model=32, num_heads=4, d_kv=8, d_ff=64, num_layers=2, vocab_size=2048)
    if name == "Bart":
        small = dict(d_model=32, encoder_layers=1, decoder_layers=1, vocab_size=2048)
        small |= dict(encoder_attention_heads=2, decoder_attention_heads=2)
    config = getattr(tf, f"{name}Config")(**small)
    _replace_by(case, config, getattr(tf, f"{name}ForConditionalGeneration"))
    return name


def remote_code(case: Case) -> str:
    name = case.rng.choice(("Own", "Strange"))
    map_ = {"AutoConfig": f"modeling.{name}Config", "AutoModelForCausalLM": f"modeling.{name}LM"}
    case.config("config.json", lambda c: c.update(auto_map=map_, model_type=name.lower()))
    (case.model / "modeling.py").write_text("raise SystemExit\n", encoding="utf-8")
    return f"model type {name.lower()}"


def looks_ahead(case: Case) -> str:
    """Every layer attends to all tokens, as a model converted for embeddings does."""
    from transformers.models.llama import modeling_llama

    right = modeling_llama.LlamaAttention.__init__

    def init(self, *args, **named):
        right(self, *args, **named)
        self.is_causal = False

    def full(config=None, inputs_embeds=None, attention_mask=None, **rest):
        if inputs_embeds is None:
            inputs_embeds = rest["input_embeds"]
        rows, length = inputs_embeds.shape[:2]
        return torch.zeros(rows, 1, length, length, dtype=inputs_embeds.dtype)

    case.patch(modeling_llama.LlamaAttention, "__init__", init)
    case.patch(modeling_llama, "create_causal_mask", full)
    return "llama without its causal mask"


def _rope(case: Case, **options) -> None:
    def change(config):
        old = config.pop("rope_parameters", None) or {"rope_theta": config.pop("rope_theta", 1e4)}
        config["rope_parameters"] = {"rope_theta": old.get("rope_theta", 1e4), **options}
        config.pop("rope_scaling", None)

    case.config("config.json", change)


def dynamic_rope(case: Case) -> str:
    longest = case.rng.choice((30, 36, 40))
    _rope(case, rope_type="dynamic", factor=case.rng.choice((2.0, 4.0)))
    case.config("config.json", lambda c: c.update(max_position_embeddings=longest))
    case.last_words = []
    return f"dynamic rope from position {longest}"


def longrope(case: Case) -> str:
    longest = case.rng.choice((30, 36, 40))
    factors = {"short_factor": [1.0] * 8, "long_factor": [case.rng.choice((2.0, 4.0))] * 8}
    _rope(case, rope_type="longrope", original_max_position_embeddings=longest, **factors)
    case.config("config.json", lambda c: c.update(original_max_position_embeddings=longest))
    return f"longrope from position {longest}"


def few_positions(case: Case) -> str:
    longest = case.rng.choice((16, 20))
    key = "n_positions" if case.family == "gpt2" else "max_position_embeddings"
    case.config("config.json", lambda c: c.update({key: longest}))
    if case.family == "gpt2":
        name = "transformer.wpe.weight"

        def change(tensors):
            found = name if name in tensors else name.removeprefix("transformer.")
            tensors[found] = tensors[found][:longest]

        case.tensors(change)
    return f"{longest} positions"


def float16_overflow(case: Case) -> str:
    scale = case.rng.choice((1e5, 1e6))

    def change(tensors):
        names = sorted(n for n in tensors if "mlp" in n and n.endswith("weight"))
        name = case.rng.choice(names)
        for each in tensors:
            tensors[each] = tensors[each].half()
        tensors[name] = (tensors[name].float() * scale).half()

    case.tensors(change)
    case.config("config.json", lambda c: c.update(dtype="float16"))
    return f"an MLP matrix times {scale:.0e}, in float16"


def not_finite(case: Case) -> str:
    value = case.rng.choice((float("nan"), float("inf")))

    def change(tensors):
        name = case.rng.choice(sorted(tensors))
        tensors[name].view(-1)[case.rng.randrange(tensors[name].numel())] = value

    case.tensors(change)
    return f"one weight is {value}"


def tied_flag(case: Case) -> str:
    case.config("config.json", lambda c: c.update(tie_word_embeddings=True))
    return "tie_word_embeddings true beside an own head"


def cut_file(case: Case) -> str:
    file, share = case.model / "model.safetensors", case.rng.choice((0.5, 0.9))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    return f"first {share:.0%} of the weights' file"


def foreign_template(case: Case) -> str:
    start, end = case.rng.choice(
        (("<|start_header_id|>", "<|eot_id|>"), ("<start_of_turn>", "<end_of_turn>"))
    )
    text = (
        "{% for m in messages %}"
        + start
        + "{{ m['role'] }}\n{{ m['content'] }}"
        + end
        + "\n{% endfor %}{% if add_generation_prompt %}"
        + start
        + "assistant\n{% endif %}"
    )
    (case.model / "chat_template.jinja").write_text(text, encoding="utf-8")
    return f"template with {start}"


def weight_map(case: Case) -> str:
    """Two layers' tensors stand under each other's names with another kind's shape kept."""
    first, second = case.rng.sample(range(4), 2)

    def change(tensors):
        for name in sorted(n for n in tensors if layer_of(n) == first):
            other = LAYER.sub(lambda m: m[0].replace(str(first), str(second)), name)
            mine = tensors[name].clone()
            tensors[name], tensors[other] = torch.zeros_like(tensors[other]), mine

    case.tensors(change)
    return f"layer {first} zero, layer {second} holds its weights"


ZERO = r"zeros?\b|all zero|nothing but zero|does nothing"
MODEL = (
    Kind("a layer of zeros", ZERO, zeroed_layer, EVERYWHERE, PAIRS, BOTH),
    Kind("layers drawn anew", KNOWS_NOTHING, new_layers, EVERYWHERE, (*PAIRS, "kto"), BOTH),
    Kind("another embedding", KNOWS_NOTHING + "|embedding", new_embedding, FOLDER, ("dpo",), BOTH),
    Kind("weights at another scale", KNOWS_NOTHING + "|scale", scaled_weights, FOLDER),
    Kind(
        "layers dropped by the configuration",
        r"unexpected|num_hidden_layers|n_layer|not (in|part of) the model|does not (use|have)",
        fewer_layers,
        EVERYWHERE,
        (*PAIRS, "bradley_terry"),
        BOTH,
    ),
    Kind(
        "more layers than weights",
        r"missing|newly|num_hidden_layers|n_layer|no weights|not in (its|the) files?",
        more_layers,
        FOLDER,
        ("dpo", "kto"),
        BOTH,
    ),
    Kind(
        "a tensor is missing",
        r"missing|newly|lacks|no weights for|not in (its|the) files?",
        missing_tensor,
        FOLDER,
        PAIRS,
    ),
    Kind(
        "a tensor that the model has no place for",
        r"unexpected|no place|does not (use|have)|not (used|in the model)",
        unexpected_tensor,
        FOLDER,
    ),
    Kind(
        "a tokenizer with other ids",
        KNOWS_NOTHING + "|tokenizer",
        permuted_tokenizer,
        EVERYWHERE,
        ("dpo", "simpo", "kto", "grpo"),
        BOTH,
    ),
    Kind(
        "fewer embeddings than ids", r"vocab|embedding", smaller_vocabulary, FOLDER, ("dpo", "orpo")
    ),
    Kind("a quantised folder", r"quanti[sz]|fp8|gptq|awq|mxfp4|bitsandbytes", quantised, FOLDER),
    Kind("an encoder", r"encoder|\bbert|roberta|masked|decoder|causal", encoder, FOLDER),
    Kind("an encoder and a decoder", r"encoder|\bT5|bart|seq2seq", encoder_decoder, FOLDER),
    Kind(
        "remote code",
        r"(remote|custom) code|auto_map|trust_remote|own code|code of its own",
        remote_code,
        FOLDER,
    ),
    Kind(
        "attention that looks ahead",
        r"causal|later tokens?|ahead|future|bidirectional",
        looks_ahead,
        FOLDER,
        ("dpo", "simpo", "kto"),
    ),
    Kind(
        "dynamic rope that straddles",
        r"rope|longest position|position",
        dynamic_rope,
        FOLDER,
        PAIRS,
    ),
    Kind("longrope that straddles", r"rope|longest position|position", longrope, FOLDER, PAIRS),
    Kind("rows beyond the positions", r"position|context", few_positions, FOLDER, PAIRS, BOTH),
    Kind("infinite in float16", r"\binf|overflow|float16|finite|nan\b", float16_overflow, FOLDER),
    Kind(
        "a weight that is no number",
        r"finite|\bnan\b|\binf",
        not_finite,
        FOLDER,
        ("dpo", "kto"),
        BOTH,
    ),
    Kind(
        "tied by mistake",
        r"\btied?\b|tie_word|lm_head|head|unexpected",
        tied_flag,
        FOLDER,
        families=("mistral",),
    ),
    Kind(
        "a file that ends too soon",
        r"incomplete|truncat|ends|safetensors|cut|damaged",
        cut_file,
        FOLDER,
    ),
    Kind("another model's template", r"template|marks?\b|marker|turn", foreign_template, FOLDER),
    Kind("a layer's weights under another's name", ZERO + "|" + KNOWS_NOTHING, weight_map, FOLDER),
)
