"""Token ids of many texts: in batches of the fast tokenizer, in threads, a prompt once for all its
answers.

    texts are written (Python) ──▶ tokenised (Rust, without Python's lock) ──▶ trees (Python)

A conversation begins with its prompt, so most of its tokens are the prompt's. They are not made
again where the prompt holds a token of the tokenizer's own, such as the one that opens a turn: the
tokenizer first cuts a text at these tokens and then reads each part by itself, so that what stands
before the last of them gives the same ids with any answer behind it (`seams`). A sample of the rows
is tokenised whole as well and compared (`differs`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from accord.data.templates import Template, Written
from accord.environment.threads import cores

ROWS = 128  # of a batch: about 50,000 tokens, 0.1 s of work
WAITING = 3  # batches that are written and not yet trees, for each thread

Row = TypeVar("Row")


@dataclass(frozen=True)
class TokenIds:
    """The token ids of one row: of its prompt, and of the conversation with each answer."""

    prompt: list[int]
    conversations: tuple[list[int], ...]


class Tokenizing:
    """The way from a row's texts to its token ids.

    Args:
      whole: tokenise every text from its beginning.
    """

    def __init__(self, template: Template, whole: bool = False) -> None:
        self.template, self.raw = template, template.kind == "raw"
        self.backend = getattr(template.tokenizer, "backend_tokenizer", None)
        self.seams = None if whole or self.raw else seams(template.tokenizer)
        if self.backend is not None:  # as transformers sets them at each call
            self.backend.no_truncation()
            self.backend.no_padding()

    def texts(self, written: Written) -> list[str]:
        """Return what has to be tokenised of a row."""
        whole = [written.prompt, *written.conversations]
        at = self._seam(written.prompt)
        return whole if at is None else [written.prompt[:at], *(text[at:] for text in whole)]

    def joined(self, written: Written, ids: Sequence[list[int]]) -> TokenIds:
        """Put the ids of `texts` together."""
        if self._seam(written.prompt) is None:
            prompt, *conversations = ids
        else:
            head, *tails = ids
            prompt, *conversations = [head + tail for tail in tails]
        return TokenIds(prompt, tuple(conversations))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise texts as `Template.encode` does, each by itself."""
        if self.backend is None:
            return [self.template.encode(text) for text in texts]
        try:
            found = self.backend.encode_batch_fast(list(texts), add_special_tokens=self.raw)
        except Exception:  # a text that the tokenizer does not take, of one row among many
            return [self.template.encode(text) for text in texts]
        return [self.template.without_eos(each.ids) for each in found]

    def differs(self, written: Written, ids: TokenIds) -> bool:
        """Tokenise a row's texts whole, and tell whether that gives other ids."""
        whole = self.ids([written.prompt, *written.conversations])
        return whole != [ids.prompt, *ids.conversations]

    def _seam(self, prompt: str) -> int | None:
        if self.seams is None:
            return None
        return max((found.start() for found in self.seams.finditer(prompt)), default=None)


def seams(tokenizer: PreTrainedTokenizerBase) -> re.Pattern | None:
    """Return what finds the tokens in front of which a text may be cut and its parts tokenised
    apart; None if there are none.

    They are the added tokens that the tokenizer looks for in the text as it stands, the longest
    first, before it normalises or cuts anything. One that takes blanks from its left, or is found
    between words alone, looks beyond the cut.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.encode_special_tokens:
        return None
    found = [token for token in tokenizer.added_tokens_decoder.values() if not token.normalized]
    if not found or any(token.lstrip or token.single_word for token in found):
        return None
    texts = sorted((token.content for token in found), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, texts)))


def tokenised(
    rows: Iterable[Row],
    write: Callable[[Row], Written | None],
    tokenizing: Tokenizing,
    threads: int | None = None,
) -> Iterator[tuple[Row, Written | None, TokenIds | None]]:
    """Yield each row with its texts and token ids, in order.

    Texts are tokenised in threads while the next ones are written.

    Args:
      write: the texts of a row; None if it has none.
      threads: how many; as many as this process may use cores by default.
    """
    source = iter(rows)
    first = list(islice(source, ROWS))
    if len(first) < ROWS:  # not worth a thread
        yield from _done(*_asked(first, write, tokenizing), tokenizing)
        return
    count = threads or cores()
    under_way: deque[tuple[list, Future]] = deque()
    with ThreadPoolExecutor(count, "accord-tokens") as pool:
        try:
            batch = first
            while batch:
                asked, texts = _asked(batch, write, tokenizing)
                under_way.append((asked, pool.submit(tokenizing.ids, texts)))
                if len(under_way) > WAITING * count:
                    done, ids = under_way.popleft()
                    yield from _joined(done, ids.result(), tokenizing)
                batch = list(islice(source, ROWS))
            while under_way:
                done, ids = under_way.popleft()
                yield from _joined(done, ids.result(), tokenizing)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _asked(
    batch: Sequence[Row], write: Callable[[Row], Written | None], tokenizing: Tokenizing
) -> tuple[list[tuple[Row, Written | None, int]], list[str]]:
    """Write the texts of some rows; return each with the number of its texts, and all texts."""
    asked, texts = [], []
    for row in batch:
        written = write(row)
        own = [] if written is None else tokenizing.texts(written)
        asked.append((row, written, len(own)))
        texts += own
    return asked, texts


def _done(asked: list, texts: list[str], tokenizing: Tokenizing) -> Iterator:
    yield from _joined(asked, tokenizing.ids(texts), tokenizing)


def _joined(asked: list, ids: Sequence[list[int]], tokenizing: Tokenizing) -> Iterator:
    at = 0
    for row, written, count in asked:
        own = ids[at : at + count]
        at += count
        yield row, written, None if written is None else tokenizing.joined(written, own)
