"""Templates: turn an example into token ids, exactly as the model will see them at inference.

A prompt is rendered as `generate` would get it (the generation prompt included); a completion is
what the template puts after it. Three properties are checked on every row, since each has failed
silently elsewhere:

  words   the text is the row's turns verbatim, and what is scored is the answer (fidelity.py)
  text    the rendered prompt is a prefix of the rendered conversation (think blocks, TRL #5213)
  tokens  the prompt's tokens are a prefix of the conversation's tokens (merged boundary, TRL #2054)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from transformers import PreTrainedTokenizerBase

from accord.config.schema import Config
from accord.data.altered_text import Change, divergence
from accord.data.chat_template import (
    GIVEN,
    dated,
    message,
    quotes_arguments,
    specials,
    template_file,
    turn_ends,
    variables,
    with_answer,
)
from accord.data.fidelity import (
    BEGINS,
    CLOSES,
    OPENS,
    OWN_TEXT,
    Outline,
    Skeleton,
    in_order,
    learn,
    lost_inputs,
    outline,
    scored_changes,
    text_behind,
)
from accord.data.plain_rendering import PlainRendering
from accord.data.tokenizer_text import SpecialTexts, TextCheck, Unfit
from accord.errors import first_line
from accord.types import NO_INPUTS, Example, Labelled, Refused, TemplateInputs, Tree, Turn

NO_PROMPT = "the template adds no generation prompt, so the answer's header would be scored"

# Shapes whose constants are kept. A file in which every row has tools or documents of its own has
# as many shapes as rows, and each holds the texts of its row's tools.
SKELETONS = 1024


@dataclass(frozen=True, slots=True)
class Written:
    """An example as text, and what its template changed in it."""

    prompt: str
    conversations: tuple[str, ...]  # with each answer; each begins with the prompt
    changes: tuple[Change, ...]
    shape: int  # rows of one number have one shape, see fidelity.py
    problem: Unfit | None  # why the answer behind the last conversation cannot be used


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as a tree, and what its template and tokenizer changed in its text."""

    tree: Tree
    changes: tuple[Change, ...]
    shape: int


@dataclass(frozen=True)
class Template:
    """A way from one model's conversations to tokens. `kind` is "chat" (the model's own template)
    or "raw".
    """

    tokenizer: PreTrainedTokenizerBase
    kind: str
    end_ids: frozenset[int]  # tokens that end an answer: EOS and the model's other stop tokens
    specials: SpecialTexts
    options: Mapping[str, object] = field(default_factory=dict)  # chat_template_kwargs of the run
    today: str = ""  # ISO date for templates that ask for it; empty: the day of the call
    permit_changes: bool = False  # rows whose text the template changes are used all the same
    reads_text: TextCheck = field(default_factory=TextCheck, repr=False)
    _skeletons: dict[int, Skeleton | None] = field(default_factory=dict, repr=False)

    # ------------------------------------------------------------ text

    def prompt_text(self, turns: Sequence[Turn], inputs: TemplateInputs = NO_INPUTS) -> str:
        """Render the prompt as `generate` gets it. A final assistant turn is a prefill: it stays
        open.
        """
        if self.kind == "raw":
            return self._raw(turns, inputs)
        prefill = turns[-1].role == "assistant"
        return self._render(
            turns, inputs, add_generation_prompt=not prefill, continue_final_message=prefill
        )

    def full_text(self, example: Example, index: int) -> str:
        """Render the prompt and one of the answers; the turn is closed as the template closes
        it.
        """
        if self.kind == "raw":
            return self.prompt_text(example.prompt, example.inputs) + example.completions[index]
        return self._answered(example, index, self.prompt_text(example.prompt, example.inputs))[1]

    def _raw(self, turns: Sequence[Turn], inputs: TemplateInputs) -> str:
        if len(turns) != 1:
            raise Unfit("a conversation without a chat template", f"{len(turns)} turns")
        if inputs != NO_INPUTS or turns[0].keys:
            raise Unfit("tools, documents or options without a chat template", "raw text has none")
        return turns[0].content

    def _answered(self, example: Example, index: int, text: str) -> tuple[list[Turn], str]:
        """Return the turns with an answer, and their text, which begins with the prompt's.

        Raises:
          Unfit: the template renders the prompt otherwise with an answer than alone.
        """
        turns = with_answer(example, index)
        full = self._render(turns, example.inputs)
        if full.startswith(text):
            return turns, full
        if opening := OPENS.search(text):
            # The generation prompt opens a think block: the answer that only closes it is right,
            # and is written whole where the template sees all of it.
            answer = turns[-1].content
            closes, opens = CLOSES.search(answer), BEGINS.match(answer)
            turns = [*turns[:-1], replace(turns[-1], content=opening.group() + answer)]
            if closes and not opens:
                again = self._render(turns, example.inputs)
                if again.startswith(text):
                    return turns, again
            if full.startswith(text[: opening.start()]):
                if not closes:
                    reason = "the generation prompt opens a think block, and the answer has none"
                elif opens and BEGINS.match(full, opening.start()):
                    reason = "the generation prompt opens the think block with other blanks"
                else:
                    reason = "the template drops the thinking of the answer"
                raise Unfit(reason, divergence(text, full))
        raise Unfit("the template renders the prompt otherwise in context", divergence(text, full))

    def messages(self, turns: Iterable[Turn]) -> list[dict]:
        """Return turns as the chat template reads them."""
        objects = quotes_arguments(self.tokenizer)
        return [message(turn, objects) for turn in turns]

    def given(self, inputs: TemplateInputs) -> dict:
        """Return what a row's template is given beside the messages."""
        given = {**self.options, **(json.loads(inputs.options) if inputs.options else {})}
        if self.today:
            given |= dated(self.tokenizer, self.today, bool(inputs.tools))
        for name in ("tools", "documents"):
            if value := getattr(inputs, name):
                given[name] = json.loads(value)
        return given

    @cached_property
    def _plain(self) -> PlainRendering | None:
        """The quick way for rows of text; None where a clock stands in front of the template."""
        given = self.given(NO_INPUTS)
        return PlainRendering(self.tokenizer, given) if "chat_template" not in given else None

    def _render(
        self,
        turns: Sequence[Turn],
        inputs: TemplateInputs,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
    ) -> str:
        try:
            if self._plain and not continue_final_message:
                quick = self._plain.render(turns, inputs, add_generation_prompt)
                if quick is not None:
                    return quick
            text = self.tokenizer.apply_chat_template(
                self.messages(turns),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **self.given(inputs),
            )
        # a template is a program; jinja raises what it likes (roles must alternate, …)
        except Exception as error:
            says = first_line(error, 200)
            raise Unfit("the chat template refuses the row", says) from error
        assert isinstance(text, str), "tokenize=False gives text"
        return text

    # ------------------------------------------------------------ fidelity

    def _compared(
        self, turns: Sequence[Turn], inputs: TemplateInputs, text: str, **options
    ) -> tuple[list[Change], int | None, int]:
        """Compare a rendered text with its turns; return the changes, where the last turn begins,
        and the number of the shape.
        """
        found = outline(turns, inputs, answered=not options)
        shape = _digest((found.shape, options.get("continue_final_message")))
        if shape not in self._skeletons:
            if len(self._skeletons) >= SKELETONS:  # the oldest goes
                self._skeletons.pop(next(iter(self._skeletons)))
            self._skeletons[shape] = self._learn(turns, found, inputs, text, options)
        skeleton = self._skeletons[shape]
        if skeleton is None:
            return list(in_order(found, text)), None, shape
        changes, start = skeleton.compare(found, text)
        return [*changes, *self.reads_text.changes(text, self.specials.everywhere)], start, shape

    def _learn(
        self, turns: Sequence[Turn], found: Outline, inputs: TemplateInputs, text: str, options
    ) -> Skeleton | None:
        try:
            skeleton = learn(turns, found, lambda marked: self._render(marked, inputs, **options))
        except Unfit:  # a template that reads the texts may refuse marks in their places
            return None

        def again(others: TemplateInputs) -> str:
            return self._render(turns, others, **options)

        unread = [
            Change(f"the template does not read the option {name}", name, "", mild=True)
            for name in (json.loads(inputs.options) if inputs.options else {})
            if name not in variables(self.tokenizer)
        ]
        behind = text_behind(found, skeleton, self.specials.everywhere)
        lost = [*lost_inputs(inputs, text, again), *behind, *unread]
        return replace(skeleton, changes=(*skeleton.changes, *lost)) if lost else skeleton

    def _named(self, change: Change, example: Example, text: str) -> Change:
        """Name the commonest reason for text before an answer: no generation prompt at all."""
        if change.cause != OWN_TEXT:
            return change
        closed = self._render(example.prompt, example.inputs, add_generation_prompt=False)
        return replace(change, cause=NO_PROMPT) if closed == text else change

    def _require_permitted(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if not (change.mild or self.permit_changes):
                raise Unfit(change.cause, change.detail)

    # ------------------------------------------------------------ tokens

    def encode(self, text: str) -> list[int]:
        """Tokenize a text. A chat template writes its own BOS; for raw text the tokenizer adds it
        (never an EOS).
        """
        return self.without_eos(
            self.tokenizer(text, add_special_tokens=self.kind == "raw")["input_ids"]
        )

    def without_eos(self, ids: list[int]) -> list[int]:
        """Take from raw text the EOS that the tokenizer adds."""
        ended = self.kind == "raw" and ids and ids[-1] == self.tokenizer.eos_token_id
        return ids[:-1] if ended else ids

    def prompt_ids(self, turns: Sequence[Turn], inputs: TemplateInputs = NO_INPUTS) -> list[int]:
        return self.encode(self.prompt_text(turns, inputs))

    def question(
        self, turns: Sequence[Turn], inputs: TemplateInputs = NO_INPUTS
    ) -> tuple[int, ...]:
        """Encode a prompt without an answer, to be answered by a model; the checks are those of
        `tree`.

        Raises:
          Unfit: special tokens inside the text, a template that changes it, two BOS, or no tokens.
        """
        self.specials.refuse(turns)
        text = self.prompt_text(turns, inputs)
        if self.kind == "chat":
            prefill = turns[-1].role == "assistant"
            options = {"add_generation_prompt": not prefill, "continue_final_message": prefill}
            self._require_permitted(self._compared(turns, inputs, text, **options)[0])
        return self._opening(text)

    def tree(self, example: Example, row: int) -> Tree:
        """Encode one example as a tree; see `encoded`."""
        return self.encoded(example, row).tree

    def encoded(self, example: Example, row: int) -> Encoded:
        """Encode one example as a tree, its answers closed by exactly one end token.

        Raises:
          Unfit: special tokens inside the text, a template that changes the text, a boundary that
            merges, a template that renders the prompt otherwise in context, two BOS, an answer of
            no tokens, or chosen and rejected equal as tokens.
        """
        written = self.write(example)
        conversations = list(map(self.encode, written.conversations))
        return self.encoded_as(example, row, written, self.encode(written.prompt), conversations)

    def write(self, example: Example) -> Written:
        """Write an example as text, and compare the text with its turns.

        Raises:
          Unfit: special tokens inside the text, or a template that refuses the prompt. What is
            wrong with an answer is kept until the prompt's tokens were looked at (`encoded_as`).
        """
        self.specials.refuse(
            (*example.prompt, *(Turn("assistant", a) for a in example.completions))
        )
        text = self.prompt_text(example.prompt, example.inputs)
        conversations: list[str] = []
        changes: list[Change] = []
        shapes: list[int] = []
        problem = None
        for index in range(len(example.completions)):
            try:
                full, changed, shape = self._conversation(example, text, index)
                self._require_permitted(changed)
            except Unfit as unfit:
                problem = unfit
                break
            conversations.append(full)
            changes += [change for change in changed if change not in changes]
            shapes.append(shape)
        both = _digest(tuple(shapes))
        return Written(text, tuple(conversations), tuple(changes), both, problem)

    def encoded_as(
        self,
        example: Example,
        row: int,
        written: Written,
        prompt: list[int],
        conversations: Sequence[list[int]],
    ) -> Encoded:
        """Make the tree of an example from its token ids; see `encoded`."""
        self._require_prompt(prompt)
        completions = [self._completion(prompt, ids) for ids in conversations]
        if written.problem is not None:
            raise written.problem
        if len(completions) == 2 and completions[0] == completions[1]:
            raise Unfit("chosen and rejected are the same tokens")
        desirable = example.desirable if isinstance(example, Labelled) else None
        tree = Tree(tuple(prompt), tuple(completions), row, desirable)
        return Encoded(tree, written.changes, written.shape)

    def _conversation(
        self, example: Example, text: str, index: int
    ) -> tuple[str, list[Change], int]:
        """Write the conversation with one answer; return what was changed in it, and its shape."""
        if self.kind == "raw":
            full = text + example.completions[index]
            return full, list(self.reads_text.changes(full)), 0
        turns, full = self._answered(example, index, text)
        changes, start, shape = self._compared(turns, example.inputs, full)
        if start is not None:
            answer = example.completions[index]
            prefill = turns[-1].content.removesuffix(answer)
            special = self.specials.everywhere
            scored = list(scored_changes(answer, prefill, full, start, len(text), special))
            changes += [self._named(change, example, text) for change in scored]
        return full, changes, shape

    def _completion(self, prompt: list[int], ids: list[int]) -> tuple[int, ...]:
        """Return the tokens behind the prompt's, to the one that ends the answer."""
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
        first = min((ids.index(token) for token in self.end_ids if token in ids), default=None)
        return (*ids, self.tokenizer.eos_token_id) if first is None else tuple(ids[: first + 1])

    def _opening(self, text: str) -> tuple[int, ...]:
        """Tokenize a rendered prompt."""
        prompt = self.encode(text)
        self._require_prompt(prompt)
        return tuple(prompt)

    def _require_prompt(self, prompt: list[int]) -> None:
        """Require that a prompt has tokens, and one BOS at the most."""
        if not prompt:
            raise Unfit("the prompt has no tokens")
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


@lru_cache(maxsize=SKELETONS)
def _digest(shape: tuple) -> int:
    """Return 62 bits for a shape: a million shapes stay small, whatever tools they hold."""
    text = repr(shape).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 2


def make_template(
    tokenizer: PreTrainedTokenizerBase,
    wanted: str,
    *,
    generation_eos: Collection[int] = (),
    allow_raw: bool = False,
    options: Mapping[str, object] | None = None,
    today: str = "",
    permit_changes: bool = False,
) -> Template:
    """Make the template of a run.

    Args:
      wanted: "auto" (the tokenizer's chat template), "raw" (prompt and answer as they stand), or a
        .jinja file.
      generation_eos: further token ids that end an answer, from the model's generation config.
      allow_raw: take "raw" although the tokenizer has a chat template.
      options: chat_template_kwargs, such as {"enable_thinking": False}; a row's own come on top.
      today: ISO date for templates that write the date; empty for the day of the call.
      permit_changes: use rows whose text the template changes.

    Raises:
      Refused: a chat model asked to train on raw text, no template where one is needed, or options
        that the template does not read.
    """
    if wanted not in ("auto", "raw"):
        tokenizer.chat_template = template_file(wanted)
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
        ends |= turn_ends(tokenizer)
    unread = [name for name in options or {} if kind == "raw" or name not in variables(tokenizer)]
    if unread:
        known = ", ".join(sorted(variables(tokenizer) - GIVEN)) if kind == "chat" else ""
        raise Refused(
            f"data.chat_template_kwargs has {unread[0]!r}, which the template does not read. It"
            f" reads: {known or 'no options'}."
        )
    return Template(
        tokenizer,
        kind,
        frozenset(ends),
        SpecialTexts.of(specials(tokenizer).values()),
        options or {},
        today,
        permit_changes,
        TextCheck.of(tokenizer),
    )


def template_of(
    config: Config, tokenizer: PreTrainedTokenizerBase, stops: Collection[int], wanted: str = ""
) -> Template:
    """Make the template of a run's rows or prompts, as its config has it.

    Args:
      stops: ids at which generation stops.
      wanted: as in `make_template`, where it is not the config's.
    """
    data = config.data
    return make_template(
        tokenizer,
        wanted or data.template,
        generation_eos=stops,
        allow_raw="raw_text" in config.allow,
        options=data.chat_template_kwargs,
        today=data.template_date or "",
        permit_changes="template_changes_text" in config.allow,
    )
