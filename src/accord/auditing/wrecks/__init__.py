"""Texts that are no text any more: how one is recognised, and how it is mended where that is safe.

sentinels · errors · moderation · placeholders: a whole answer that a program wrote (`whole.py`,
`placeholders.py`). escapes of a page, of JSON, of a wrong code page (`encoded.py`, `mojibake.py`);
characters that nobody sees or that look like others (`characters.py`); loops and lost marks
(`damage.py`). What the prompt asks for is no wreck (`context.py`). `kinds.py` has all in one table.
"""
