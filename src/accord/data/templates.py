"""Templates: turn an example into token ids, exactly as the model will see them at inference.

A prompt is rendered as `generate` would get it (the generation prompt included); a completion is
what the template puts after it. Two properties are checked on every row, since each has failed
silently elsewhere:

  text    the rendered prompt is a prefix of the rendered conversation (think blocks, TRL #5213)
  tokens  the prompt's tokens are a prefix of the conversation's tokens (merged boundary, TRL #2054)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from accord.errors import first_line
from accord.types import Example, Labelled, Refused, Tree, Turn, UsageError


class Unfit(Exception):
    """The error of a row that cannot be used, for `reason` (one of a few, for counting), with
    details for a person.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Template:
    """A way from one model's conversations to tokens. `kind` is "chat" (the model's own template)
    or "raw".
    """

    tokenizer: PreTrainedTokenizerBase
    kind: str
    end_ids: frozenset[int]  # tokens that end an answer: EOS and the model's other stop tokens
    # special tokens as text; a row that holds one is refused
    specials: re.Pattern | None = field(repr=False)

    # ------------------------------------------------------------ text

    def prompt_text(self, turns: Sequence[Turn]) -> str:
        """Render the prompt as `generate` gets it. A final assistant turn is a prefill: it stays
        open.
        """
        if self.kind == "raw":
            if len(turns) != 1:
                raise Unfit("a conversation without a chat template", f"{len(turns)} turns")
            return turns[0].content
        prefill = turns[-1].role == "assistant"
        return self._render(
            turns, add_generation_prompt=not prefill, continue_final_message=prefill
        )

    def full_text(self, turns: Sequence[Turn], answer: str) -> str:
        """Render prompt and answer; the turn is closed as the template closes it."""
        if self.kind == "raw":
            return self.prompt_text(turns) + answer
        if turns[-1].role == "assistant":
            turns, answer = turns[:-1], turns[-1].content + answer
        return self._render([*turns, Turn("assistant", answer)])

    def _render(self, turns: Sequence[Turn], **options) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, **options)
        # a template is a program; jinja raises what it likes (roles must alternate, …)
        except Exception as error:
            says = first_line(error, 200)
            raise Unfit("the chat template refuses the row", says) from error
        assert isinstance(text, str), "tokenize=False gives text"
        return text

    # ------------------------------------------------------------ tokens

    def encode(self, text: str) -> list[int]:
        """Tokenize a text. A chat template writes its own BOS; for raw text the tokenizer adds it
        (never an EOS).
        """
        ids = self.tokenizer(text, add_special_tokens=self.kind == "raw")["input_ids"]
        if self.kind == "raw" and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        return ids

    def prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        return self.encode(self.prompt_text(turns))

    def question(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """Encode a prompt without an answer, to be answered by a model; the checks are those of
        `tree`.

        Raises:
          Unfit: special tokens inside the text, two BOS, or no tokens.
        """
        self._no_special_text(turn.content for turn in turns)
        return self._opening(self.prompt_text(turns))

    def tree(self, example: Example, row: int) -> Tree:
        """Encode one example as a tree, its answers closed by exactly one end token.

        Raises:
          Unfit: special tokens inside the text, a boundary that merges, a template that renders the
            prompt otherwise in context, two BOS, an answer of no tokens, or chosen and rejected
            equal as tokens.
        """
        self._no_special_text((*(turn.content for turn in example.prompt), *example.completions))
        text = self.prompt_text(example.prompt)
        prompt = list(self._opening(text))
        completions = tuple(
            self._completion(example, text, prompt, answer) for answer in example.completions
        )
        if len(completions) == 2 and completions[0] == completions[1]:
            raise Unfit("chosen and rejected are the same tokens")
        desirable = example.desirable if isinstance(example, Labelled) else None
        return Tree(tuple(prompt), completions, row, desirable)

    def _completion(
        self, example: Example, text: str, prompt: list[int], answer: str
    ) -> tuple[int, ...]:
        full = self.full_text(example.prompt, answer)
        if not full.startswith(text):
            raise Unfit(
                "the template renders the prompt otherwise in context", _divergence(text, full)
            )
        ids = self.encode(full)
        if ids[: len(prompt)] != prompt:
            raise Unfit(
                "the last prompt token and the first answer token merge", self._merge(prompt, ids)
            )
        completion = self._end_once(ids[len(prompt) :])
        if len(completion) < 2:
            raise Unfit("the answer has no tokens")
        return completion

    def _end_once(self, ids: list[int]) -> tuple[int, ...]:
        """Cut behind the first end token (a template may add a newline that is never generated), or
        add EOS.
        """
        for position, token in enumerate(ids):
            if token in self.end_ids:
                return tuple(ids[: position + 1])
        return (*ids, self.tokenizer.eos_token_id)

    def _opening(self, text: str) -> tuple[int, ...]:
        """Tokenize a rendered prompt."""
        prompt = self.encode(text)
        if not prompt:
            raise Unfit("the prompt has no tokens")
        self._one_bos(prompt)
        return tuple(prompt)

    def _no_special_text(self, texts: Iterable[str]) -> None:
        if self.specials is None:
            return
        for text in texts:
            if found := self.specials.search(text):
                raise Unfit("a special token stands in the text", repr(found.group()))

    def _one_bos(self, prompt: list[int]) -> None:
        bos = self.tokenizer.bos_token_id
        # Where BOS opens every turn (SmolLM2 shares it with <|im_start|>) only a doubled one at the
        # start is wrong.
        if bos is not None and prompt[:2] == [bos, bos]:
            raise Unfit("two BOS tokens", "the template and the tokenizer both add one")

    def _merge(self, prompt: list[int], ids: list[int]) -> str:
        both = enumerate(zip(prompt, ids, strict=False))  # up to the end of the shorter one
        split = next((i for i, (a, b) in both if a != b), min(len(prompt), len(ids)))
        alone, together = prompt[split : split + 3], ids[split : split + 3]
        tokens = self.tokenizer.convert_ids_to_tokens
        return f"alone …{tokens(alone)}, with the answer …{tokens(together)}"


def make_template(
    tokenizer: PreTrainedTokenizerBase,
    wanted: str,
    *,
    generation_eos: Collection[int] = (),
    allow_raw: bool = False,
) -> Template:
    """Make the template of a run.

    Args:
      wanted: "auto" (the tokenizer's chat template), "raw" (prompt and answer as they stand), or a
        .jinja file.
      generation_eos: further token ids that end an answer, from the model's generation config.
      allow_raw: take "raw" although the tokenizer has a chat template.

    Raises:
      Refused: a chat model asked to train on raw text, or no template where one is needed.
    """
    if wanted not in ("auto", "raw"):
        tokenizer.chat_template = _template_file(wanted)
    kind = "raw" if wanted == "raw" else "chat"
    if kind == "chat" and not tokenizer.chat_template:
        raise Refused(
            "This model's tokenizer has no chat template.\n"
            "A base model trained on plain text: --set data.template=raw. "
            "A chat model whose template got lost: --set data.template=FILE.jinja."
        )
    if kind == "raw" and tokenizer.chat_template and not allow_raw:
        raise Refused(
            "data.template = raw, but this model has a chat template: it would train on text that"
            " it never sees at inference.\nLeave data.template at auto, or insist with --allow"
            " raw_text."
        )
    ends = {tokenizer.eos_token_id, *generation_eos} - {None}
    if kind == "chat":
        ends |= _turn_ends(tokenizer)
    texts = sorted({t for t in specials(tokenizer).values() if t.strip()}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, texts))) if texts else None
    return Template(tokenizer, kind, frozenset(ends), pattern)


def specials(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return every special token, by id: those with a role, such as EOS, and those only marked as
    special.

    The latter are many: Llama 3's <|start_header_id|> has no role, and written in a row's text it
    would open a turn.
    """
    marked = {
        i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    return marked | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _turn_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the special token, if any, that the template itself puts right behind an answer."""
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "zebra"}],
            tokenize=False,
        )
    except Exception:  # each row will report what the template refuses
        return set()
    assert isinstance(text, str), "tokenize=False gives text"
    ids = tokenizer(text.rpartition("zebra")[2], add_special_tokens=False)["input_ids"]
    return {ids[0]} if ids and ids[0] in specials(tokenizer) else set()


def _template_file(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(
            f"data.template = {path!r}: expected auto, raw, or a Jinja file that exists."
        )
    try:
        return file.read_text(encoding="utf-8")
    except ValueError as error:
        raise UsageError(f"data.template = {path!r}: not a text in UTF-8 ({error}).") from error


def _divergence(text: str, full: str) -> str:
    both = enumerate(zip(text, full, strict=False))  # up to the end of the shorter one
    at = next((i for i, (a, b) in both if a != b), min(len(text), len(full)))
    return f"alone …{json.dumps(text[at : at + 30])}, in context …{json.dumps(full[at : at + 30])}"
