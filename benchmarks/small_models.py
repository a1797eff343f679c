"""Small random models of every family that transformers registers for causal language models.

A family's own default configuration says which sizes it has; those that are known here by their
name are made small, in its text, vision and other parts alike. What a family wants beyond that
stands in SPECIAL. A family with layers of several kinds gets one layer of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

VOCAB = 320
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
HIDDEN = (
    "hidden_size d_model n_embd dim word_embed_proj_dim embedding_size emb_dim embed_dim"
    " mm_hidden_size text_hidden_size out_hidden_size adapter_in_dim vision_hidden_size"
)
WIDE = (
    "intermediate_size ffn_dim ffn_hidden_size n_inner d_ff dff decoder_ffn_dim encoder_ffn_dim"
    " feed_forward_size block_ff_dim intermediate_size_mlp"
)
EXPERT = (
    "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size"
    " moe_shared_expert_intermediate_size shared_intermediate_size"
)
LAYERS = "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers depth"
HEADS = (
    "num_attention_heads n_head n_heads decoder_attention_heads encoder_attention_heads num_heads"
)
NARROW = (
    "head_dim linear_head_dim qk_nope_head_dim v_head_dim attention_head_dim qk_rope_head_dim"
    " rotary_dim global_head_dim swa_head_dim swa_v_head_dim linear_key_head_dim"
    " linear_value_head_dim"
    " index_head_dim kv_lora_rank state_size mamba_d_state ssm_state_size mamba_d_head"
    " mamba_head_dim hidden_size_per_layer_input sliding_window window_size"
)
SIZES: dict[str, Any] = {
    **dict.fromkeys(HIDDEN.split(), 32),
    **dict.fromkeys(WIDE.split(), 64),
    **dict.fromkeys(EXPERT.split(), 32),
    **dict.fromkeys(LAYERS.split(), 2),
    **dict.fromkeys(HEADS.split(), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(NARROW.split(), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(
        ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts"), 2
    ),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"), 512),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "index_n_heads"), 2),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"), VOCAB),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank", "chunk_size", "mamba_chunk_size"), 4),
    "q_lora_rank": 16,
    "index_topk": 64,  # more than the rows have, but for those that must choose
}
# Lists of a kind for each layer, under the names that families have for them.
KINDS = ("layer_types", "layers_block_type", "block_types", "mlp_layer_types")
LINEAR_MIX = ["linear_attention", "full_attention"]
SPECIAL: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"num_expert_groups": 1, "n_group": 1, "topk_group": 1},
    "codegen": {"rotary_dim": 8},
    "deepseek_v2": {"topk_method": "greedy"},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8},
    "dots3_note": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": LINEAR_MIX},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "reformer": {"is_decoder": True},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2, "num_hidden_layers": 4},
    "longcat_flash": {"n_routed_experts": 4, "zero_expert_num": 4},
    "roc_bert": {"shape_vocab_size": 64, "pronunciation_vocab_size": 64},
    "zaya": {"num_experts_per_tok": 1},
}


def families() -> list[str]:
    """List every family that transformers registers for causal language models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_config(family: str, **changes: Any):
    """Make the configuration of a small model of this family, with some fields changed.

    Raises:
      Exception: whatever the family's configuration raises: it cannot be made small here.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[family]
    return kind(**(_small_fields(kind) | SPECIAL.get(family, {}) | changes))


def small_model(family: str, seed: int = 0, **changes: Any):
    """Make a small random model of this family, whose weights are large enough to matter.

    At the usual 0.02 a wrong mask or a lost state is hardly seen in a log-prob.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(small_config(family, **changes)).float().eval()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for factor in (6.0, 2.0, 1.0):
        with torch.no_grad():
            for name, p in network.named_parameters():
                p.copy_(before[name] * (factor if _is_matrix(name, p) else 1.0))
            probe = network(input_ids=torch.arange(3, 60)[None], use_cache=False).logits
        if bool(probe.isfinite().all()) and probe.abs().max() < 50:
            break
    return network


def _is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Tell a matrix that is multiplied by from a state's own parameters (A_log, dt, decay)."""
    words = ("log", "dt", "decay", "conv", "norm", "time_")
    return parameter.dim() > 1 and not any(word in name.lower() for word in words)


def _small_fields(kind) -> dict[str, Any]:
    """List the fields of a small configuration, its sub-configurations' among them."""
    default = kind()
    known = default.to_dict()
    fields = {
        name: size
        for name, size in SIZES.items()
        if name in known and not isinstance(known[name], (dict, list, bool))
    }
    fields |= {name: value for name, value in IDS.items() if name in known}
    if "kv_lora_rank" in known and "num_key_value_heads" in fields:
        fields["num_key_value_heads"] = fields["num_attention_heads"]  # latent attention
    fields |= _one_of_each(known)
    others = [n for n in known if n.endswith(("_token_id", "_token_index")) and n not in IDS]
    fields |= {name: 4 + i for i, name in enumerate(others) if isinstance(known[name], int)}
    for name in getattr(kind, "sub_configs", None) or {}:
        part = getattr(default, name, None)
        if part is not None and hasattr(part, "model_type"):
            fields[name] = _small_fields(type(part)) | {"model_type": part.model_type}
    return fields


def _one_of_each(known: dict[str, Any]) -> dict[str, Any]:
    """List the kinds of layers, one layer of each, where there are several."""
    kinds = {
        name: list(dict.fromkeys(known[name]))
        for name in KINDS
        if isinstance(known.get(name), list)
    }
    several = {name: each for name, each in kinds.items() if len(each) > 1}
    if not several:
        return {}
    count = max(map(len, several.values()))
    fields = {name: (each * count)[:count] for name, each in kinds.items()}
    for name in LAYERS.split():
        if name in known and known[name] is not None:
            return fields | {name: count}
    return fields


def save_tokenizer(folder: Path) -> Any:
    """Write a small byte-level tokenizer that gives back every text; return it.

    Its padding is a token of its own, so that a reward model can skip it.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", *(f"<unused{i}>" for i in range(13))]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words = ["the cat sat on a mat and saw one red bird fly over two green hills near a house"] * 4
    tokenizer.train_from_iterator(words, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    fast.save_pretrained(folder)
    return fast
