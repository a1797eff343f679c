"""Small tokenizers and templates with one fault each, and examples in one line."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from accord.types import Demonstration, Labelled, Origin, Pair, Turn

CHARACTERS = "\n !?.,:<>|/_" + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
BOS, EOS, END = "<s>", "</s>", "<end>"

TURNS = "{% for m in messages %}{{ m.role }}:{{ m.content }}<end>{% endfor %}"
CHAT = TURNS + "{% if add_generation_prompt %}assistant:{% endif %}"


def crafted(
    template: str | None = CHAT,
    *,
    merges: tuple[str, ...] = (),
    adds_bos: bool = False,
    adds_eos: bool = False,
    bos: str | None = BOS,
    lowercase: bool = False,
) -> PreTrainedTokenizerFast:
    """One token a character, but for `merges` of two of them ("ab")."""
    vocabulary = {token: i for i, token in enumerate([BOS, EOS, END, *CHARACTERS, *merges])}
    backend = Tokenizer(models.BPE(vocabulary, [(merge[0], merge[1]) for merge in merges]))
    backend.decoder = decoders.Fuse()
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    single = [BOS] * adds_bos + ["$A"] + [EOS] * adds_eos
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=None, special_tokens=[(BOS, vocabulary[BOS]), (EOS, vocabulary[EOS])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=EOS,
        additional_special_tokens=[END],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def turns(*contents: str, system: str | None = None) -> tuple[Turn, ...]:
    """User and assistant in turn, the user first."""
    head = (Turn("system", system),) if system is not None else ()
    return head + tuple(
        Turn(("user", "assistant")[i % 2], content) for i, content in enumerate(contents)
    )


def pair(
    *prompt: str,
    chosen: str = "yes",
    rejected: str = "no",
    line: int = 1,
    system: str | None = None,
) -> Pair:
    return Pair(
        turns(*(prompt or ("q",)), system=system), chosen, rejected, Origin("f.jsonl", line)
    )


def label(completion: str, desirable: bool, *prompt: str) -> Labelled:
    return Labelled(turns(*(prompt or ("q",))), completion, desirable, Origin("f.jsonl", 1))


def shown(completion: str, *prompt: str) -> Demonstration:
    return Demonstration(turns(*(prompt or ("q",))), completion, Origin("f.jsonl", 1))
