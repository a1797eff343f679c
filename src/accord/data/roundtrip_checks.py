"""Checks that the token ids still say what the file says: decode trees and compare the text.

Encoding goes from text to tokens; here we go back. A row under another row's answer, a template
that drops a turn, a tokenizer that has no token for a script, an answer that ends in a token at
which nothing stops: none of these raises an error, and all of them show in the decoded text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from accord.data.naming import Naming
from accord.data.templates import Template
from accord.data.tokenizer_text import Unfit
from accord.data.trees import Encoding, TokenAccount
from accord.errors import plural
from accord.types import Demonstration, Example, Finding, Origin, Pair, Tree, Turn

# Rows decoded, spread evenly over the file, and at least as many over its shapes: decoding costs
# about what encoding does, and the text itself was compared in every row.
SAMPLE = 256
UNKNOWN = 0.001  # share of unknown tokens from which a tokenizer does not fit the text
LOST = 0.05  # and from which so much text is lost that training is refused
# markers of turns in chat templates
MARKER = re.compile(r"<\|[^<>|\s]{1,40}\|>|<(?:start|end)_of_turn>")


def roundtrip_findings(
    encoding: Encoding,
    template: Template,
    stops: Collection[int],
    max_unfit: float,
    columns: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Decode a sample of the rows and report what differs from the file.

    Args:
      columns: the file's own names of columns, as `data.columns` has them.
      stops: ids at which generation stops: the tokenizer's EOS and those of the model's generation
        config.
      max_unfit: share of rows whose text may differ before training is refused.
    """
    sample = _spread(encoding, template.reads_text.exact)
    return [
        _as_in_file(encoding, sample, columns or {}),
        _texts(encoding, template, sample, max_unfit),
        _unknown(template, encoding.account),
        _stops(template, encoding.account, stops),
        markers(template),
    ]


def _spread(encoding: Encoding, exact: bool) -> Sequence[Tree]:
    """Choose the rows to decode.

    Every row where the tokenizer is not known to keep every text; else a sample spread over the
    whole file, and of every shape of row a sample of its own.
    """
    trees = encoding.trees
    if not exact:
        return trees
    chosen = set(_evenly(range(len(trees)), SAMPLE))
    order = np.argsort(encoding.shapes, kind="stable")
    _, starts = np.unique(encoding.shapes[order], return_index=True)
    # many shapes: a few rows of each of them
    each = max(2, SAMPLE // max(1, len(starts)))
    for members in np.split(order, starts[1:]):
        chosen |= set(_evenly(members, each))
    return [trees[number] for number in sorted(chosen)]


def _evenly(members: Sequence[int] | np.ndarray, most: int) -> list[int]:
    """Choose at most so many of the members, from the first to the last."""
    if len(members) <= most:
        return list(map(int, members))
    return [int(members[round(k * (len(members) - 1) / (most - 1))]) for k in range(most)]


def plain(text: str) -> str:
    """Remove from a text what tokenizers and templates may change: case, blanks, compatible forms
    of one character.
    """
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _as_in_file(encoding: Encoding, sample: Sequence[Tree], columns: Mapping[str, str]) -> Finding:
    """Check that `chosen` and `rejected` of the examples stand under these names in the file.

    The file is read by the json module alone.
    """
    check, examples = "data.sides", [encoding.examples[tree.row] for tree in sample]
    file = Path(examples[0].origin.file) if examples else Path()
    if (
        file.suffix not in (".jsonl", ".ndjson")
        or not file.is_file()
        or not isinstance(examples[0], Pair)
    ):
        return Finding(
            check,
            "ok",
            "the file is not plain JSONL of pairs, so the sides were not read a second time",
        )
    wanted = {example.origin.line: example for example in examples if isinstance(example, Pair)}
    swapped = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number in wanted and _stands_swapped(line, wanted[number], columns):
                swapped.append(str(wanted[number].origin))
    if not swapped:
        return Finding(
            check, "ok", f"chosen and rejected of {len(wanted):,} rows are as in the file"
        )
    says = (
        f"{len(swapped):,} of {len(wanted):,} rows have chosen and rejected swapped against what"
        " stands in the file"
    )
    return Finding(check, "refused", says, {"first": swapped[:3]}, "report this with the row")


def _stands_swapped(line: bytes, example: Pair, columns: Mapping[str, str]) -> bool:
    """Tell whether each answer stands in the other's column, and not in its own."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    row = Naming(columns).apply(row) if isinstance(row, dict) else {}
    if not {"chosen", "rejected"} <= row.keys():
        return False
    good, bad = (
        plain(json.dumps(row[side], ensure_ascii=False)) for side in ("chosen", "rejected")
    )
    chosen, rejected = (
        plain(json.dumps(answer.strip(), ensure_ascii=False)[1:-1])
        for answer in (example.chosen, example.rejected)
    )
    return chosen in bad and rejected in good and (chosen not in good or rejected not in bad)


def _texts(
    encoding: Encoding, template: Template, sample: Sequence[Tree], max_unfit: float
) -> Finding:
    """Decode rows and compare them, character by character, with what the template wrote."""
    wrong = []
    for tree in sample:
        example = encoding.as_encoded(tree.row)
        cut = tree.row in encoding.rows_cut or tree.row in encoding.rows_drawn_cut
        if problem := _problem(template, tree, example, cut=cut):
            wrong.append({"at": str(example.origin), "detail": problem})
    shapes = len(encoding.account.shapes)
    of = f" of {len(encoding.trees):,}, of every one of {shapes:,} shapes" if shapes > 1 else ""
    says = f"{plural(len(sample), 'row')}{of} decoded: "
    if not wrong:
        return Finding(
            "data.text", "ok", says + "their tokens are their text, character by character"
        )
    share = len(wrong) / len(sample)
    evidence = {"share": share, "first": wrong[:3]}
    verdict = "refused" if share > max_unfit else "warning"
    says += f"{len(wrong):,} ({share:.1%}) do not hold the text of their row: {wrong[0]['detail']}"
    return Finding(
        "data.text", verdict, says, evidence, "mend the chat template, or report this row"
    )


def _problem(template: Template, tree: Tree, example: Example, cut: bool) -> str:
    """Describe how a row's tokens differ from its text; empty where they do not."""
    unknown = template.tokenizer.unk_token_id
    sides = ("chosen", "rejected") if len(tree.completions) == 2 else ("answer",)
    for index, (side, ids) in enumerate(zip(sides, tree.completions, strict=True)):
        if unknown in ids or unknown in tree.prompt:
            continue  # counted by `_unknown`
        wanted = template.full_text(example, index)
        said = _decoded(template.tokenizer, (*tree.prompt, *ids))
        if not _agrees(template, said, wanted, example.completions[index], cut):
            return f"its tokens are not the row's {side} answer: {_first(said, wanted)}"
    return ""


def _agrees(template: Template, said: str, wanted: str, answer: str, cut: bool) -> bool:
    """Compare decoded tokens with a rendered text, which may go on behind the token that ends it.

    Some decoders put or take a blank beside a special token, or at the start; nothing else may
    differ.
    """
    check = template.reads_text
    if check.normalize is not None:
        said = said.replace("▁", " ")
        wanted, answer = (check.normalize(text).replace("▁", " ") for text in (wanted, answer))
    elif check.form:
        wanted, answer = (
            unicodedata.normalize(check.form, text)  # type: ignore[arg-type]
            for text in (wanted, answer)
        )
    eos = template.tokenizer.eos_token or ""
    for one, other in ((said, wanted), (_closed(template, said), _closed(template, wanted))):
        whole = other.startswith(one) and (cut or len(one) >= _end(other, answer))
        if whole or one == other + eos or (cut and other.startswith(one.rstrip("\ufffd"))):
            return True
    return False


def _closed(template: Template, text: str) -> str:
    """Return a text without the blanks beside special tokens and at its start."""
    pattern = template.specials.everywhere
    if pattern is not None:
        text = re.sub(rf" ?({pattern.pattern}) ?", r"\1", text)
    return text.lstrip(" ")


def _end(text: str, answer: str) -> int:
    """Return where the answer ends in the text, at the latest: at the text's own end where a
    permitted change left nothing of the answer to find.
    """
    at = text.rfind(answer.strip())
    return at + len(answer.strip()) if at >= 0 else len(text.rstrip())


def _first(said: str, wanted: str) -> str:
    both = enumerate(zip(said, wanted, strict=False))  # up to the end of the shorter one
    at = next((i for i, (a, b) in both if a != b), min(len(said), len(wanted)))
    cut = slice(max(0, at - 20), at + 30)
    return f"{json.dumps(said[cut])} stands for {json.dumps(wanted[cut])}"


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    text = tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    assert isinstance(text, str), "one row of ids gives one text"
    return text


def _unknown(template: Template, account: TokenAccount) -> Finding:
    """Count tokens that stand for text which the tokenizer does not know."""
    tokenizer = template.tokenizer
    unknown = tokenizer.unk_token_id
    # Where EOS or BOS doubles as the unknown token (SmolLM2), its ids in a prompt are markers.
    if unknown is None or unknown in (
        tokenizer.eos_token_id,
        tokenizer.bos_token_id,
        tokenizer.pad_token_id,
    ):
        return Finding("data.unknown_tokens", "ok", "the tokenizer has a token for every text")
    share = account.unknown / max(1, account.tokens)
    says = f"{share:.2%} of tokens are unknown to the tokenizer ({tokenizer.unk_token})"
    if share > LOST and not template.permit_changes:
        remedy = "use the tokenizer of this model, or permit it: --allow template_changes_text"
        return Finding("data.unknown_tokens", "refused", says, {"share": share}, remedy)
    if share <= UNKNOWN:
        return Finding("data.unknown_tokens", "ok", says)
    return Finding(
        "data.unknown_tokens",
        "warning",
        says,
        {"share": share},
        "use the tokenizer of this model, or other data",
    )


def _stops(template: Template, account: TokenAccount, stops: Collection[int]) -> Finding:
    """Check that generation stops at the token that answers are taught to end in."""
    deaf = {token: count for token, count in account.end_tokens.items() if token not in stops}
    if not deaf:
        return Finding("data.stop", "ok", "answers end in a token at which generation stops")
    token = max(deaf, key=deaf.__getitem__)
    name = template.tokenizer.convert_ids_to_tokens(token)
    says = (
        f"answers end in {name}, at which generation does not stop (it stops at {sorted(stops)}):"
        " replies would run on"
    )
    remedy = (
        f"add {token} to eos_token_id in generation_config.json, or mend the tokenizer's eos_token"
    )
    return Finding("data.stop", "warning", says, {"token": token, "stops": sorted(stops)}, remedy)


def markers(template: Template) -> Finding:
    """Check that the template's markers are tokens of this tokenizer.

    A template of another model writes them as plain text.
    """
    if template.kind == "raw":
        return Finding("data.markers", "ok", "raw text has no turn markers")
    try:
        question = (Turn("user", "hello"),)
        text = template.full_text(Demonstration(question, "there", Origin("markers", 1)), 0)
    except Unfit:  # rows with a system turn may still render: they were checked one by one
        return Finding(
            "data.markers", "ok", "the template takes no lone question; its rows were checked"
        )
    tokenizer = template.tokenizer
    used = dict.fromkeys(MARKER.findall(text))
    foreign = [
        mark for mark in used if len(tokenizer(mark, add_special_tokens=False)["input_ids"]) > 1
    ]
    own = [
        token
        for token in tokenizer.get_added_vocab()
        if MARKER.fullmatch(token) and _opens_turns(token)
    ]
    unused = [token for token in own if token not in used]
    # either alone is common: templates of plain text, vocabularies with spare markers
    if foreign and unused:
        says = (
            f"the template marks turns by {', '.join(foreign)}, plain text to this tokenizer, whose"
            f" own are {', '.join(unused[:3])}"
        )
        return Finding(
            "data.markers",
            "warning",
            says,
            {"foreign": foreign, "own": unused},
            "use this model's own chat template",
        )
    return Finding("data.markers", "ok", "the template's turn markers are tokens of this tokenizer")


def _opens_turns(token: str) -> bool:
    return any(
        word in token for word in ("im_start", "im_end", "header", "user", "assistant", "turn")
    )
