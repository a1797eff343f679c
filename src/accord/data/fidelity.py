"""Fidelity of a chat template: what it writes is the row's turns, verbatim and in order.

A row has a *shape*: the roles of its turns, the keys of their messages, where think blocks stand,
and what else the template is given (tools, documents, options). For every shape the template is
rendered once on short marks in place of the texts; what stands between the marks are the template's
own constants. The text of every row must then be exactly these constants with the row's texts in
the places of the marks. Whatever a template drops, adds, trims, folds, cuts, moves or merges breaks
that one comparison, and only then is the cause looked for.

Pure functions of text: rendering is passed in.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from accord.data.altered_text import Change, beginning_of_difference, what_became_of
from accord.types import REASONING, TemplateInputs, Turn

# Marks that open and close the thinking of an answer, in the templates in wide use.
OPENING = r"<think(?:ing)?>|<reasoning>|\[THINK\]|<\|START_THINKING\|>|<seed:think>|<thought>"
CLOSING = r"</think(?:ing)?>|</reasoning>|\[/THINK\]|<\|END_THINKING\|>|</seed:think>|</thought>"
# Blanks in front of a mark are tried from the beginning of their run alone: a million of them
# would else be a million tries.
BLANKS = r"(?:(?<!\s)\s+|)"
THINK = re.compile(rf"({BLANKS}(?:{OPENING}|{CLOSING})\s*)")
OPENS = re.compile(rf"{BLANKS}(?:{OPENING})\s*\Z")
BEGINS = re.compile(rf"\s*(?:{OPENING})")
CLOSES = re.compile(CLOSING)
CLOSES_OR_OPENS = re.compile(rf"{OPENING}|{CLOSING}")
MARKED = ("think", "THINK", "reasoning>", "thought>")  # one of them is in every such mark
MANY = 8  # a text with more marks talks about them

# Stands for a text when a template's constants are learnt: without blanks or capitals, so that a
# template that trims or lower-cases keeps it; the rows themselves show what it changes.
MARK = re.compile(r"zq(\d{4})kx")


def mark(number: int) -> str:
    """Return the mark that stands for a text."""
    return f"zq{number:04}kx"


@dataclass(frozen=True, slots=True)
class Piece:
    """A text of a row that must stand verbatim in what the template writes."""

    turn: int
    role: str
    glue: str  # think marks, with their blanks, between the text before and this one in its turn
    thought: bool  # what a think block or a key of reasoning holds
    text: str
    key: bool = False  # it stands in a key of reasoning, not in the message itself


@dataclass(frozen=True, slots=True)
class Outline:
    """A conversation taken apart: its shape, which can be compared, and the texts in its places."""

    shape: tuple
    pieces: tuple[Piece, ...]
    last: int  # index of the first piece of the last turn; beyond the end if it has none
    answer: int  # number of the turn that is the answer; -1 for a prompt
    closing: str  # think marks behind the last piece of the last turn


def outline(turns: Sequence[Turn], inputs: TemplateInputs, answered: bool) -> Outline:
    """Take a conversation apart.

    Args:
      answered: the last turn is the answer; else the conversation is a prompt.
    """
    shape: list = [answered, inputs.tools, inputs.documents, inputs.options]
    pieces: list[Piece] = []
    last, closing = 0, ""
    for at, turn in enumerate(turns):
        last = len(pieces)
        keys: list = []
        for name, value in turn.keys:
            if name in REASONING:
                pieces.append(Piece(at, turn.role, "", True, str(json.loads(value)), True))
                keys.append(name)
            else:
                keys.append((name, value))
        found, closing = _split(turn, at)
        pieces += found
        shape.append((turn.role, *keys, *(piece.glue for piece in found), closing, not found))
    answer = len(turns) - 1 if answered else -1
    return Outline(tuple(shape), tuple(pieces), last, answer, closing)


def _split(turn: Turn, at: int) -> tuple[list[Piece], str]:
    """Return the texts of a turn, and the think marks behind the last of them."""
    content = turn.content
    if not content.strip():
        return [], content
    if turn.role != "assistant" or not any(word in content for word in MARKED):
        return [Piece(at, turn.role, "", False, content)], ""
    parts = THINK.split(content)
    if len(parts) > 2 * MANY + 1 or not any(part.strip() for part in parts[::2]):
        return [Piece(at, turn.role, "", False, content)], ""
    pieces: list[Piece] = []
    glue = ""
    for index, part in enumerate(parts):
        if index % 2 or not part:
            glue += part
            continue
        following = parts[index + 1] if index + 1 < len(parts) else ""
        pieces.append(Piece(at, turn.role, glue, bool(CLOSES.search(following)), part))
        glue = ""
    return pieces, glue


@dataclass(frozen=True)
class Skeleton:
    """The constants that a template writes around the texts of one shape."""

    constants: tuple[str, ...]  # one more than `order` has
    order: tuple[int, ...]  # index of the piece behind each constant but the last
    changes: tuple[Change, ...]  # what the template does to every row of the shape

    def text(self, pieces: Sequence[Piece]) -> str:
        """Return the text that a faithful template makes of the pieces."""
        out = [self.constants[0]]
        for at, constant in zip(self.order, self.constants[1:], strict=True):
            out += (pieces[at].text, constant)
        return "".join(out)

    def compare(self, found: Outline, rendered: str) -> tuple[tuple[Change, ...], int | None]:
        """Compare a row with what the template made of it.

        Returns:
          the changes, none if it is faithful; and where the last turn begins in the text, None if
          it was dropped or begins with a key of reasoning, in front of which a template writes its
          own mark.
        """
        shared = tuple(
            change
            if change.piece is None
            else replace(change, before=found.pieces[change.piece].text)
            for change in self.changes
        )
        if self.text(found.pieces) == rendered:
            return shared, self._start(found, [piece.text for piece in found.pieces])
        causes, made = _causes(self, found, rendered)
        return (*shared, *causes), self._start(found, made)

    def _start(self, found: Outline, made: Sequence[str]) -> int | None:
        """Return where the last turn begins if the pieces became these texts."""
        if found.last >= len(found.pieces) or found.pieces[found.last].key:
            return None
        length = 0
        # the last constant stands behind every piece
        for at, constant in zip(self.order, self.constants, strict=False):
            length += len(constant)
            if at == found.last:
                return length - len(constant) + _glue_start(found.pieces[at].glue, constant)
            length += len(made[at])
        return None


def learn(
    turns: Sequence[Turn], found: Outline, render: Callable[[Sequence[Turn]], str]
) -> Skeleton:
    """Learn the constants of one shape from a row of it.

    Args:
      render: writes turns as the row's own are written, with its other inputs.
    """
    text = render(_marked(turns, found))
    places = list(MARK.finditer(text))
    order = tuple(int(place[1]) for place in places)
    edges = [0, *(edge for place in places for edge in place.span()), len(text)]
    constants = tuple(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    changes = [
        *_dropped(found, order),
        *_moved(found, order),
        *_between(found, order, constants),
        *_unwritten(turns, text),
    ]
    return Skeleton(constants, order, tuple(changes))


def _marked(turns: Sequence[Turn], found: Outline) -> list[Turn]:
    """Return the turns with a mark in the place of each text."""
    out, at = [], 0
    for number, turn in enumerate(turns):
        keys = []
        for name, value in turn.keys:
            if name in REASONING:
                value, at = json.dumps(mark(at)), at + 1
            keys.append((name, value))
        content = turn.content if not turn.content.strip() else ""
        while at < len(found.pieces) and found.pieces[at].turn == number:
            content += f"{found.pieces[at].glue}{mark(at)}"
            at += 1
        if content and turn.content.strip() and (closing := _split(turn, number)[1]):
            content += closing
        out.append(replace(turn, content=content, keys=tuple(keys)))
    return out


# ---------------------------------------------------------------- what happens to a whole shape


def _place(piece: Piece, last: int) -> str:
    """Name a piece's turn; `last` is the answer's, or -1."""
    if piece.turn == last:
        return "the answer"
    article = "an" if piece.role == "assistant" else "a"
    return f"{article} {piece.role} turn"


def _dropped(found: Outline, order: Sequence[int]) -> Iterator[Change]:
    for at, piece in enumerate(found.pieces):
        if at in order:
            continue
        if piece.thought:
            # Templates take the thinking out of earlier answers, at inference too.
            mild = piece.turn != found.answer
            of = _place(piece, found.answer)
            yield Change(f"the template drops the thinking of {of}", piece.text, "", mild, at)
        else:
            cause = f"the template drops {_place(piece, found.answer)}"
            yield Change(cause, piece.text, "", piece=at)


def _moved(found: Outline, order: Sequence[int]) -> Iterator[Change]:
    twice = {at for at in order if order.count(at) > 1}
    for at in sorted(twice):
        piece = found.pieces[at]
        cause = f"the template writes {_place(piece, found.answer)} twice"
        yield Change(cause, piece.text, "the same text in two places", piece=at)
    spoken = [at for at in order if found.pieces[at].role != "system"]
    if twice or list(order) == sorted(order):
        return
    if spoken == sorted(spoken):
        # Mistral's templates put the system text into the last question, at inference too.
        yield Change(
            "the template moves a system turn", "the turns in order", "another order", True
        )
    else:
        yield Change("the template changes the order of turns", "the turns in order", str(order))


def _between(found: Outline, order: Sequence[int], constants: Sequence[str]) -> Iterator[Change]:
    """Compare the think marks of a turn, and see whether turns run into each other."""
    for k, at in enumerate(order):
        piece, before = found.pieces[at], constants[k]
        previous = found.pieces[order[k - 1]] if k else None
        inner = at > 0 and found.pieces[at - 1].turn == piece.turn
        if inner:
            # Where the thinking was dropped, its marks are gone as well; where it is a key of the
            # message, the template writes marks of its own.
            kept = previous is found.pieces[at - 1] and not previous.key
            made = before if kept else piece.glue
        else:
            made = before[_glue_start(piece.glue, before) :]
        yield from _other_marks(piece.glue, made, _place(piece, found.answer))
        if previous is not None and not inner and not before.strip():
            both = f"{_place(previous, found.answer)} and {_place(piece, found.answer)}"
            cause = f"the template runs {both} together"
            yield Change(cause, previous.text, before, mild=True, piece=order[k - 1])
    if found.closing.strip() and order and not constants[-1].startswith(found.closing):
        cause = "the template changes the think marks of the answer"
        yield Change(cause, found.closing, constants[-1])


def _glue_start(glue: str, constant: str) -> int:
    """Return where a text's think marks begin in the constant before it; blanks may differ."""
    if constant.endswith(glue):
        return len(constant) - len(glue)
    marks = list(CLOSES_OR_OPENS.finditer(constant))[-len(CLOSES_OR_OPENS.findall(glue)) :]
    return marks[0].start() if marks else len(constant)


def _other_marks(glue: str, made: str, place: str) -> Iterator[Change]:
    """Compare a text's think marks with those that the template wrote.

    Other blanks around the same marks are what templates do to edges of texts (Qwen3 puts each mark
    on a line of its own), at inference too.
    """
    if glue == made:
        return
    if "".join(glue.split()) == "".join(made.split()):
        cause = f"the template changes the blanks around the think marks of {place}"
        yield Change(cause, glue, made, mild=True)
    else:
        cause = f"the template changes the think marks of {place}"
        yield Change(cause, glue, made, mild=place != "the answer")


def text_behind(found: Outline, skeleton: Skeleton, special: re.Pattern | None) -> Iterator[Change]:
    """Find text that a template writes between an answer and the token that ends it; blanks are
    part of the end in some templates.
    """
    if found.answer < 0 or not skeleton.order:
        return
    tail = skeleton.constants[-1].removeprefix(found.closing)
    end = special.search(tail) if special is not None else None
    behind = tail[: end.start()] if end else tail
    if behind.strip():
        cause = "the template puts text of its own behind the answer"
        yield Change(cause, "", behind)


def _unwritten(turns: Sequence[Turn], text: str) -> Iterator[Change]:
    """Find calls of tools that the template does not write."""
    for turn in turns:
        for name, value in turn.keys:
            if name != "tool_calls":
                continue
            lost = [leaf for leaf in leaves(json.loads(value)) if not _written(leaf, text)]
            if lost:
                yield Change("the template drops a call of a tool", lost[0], "")


NAMING = ("id", "type", "index")  # keys that number or type a call or a schema


def leaves(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the texts inside a JSON value that a reader must see: names, descriptions, values."""
    if isinstance(value, str):
        parsed = _parsed(value)
        if isinstance(parsed, (dict, list)):  # a call's arguments are JSON text in OpenAI's form
            yield from leaves(parsed, depth + 1)
        elif value.strip():
            yield value
    elif isinstance(value, dict) and depth < 32:
        for key, each in value.items():
            if key not in NAMING:
                yield from leaves(each, depth + 1)
    elif isinstance(value, list) and depth < 32:
        for each in value:
            yield from leaves(each, depth + 1)


def _parsed(text: str) -> object:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _written(leaf: str, text: str) -> bool:
    return (
        leaf in text
        or json.dumps(leaf, ensure_ascii=False)[1:-1] in text
        or json.dumps(leaf)[1:-1] in text
        or html.escape(leaf) in text
    )


def lost_inputs(
    inputs: TemplateInputs, text: str, render: Callable[[TemplateInputs], str]
) -> Iterator[Change]:
    """Find tools and documents of a row that stand nowhere in the text.

    The text must differ from the one without them, and hold what a reader must see: of a schema the
    function's name and description, since templates write types in ways of their own; of a document
    every text.

    Args:
      render: writes the row with other inputs.
    """
    for name in ("tools", "documents"):
        given = getattr(inputs, name)
        if not given:
            continue
        without = replace(inputs, tools="") if name == "tools" else replace(inputs, documents="")
        ignored = render(without) == text
        seen = [leaf for each in json.loads(given) for leaf in _essential(each, name)]
        lost = next((leaf for leaf in seen if ignored or not _written(leaf.strip(), text)), None)
        if ignored or lost is not None:
            yield Change(f"the template does not write the row's {name}", lost or given, "")


def _essential(value: object, name: str) -> list[str]:
    """Return the texts of a tool's schema, or of a document, that must be written."""
    if name == "documents" or not isinstance(value, dict):
        return list(leaves(value))
    tool = value.get("function", value)
    said = [tool.get(key) for key in ("name", "description")] if isinstance(tool, dict) else []
    return [leaf for leaf in said if isinstance(leaf, str) and leaf.strip()]


# ---------------------------------------------------------------- what happens to one row


def _causes(skeleton: Skeleton, found: Outline, rendered: str) -> tuple[list[Change], list[str]]:
    """Walk along the text and name what became of each piece; return the causes and the texts that
    stand in the places of the pieces.
    """
    pieces, made = found.pieces, [piece.text for piece in found.pieces]
    position, causes = len(skeleton.constants[0]), []
    if not rendered.startswith(skeleton.constants[0]):
        return [_other_constants(skeleton, pieces, rendered)], made
    for k, at in enumerate(skeleton.order):
        piece, behind = pieces[at], skeleton.constants[k + 1]
        final = k == len(skeleton.order) - 1
        verb, made[at], mild = what_became_of(piece.text, rendered, position, behind, final)
        if verb:
            # A tool's result as JSON loses nothing, and is written so at inference too (Llama 3.1).
            mild = mild or (verb == "escapes" and piece.role == "tool")
            cause = f"the template {verb} {_place(piece, found.answer)}"
            causes.append(
                Change(cause, beginning_of_difference(piece.text, made[at], mild), made[at], mild)
            )
        position += len(made[at])
        if not rendered.startswith(behind, position):  # other constants: no place is known beyond
            break
        position += len(behind)
    return causes or [_other_constants(skeleton, pieces, rendered)], made


def _other_constants(skeleton: Skeleton, pieces: Sequence[Piece], rendered: str) -> Change:
    """Name a row around whose texts the template writes something else than in others of its
    shape.
    """
    expected = skeleton.text(pieces)
    both = enumerate(zip(expected, rendered, strict=False))  # up to the end of the shorter one
    at = next((i for i, (a, b) in both if a != b), min(len(expected), len(rendered)))
    before, after = expected[max(0, at - 20) :], rendered[max(0, at - 20) :]
    return Change("the template writes other text around the turns of some rows", before, after)


def in_order(found: Outline, rendered: str) -> tuple[Change, ...]:
    """Compare a row of a shape whose constants cannot be learnt: its texts must stand in order."""
    position = 0
    for piece in found.pieces:
        at = rendered.find(piece.text, position)
        if at < 0:
            return (Change(f"the template changes {_place(piece, found.answer)}", piece.text, ""),)
        position = at + len(piece.text)
    return ()


OWN_TEXT = "the template puts text of its own before the answer"


def scored_changes(
    answer: str, prefill: str, full: str, start: int, prompt: int, special: re.Pattern | None = None
) -> Iterator[Change]:
    """Compare where the answer begins with where scoring begins: what is scored is the answer
    verbatim.

    Args:
      prefill: what the prompt already holds of the answer's turn: an assistant turn that the answer
        continues, or the opening of a think block.
      start: where the text of the answer's turn begins in `full`.
      prompt: where the prompt ends in `full`, and scoring begins.
      special: finds the tokenizer's special tokens.
    """
    begins = start + len(prefill)
    if begins > prompt:
        added = full[prompt:begins]
        mild = False
        if prefill and not added.strip():
            cause = "the template moves the blanks before the answer into it"
        elif not added.strip():
            # The same for every answer, and the model has to write it at inference as well: Llama 2
            # and DeepSeek V2 leave it out of the generation prompt.
            cause, mild = "the template scores blanks of its own before the answer", True
        elif CLOSES.search(added) and not THINK.sub("", added).strip():
            cause = "the template puts an empty think block before the answer"
        elif OPENS.match(added):
            cause = "the template opens a think block before the answer"
        elif special is not None and _is_header(full[:prompt], added, special):
            # gpt-oss: the model names the channel of its answer itself
            cause, mild = "the template scores its header of the answer", True
        else:
            cause = OWN_TEXT
        yield Change(cause, answer, added + answer, mild)
    elif begins < prompt:
        taken = full[begins:prompt]
        begins_so = OPENS.fullmatch(taken) and answer.lstrip().startswith(taken.strip())
        if not begins_so:
            yield Change("the generation prompt holds the beginning of the answer", answer, taken)


def _is_header(before: str, added: str, special: re.Pattern) -> bool:
    """Tell whether a text goes on with a header that the prompt has begun: a name between special
    tokens.
    """
    if not before.endswith("assistant") or not special.search(before):
        return False  # a prompt without a header at all does not invite an answer
    found = list(special.finditer(added))
    if len(found) < 2 or found[0].start() or found[-1].end() != len(added):
        return False
    return len(special.sub("", added).split()) <= 1
