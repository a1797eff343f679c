"""Every Python snippet of docs/python.md runs, one after the other, as a reader would run them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from conftest import pair_rows, write_rows
from making.pages import without_made

PAGE = Path(__file__).parents[2] / "docs/python.md"


def test_the_page_runs_from_top_to_bottom(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "pairs.jsonl", pair_rows(24))
    write_rows(tmp_path / "test.jsonl", pair_rows(8, start=100))
    (tmp_path / "my-model").symlink_to(tiny_folder)
    written = without_made(PAGE.read_text(encoding="utf-8"))  # signatures are no snippets
    snippets = re.findall(r"```python\n(.*?)```", written, re.DOTALL)
    assert len(snippets) >= 6
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, snippet in enumerate(snippets, 1):
            # the real model is 135M parameters, and the tests' has two layers
            code = snippet.replace('"smollm2"', '"my-model"')
            exec(compile(code, f"snippet {number}", "exec"), names)
    shown = capsys.readouterr().out
    assert "held-out accuracy" in shown and "no-such-file.jsonl: there is no such file" in shown
    assert (tmp_path / "own-pairs.jsonl").is_file() and (tmp_path / "audit.html").is_file()
