"""The digest of a tokenizer: two with one digest make the same tokens of the same conversation."""

from __future__ import annotations

import json

from transformers import PreTrainedTokenizerBase

from accord.environment.digests import text_digest


def tokenizer_digest(tok: PreTrainedTokenizerBase) -> str:
    """Hash vocabulary, added tokens, chat template and the whole fast tokenizer where there is one
    (sha256).
    """
    backend = getattr(tok, "backend_tokenizer", None)
    state = {
        "vocabulary": sorted(tok.get_vocab().items()),
        "template": tok.chat_template,
        "special": {key: str(value) for key, value in sorted(tok.special_tokens_map.items())},
        "backend": backend.to_str() if backend is not None else type(tok).__name__,
    }
    return text_digest(json.dumps(state, sort_keys=True))
