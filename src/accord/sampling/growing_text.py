"""The text of an answer while it grows, in pieces that can be shown at once.

A character of several bytes may be cut by the border of two tokens. It is held back until it is
whole, so that no half of a character is ever shown.
"""

from __future__ import annotations

from typing import Any

BROKEN = "\ufffd"  # stands for bytes that are no character, or not yet


class GrowingText:
    """The text of the tokens so far, without special tokens."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.text = ""  # of all tokens, as `Sample.text` has it
        self.shown = 0  # characters of it that were given out

    def add(self, token: int) -> str:
        """Add a token; return what can be shown of the text and was not yet."""
        self.ids.append(token)
        self.text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        return self._give(len(self.text.rstrip(BROKEN)))

    def finish(self) -> str:
        """Return the rest of the text: there comes no further token."""
        return self._give(len(self.text))

    def _give(self, until: int) -> str:
        piece = self.text[self.shown : until]
        self.shown = max(self.shown, until)
        return piece
