"""Columns that stand beside a prompt in its file, which its answers are verified against."""

from __future__ import annotations

from pathlib import Path

from accord.data.containers import locate
from accord.data.prompts import Questions
from accord.data.write import raw_rows

# columns that are not beside a prompt, but part of it or of an answer
ANSWERS = ("chosen", "rejected", "completion", "completions", "response", "responses", "messages")


def other_columns(path: str, read: Questions) -> dict[int, dict]:
    """Return the other columns of each prompt's row, by line: its answers are verified against
    them.
    """
    if Path(path).suffix.lower() == ".txt":
        return {}
    wanted = {question.origin.line for question in read.prompts}
    with locate(path) as source:
        rows = {line: read.naming.apply(row) for line, row in raw_rows(source) if line in wanted}
    return {
        line: {key: value for key, value in row.items() if key not in (*ANSWERS, "prompt")}
        for line, row in rows.items()
    }
