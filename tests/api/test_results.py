"""What results look like: short, and escaped where a notebook shows them."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from conftest import pair_rows

import accord
from accord.api.outcomes import Audit, Outcome, table
from accord.api.progress import NotebookLine, OneLine, display_for, notebook_line
from accord.api.warned import say_nothing
from accord.runs.display import Display, SilentDisplay

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def test_an_audit_is_short_and_has_a_page(tmp_path):
    found = accord.audit(pair_rows(12))
    assert isinstance(found, Audit) and len(repr(found)) < 3_000
    assert repr(found).startswith(f"accord audit: {found.judged.headline}")
    assert found.page(tmp_path / "audit.html").read_text().startswith("<!doctype html>")
    with pytest.raises(accord.AccordError, match=r'page="\S+audit.txt": expected a name that ends'):
        found.page(tmp_path / "audit.txt")


def test_texts_of_the_data_are_escaped():
    rows = [{**row, "chosen": f"{HOSTILE} {row['chosen']}"} for row in pair_rows(12)]
    found = accord.audit(rows)
    assert "<script" not in found._repr_html_()
    assert "\x1b" not in repr(found) + found._repr_html_()
    for shown in (table(HOSTILE, [(HOSTILE, HOSTILE)]), Outcome("x", {HOSTILE: 1}, [HOSTILE])):
        html = shown if isinstance(shown, str) else shown._repr_html_()
        assert "&lt;script&gt;" in html and "<script" not in html and "\x1b" not in html


def test_an_outcome_is_its_record_with_lines():
    outcome = Outcome("accord x", {"a": 1}, ["go on: accord resume runs/x"] * 50, folder="f")
    assert outcome == {"a": 1} and outcome.lines[0] == 'go on: accord.resume("runs/x")'
    assert "10 more lines" in repr(outcome) and repr(outcome).endswith("keys: a")
    assert outcome.folder.name == "f" and outcome.page is None


def test_functions_about_rows_take_them_from_memory(tmp_path):
    done = accord.split(pair_rows(30), tmp_path / "split", share=0.2)
    assert done["train"] + done["held_out"] == 30 and done["data"] == "rows of data"
    assert any("held_out.jsonl" in line for line in done.lines)
    written = accord.convert(pair_rows(4), "openai", tmp_path / "openai.jsonl")
    assert written["written"] == 4 and (tmp_path / "openai.jsonl").is_file()
    with pytest.raises(accord.AccordError, match="recipe: a recipe names files"):
        accord.advise(pair_rows(4), recipe=tmp_path / "recipe.yaml")


class Handle:
    """The handle that IPython returns for an output."""

    def __init__(self):
        self.shown = []

    def update(self, data, raw):
        self.shown.append(data["text/plain"])


def test_a_notebook_gets_one_output_that_is_updated(monkeypatch):
    handle = Handle()

    def display(data, raw, display_id):
        handle.update(data, raw)
        return handle

    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    module.display = display
    assert notebook_line() is None
    for name, fake in (
        ("ipykernel", ModuleType("ipykernel")),
        ("IPython", package),
        ("IPython.display", module),
    ):
        monkeypatch.setitem(sys.modules, name, fake)
    shown = display_for(False, None)
    assert isinstance(shown.inner, OneLine) and isinstance(shown.inner.shown, NotebookLine)
    shown.phase("data", "reading x")
    shown.step(1, 2, {"loss": 0.5}, 100.0, 3.0)
    shown.close()
    assert handle.shown == ["reading x", "step 1/2  loss 0.500  100 tokens/s  0:03 left"]
    assert isinstance(display_for(False, False).inner, SilentDisplay)
    assert type(display_for(True, None).inner) is Display


def test_a_line_that_warns_is_a_warning():
    with pytest.warns(accord.AccordWarning, match=r'^checkpoint damaged: accord\.resume\("r"\)$'):
        say_nothing("! checkpoint damaged: accord resume r")


def test_a_warning_is_shown_each_time():
    """Python shows a warning once for each line of code; a loop of runs would hide the others."""
    import warnings

    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("default")
        for _ in range(2):
            say_nothing("! the same words")
    assert len(raised) == 2 and raised[0].filename == __file__


def test_a_comparison_keeps_rows_in_memory_beside_its_output(tmp_path):
    from accord.api import comparing

    output = tmp_path / "comparison"
    config = comparing._base(
        None, pair_rows(3), pair_rows(2, 9), output, {"steps": 2, "beta": 0.3}, comparing.compare
    )
    assert config.data.train == str(tmp_path / "comparison-rows/train.jsonl")
    assert len((tmp_path / "comparison-rows/train.jsonl").read_text().splitlines()) == 3
    assert config.objective["beta"] == 0.3 and config.train.steps == 2 and not output.exists()
    with pytest.raises(
        accord.AccordError, match="compare does not know the keyword 'sampels'.*samples"
    ):
        accord.compare(methods="dpo,ipo", data=pair_rows(3), output=output, sampels=2)
    with pytest.raises(accord.AccordError, match="loads it anew for each cell"):
        accord.compare(methods="dpo,ipo", data=pair_rows(3), output=output, model=object())


@pytest.mark.parametrize(
    "values, typed",
    [
        ([0.05, 0.1], "0.05,0.1"),
        ("log:0.01..1", "log:0.01..1"),
        (["cosine", "linear"], "cosine,linear"),
        ([True, None], "true,null"),
        (3, "3"),
    ],
)
def test_values_of_a_sweep_are_those_of_the_command(values, typed):
    from accord.api.comparing import _values

    assert _values("train.schedule", values) == typed


def test_a_recipe_reads_its_own_paths(tmp_path, monkeypatch):
    """Relative to the recipe's folder from Python too, as on the command line."""
    from accord.api.training import config_of

    (tmp_path / "recipe.yaml").write_text("data: {train: pairs.jsonl}\nobjective: ipo\n")
    (tmp_path / "pairs.jsonl").touch()
    monkeypatch.chdir("/")
    config = config_of(tmp_path / "recipe.yaml", {"normalize": "sequence_sum"}, "train")
    assert config.data.train == str(tmp_path / "pairs.jsonl")
    assert config.objective == {"name": "ipo", "normalize": "sequence_sum"}
