"""Media: a row with an image, a sound or a video is refused by name, since accord trains on text.

A column or key counts where it holds something: tables fill what a row lacks with nulls and empty
objects. In text a mark such as `<image>` counts where a processor would put the picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from accord.data.formats.parts import is_null
from accord.data.ledger import RowError
from accord.types import Turn

_KINDS = "images?|imgs?|pictures?|photos?|audios?|videos?"
_LOOSE = "speech|sounds?|media|frames|clips?|waveforms?"  # of media only with what follows
_STORED = "paths?|urls?|uris?|files?|filenames?|bytes|base64|b64"
_NAME = re.compile(
    r"(?:(?:input|question|prompt|user|chosen|rejected|system)_)?"
    rf"(?:(?:{_KINDS})(?:_?(?:{_STORED}|data|list))?|(?:{_LOOSE})_?(?:{_STORED})|pixel_values)",
    re.IGNORECASE,
)

# Marks that no ordinary text holds.
_TOKENS = re.compile(
    r"<\|(?:image|video|audio|vision|img|image_pad|video_pad|audio_pad|vision_start|vision_end"
    r"|audio_start|AUDIO|image_1|audio_1|begin_of_image|start_of_image)\|?>"
    r"|<(?:image_soft_token|start_of_image|image_placeholder|ImageHere|image_here|IMG_CONTEXT)>"
    r"|<Img>|\[IMG\]",
    re.IGNORECASE,
)
_MARK = r"<(image|video|audio)>"
# Where a processor's mark stands: at the very start, before words, a line's end or another mark, or
# alone on the last line. "<video> is a tag" talks about HTML, and so does text that closes the tag.
_AT_START = re.compile(rf"\s*{_MARK}(?=\w|\r?\n|[ \t]+[A-Z][a-z]|{_MARK}|\s*\Z)")
_AT_END = re.compile(rf"\n[ \t]*{_MARK}\s*\Z")
_EDGE = 60  # characters at a text's end that are looked at


NONE = ("[]", "{}", "null", "none", "nan")  # what CSV writers print


def refuse_columns(row: dict) -> None:
    """Refuse a row with media in one of its columns."""
    for name in row:
        if _is_media(name) and not is_empty(row[name]):
            raise RowError("not text", f"the row has media in {name!r:.60}; only text can be used.")


def refuse_keys(message: dict, where: str) -> None:
    """Refuse a message or a content part with media under one of its keys."""
    for name, value in message.items():
        if _is_media(name) and not is_empty(value):
            raise RowError(
                "not text", f"{where} has a message with {name!r:.60}; only text can be used."
            )


def refuse_marks(prompt: Sequence[Turn]) -> None:
    """Refuse a prompt with the mark of an image, a sound or a video in a user's turn."""
    for turn in prompt:
        if turn.role == "user" and (found := mark(turn.content)):
            raise RowError(
                "not text",
                f"the prompt has the mark {found} of media that are not there; only text can be"
                " used.",
            )


def mark(content: str) -> str:
    """Return the mark of media in a user's text, or "" if there is none."""
    if "<" not in content and "[IMG]" not in content:
        return ""
    stripped = content.strip()
    edges = stripped[:_EDGE], stripped[-_EDGE:]
    for found in _TOKENS.finditer(" ".join(edges)):
        if stripped.startswith(found[0]) or stripped.endswith(found[0]):
            return found[0]
    html = _AT_START.match(content[:_EDGE]) or _AT_END.search(content[-_EDGE:])
    if html and f"</{html[1]}>" not in content:
        return f"<{html[1]}>"
    # no HTML has this tag
    return "<image>" if "<image>" in (stripped[:7], stripped[-7:]) else ""


def is_empty(value: object) -> bool:
    """Tell whether a value holds no media: a null, false, or zero."""
    return (
        is_null(value, NONE) or value is False or (isinstance(value, (int, float)) and value == 0)
    )


@lru_cache(maxsize=4096)
def _is_media(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name[:60]) is not None
