"""Pieces that are made on the pages: each function says what the code, the schema or a result file
says, and each page holds what they say now.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from conftest import assert_no_faults
from making import commands, data, figures, files, methods, monitoring, moving, pages, python, text

from accord.cli.app import app
from accord.data.containers import KINDS
from accord.data.formats.table import FORMATS
from accord.data.metadata import CONTENT, METADATA
from accord.migrate import axolotl, llama_factory, trl
from accord.migrate.run import TOOLS
from accord.monitor.watch import RULES
from accord.objectives import OBJECTIVES, POLICY_OBJECTIVES, resolve

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
RESULTS = sorted((ROOT / "benchmarks/results").glob("*.json"))


def name_of(path: Path) -> str:
    return path.name


def macros(page: Path) -> list[str]:
    return [found["call"] for found in pages.MADE.finditer(page.read_text(encoding="utf-8"))]


# ---------------------------------------------------------------- pieces


def test_text_shows_as_it_is():
    assert text.plain("a_b *c* <d> [e]") == r"a\_b \*c\* &lt;d&gt; \[e\]"
    assert text.plain("run `accord x_y` now_") == r"run `accord x_y` now\_"
    assert text.plain("one ` alone") == r"one \` alone"
    assert text.literal("a`b") == "`` a`b ``" and text.literal(3) == "`3`"
    assert text.table(("a",), [("x|y\nz",)]).splitlines() == ["| a |", "| --- |", r"| x\|y z |"]
    assert text.block("a\n```\nb").startswith("````text\n")


def test_a_made_piece_is_written_between_its_comments():
    line = pages.expand("It writes <!-- made: writers -->old<!-- end -->.")
    assert line.startswith("It writes <!-- made: writers -->`trl-explicit`, ")
    assert line.endswith("<!-- end -->.") and "old" not in line
    block = pages.expand("<!-- made: kl_spent 0.75 -->\n<!-- end -->")
    assert block.startswith("<!-- made: kl_spent 0.75 -->\n\n| β |")
    assert block.endswith(" |\n\n<!-- end -->")
    assert pages.expand(line) == line and pages.expand(block) == block
    for typed in ("no macro: {x}", "as code: `<!-- made: writers -->` and `<!-- end -->`"):
        assert pages.expand(typed) == typed
    assert pages.without_made(f"before {line} after") == "before It writes . after"


@pytest.mark.parametrize(
    "text",
    ["<!-- made: writers --> and no end", "an end <!-- end --> alone", "<!-- made: writers -->\n"],
)
def test_a_comment_without_its_partner_is_found(text):
    with pytest.raises(pages.PageError, match="has no partner"):
        pages.expand(text)


def test_every_page_is_fresh():
    stale = [str(page.relative_to(ROOT)) for page in pages.stale()]
    assert not stale, f"write them anew: make docs-pages, or python docs/write_pages.py ({stale})"


def test_a_page_that_is_not_fresh_is_found(tmp_path, monkeypatch):
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    page.write_text("<!-- made: figure silentbench counts/accord/caught -->0<!-- end -->")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "PLAYGROUND", tmp_path / "docs/playground.html")
    (tmp_path / "docs/playground.html").write_text(pages.playground())
    assert list(pages.stale()) == [page]
    page.write_text(pages.stale()[page])
    assert not pages.stale()


def test_no_page_shows_a_placeholder():
    """A page is read as it lies in the repository: nothing fills it in for its reader."""
    assert_no_faults(
        [page for page in pages.pages() if page.parent.name != "decisions"],
        lambda page: ["a placeholder"] * ("{{" in page.read_text(encoding="utf-8")),
        name_of,
    )


@pytest.mark.parametrize(
    "call",
    [
        "nothing",
        "figure silentbench counts/nobody",
        "figure silentbench counts",
        "code missing.py",
        "moving emacs",
        "python accord.trian",
        "figure",
        "kl_spent much",
    ],
)
def test_what_is_not_there_ends_the_build(call):
    with pytest.raises(pages.PageError, match=re.escape(call.split()[0])):
        pages.expand(f"<!-- made: {call} --><!-- end -->")


def test_every_macro_stands_on_a_page():
    used = {call.split()[0] for page in PAGES for call in macros(page)}
    assert used == set(pages.MACROS)


# ---------------------------------------------------------------- figures


def test_a_figure_is_the_file_s():
    counts = json.loads((ROOT / "benchmarks/results/silentbench.json").read_text())["counts"]
    assert figures.figure("silentbench", "counts/accord/caught") == str(counts["accord"]["caught"])
    low = json.loads((ROOT / "benchmarks/results/held_out_truthfulqa.json").read_text())["dpo"][
        "interval"
    ][0]
    assert figures.figure("held_out_truthfulqa", "dpo/interval/0", ".5f") == f"{low:.5f}"


@pytest.mark.parametrize("name", ["held_out_truthfulqa", "held_out_hh_helpful"])
def test_held_out_tables_equal_their_file(name):
    """Read back from the table that stands on the page."""
    page = figures.held_out(name)
    for method, row in json.loads((ROOT / f"benchmarks/results/{name}.json").read_text()).items():
        if isinstance(row, float):
            assert f"| {method} | – | – | {row:.3f} |" in page
            continue
        cells = next(line for line in page.splitlines() if line.startswith(f"| {method} |")).split(
            "|"
        )
        accuracy, low, high = map(float, re.findall(r"\d\.\d+", cells[4]))
        assert (accuracy, low, high) == pytest.approx((row["accuracy"], *row["interval"]), abs=6e-4)
        assert int(cells[2].replace(",", "")) == row["steps"] and float(cells[5]) == pytest.approx(
            row["margin"], abs=6e-4
        )


def test_verdicts_are_those_of_the_paired_comparison(monkeypatch):
    def entry(other, better, p):
        difference = {"value": 0.1, "low": 0.05, "high": 0.15, "n": 9}
        about = {"one": "a", "other": other, "better": better, "p": p, "adjusted": p}
        return about | {"difference": difference, "seeds": 3}

    made = {"pairwise": {"implicit": [entry("b", "a", 0.01), entry("c", None, 0.5)]}}
    monkeypatch.setattr(figures, "result", lambda name: made)
    told, not_told = figures.verdicts("any", "implicit").splitlines()
    assert "a is better than b, by 0.100" in told and "told apart: a and c" in not_told


def test_medians_against_trl(monkeypatch):
    case = {
        "speed": [1.0, 9.0, 4.0],
        "memory": [0.5],
        "trl_setting": "s",
        "accord": {"seconds_an_update": [2.0]},
        "trl": {"seconds_an_update": [8.0]},
    }
    monkeypatch.setattr(figures, "result", lambda name: {"case": case, "machine": "x"})
    assert figures.vs_trl().splitlines()[2:] == ["| case | 4.0 × | 3 | 0.50 | 2.00 | 8.00 | s |"]


def test_every_fault_of_silentbench_is_listed():
    found = json.loads((ROOT / "benchmarks/results/silentbench.json").read_text())
    lines = figures.silentbench().splitlines()[2:]
    assert len(lines) == found["counts"]["accord"]["injected"]
    assert (
        sum("caught" in line.split(" | ")[1] for line in lines)
        == found["counts"]["accord"]["caught"]
    )
    assert (
        sum("caught" in line.split(" | ")[2] for line in lines) == found["counts"]["trl"]["caught"]
    )


def test_the_words_of_a_message():
    """The cause, not the heading; whole words."""
    assert (
        figures.said(
            "Not trained, since the result would be silently wrong.\ndata.end: no end token\n  more"
        )
        == "data.end: no end token"
    )
    assert figures.said("") == ""
    long = figures.said("word " * 100)
    assert long.endswith("word …") and len(long) <= figures.LONGEST + 2


TYPED = re.compile(r"(?<![\w.§/:-])\d*\.\d{2,}|\b\d+(?:\.\d+)? ?(?:×|%)|\b\d{3,}\b(?! nats)")
# the model's size; a licence; ln 2, which test_kl_spent_is_exact knows; the level of all intervals
MEANT = {"135", "1.0", "0.6931", "95 %"}


def test_no_measured_figure_is_typed():
    """Outside code and made pieces a page has no figure that looks measured: those come from the
    results.
    """

    def check(page):
        prose = re.sub(
            r"```.*?```|`[^`\n]*`|arXiv:\S+|\]\([^)]*\)",
            "",
            pages.without_made(page.read_text(encoding="utf-8")),
            flags=re.DOTALL,
        )
        found = [
            match
            for match in TYPED.findall(prose)
            if match not in MEANT and not prose.count(f"{match}M ")
        ]
        # metrics.md: a version of TRL, and the number of a decision
        allowed = {
            "beta.md": {"0.005", "305", "0.1"},
            "data.md": {"202"},
            "metrics.md": {"1.16", "0014"},
        }.get(page.name, set())
        assert not set(found) - allowed

    assert_no_faults(PAGES, check, name_of)


# ---------------------------------------------------------------- the code in words


def test_every_rule_is_explained():
    page = monitoring.rules()
    assert re.findall(r"^### (.*)$", page, re.MULTILINE) == [rule.name for rule in RULES]
    assert page.count("**source**") == page.count("**what to do**") == len(RULES)
    assert "{" not in page and "‹loss›" in page


def test_a_rule_s_entry():
    rule = next(rule for rule in RULES if rule.name == "gradient-spike")
    page = monitoring._rule(rule)
    assert "*red flag.* gradient norm ‹norm›, ‹ratio› times the usual ‹typical›" in page
    assert "halved" in page and all(f"`{cause}`" in page for cause in rule.unless)


@pytest.mark.parametrize(
    "name, key",
    [
        ("eval_rewards/margins", "rewards/margins"),
        ("diag/eval_drift", "diag/drift"),
        ("diag/eval_accuracy_high", "diag/accuracy_low"),
        ("diag/log_ratio/rejected", "diag/log_ratio/chosen"),
        ("diag/file_12/loss", "diag/file_1/loss"),
        ("logps/rejected", "logps/rejected"),
    ],
)
def test_names_that_share_a_line(name, key):
    assert monitoring.described(name) == key and key in monitoring.METRICS


def test_kl_spent_is_exact():
    """At β = 1 the policy is what people prefer; KL(.75) = ¾ ln 1.5 + ¼ ln .5 = .1308; two answers
    allow ln 2 = .6931.
    """
    last = methods.kl_spent("0.75").splitlines()[-1]
    assert last == "| 1 | 1.10 | 0.7500 | 0.1308 |"
    assert methods.kl_spent("0.75").splitlines()[2].endswith("| 1.0000 | 0.6931 |")


def test_methods_are_those_of_the_table():
    assert re.findall(r"^\| \*\*(\w+)\*\*", methods.needs(), re.MULTILINE) == list(
        OBJECTIVES | POLICY_OBJECTIVES
    )
    assert "`beta=0.1`, `normalize=token_mean`" in methods.needs()
    assert text.plain(resolve("ipo").convention) in methods.conventions()


def test_formats_are_those_of_the_table():
    assert re.findall(r"^\| \*\*([\w-]+)\*\*", data.formats(), re.MULTILINE) == [
        each.name for each in FORMATS
    ]
    assert "`rejected_response` or `rejected_messages`" in data.formats()
    assert "| yes |" in data.fixes() and "with `--drop cycles`" in data.fixes()
    assert "| `near_tie` | 0.5 |" in data.thresholds()


def test_containers_are_those_of_the_table():
    assert re.findall(r"^\| \*\*(.+?)\*\*", data.containers(), re.MULTILINE) == [
        each.name for each in KINDS
    ]
    assert "| **tar** | `.tar`, `.tar.gz`, `.tar.xz`, " in data.containers()


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("(.*_)?(id|ids)(_?(chosen|rejected|[abjk]|\\d+))*|qid", ["id", "ids", "qid"]),
        ("(is|in)_.+", ["is_…", "in_…"]),
        ("(num|len)_.+|(.*_)?(count|counts)", ["num_…", "len_…", "count", "counts"]),
        ("system_?messages?|judge?ments?", ["system_message", "judgment"]),
        ("(quality|score)_(reason|rationale)s?|all_.*config.*", None),
        ("(.*_)?licen[cs]es?(_.*)?|index_level_\\d+|sha\\d*", ["licence", "index_level_0", "sha"]),
    ],
)
def test_names_of_a_pattern(pattern, names):
    found = data.names(pattern)
    assert names is None or found == names
    assert all(re.fullmatch(pattern, name.replace("…", "x")) for name in found)


def test_names_of_columns_are_those_of_the_tables():
    """Every name that the page shows is one that the reader knows."""
    for each in (*METADATA, *CONTENT):
        shown = data.names(each.names)
        assert shown and all(re.fullmatch(each.names, name.replace("…", "x")) for name in shown)
    assert data.metadata().count("\n") == len(METADATA) + 1
    assert "| media | `image`, `images`, " in data.content_names()
    assert "`good/bad`" in data.guesses() and "`Human:/Assistant:`" in data.transcripts()
    assert data.marks().startswith("ChatML")


def test_the_cost_of_fidelity_is_the_file_s(monkeypatch):
    case = {"rows": 10_000, "seconds_tokenising": 20.04, "seconds_comparison": 1.26}
    case |= {"seconds_decoding": 0.5, "share": 0.0881}
    monkeypatch.setattr(figures, "result", lambda name: {"cost": {"a/b": case}})
    assert figures.reading().splitlines()[2:] == [
        "| `a/b` | 10,000 | 20.0 | 1.3 | 0.5 | **8.8%** |"
    ]


@pytest.mark.parametrize("tool", TOOLS)
def test_other_tools_defaults(tool):
    for default in TOOLS[tool].defaults({}):
        assert f"| `{default.key}` | `{default.value}` |" in moving.defaults(tool)
    named = re.findall(r"^\| `(\w+)` \|", moving.without(tool), re.MULTILINE)
    # the one has no equivalent, the other is not needed
    assert "neftune_noise_alpha" in named and "bf16" not in named


@pytest.mark.parametrize("tool", TOOLS)
def test_the_table_of_losses_is_what_import_does(tool):
    """A row a loss, read by the importer itself; smoothing that was ignored is said there."""
    rows = moving.losses(tool).splitlines()[2:]
    assert len(rows) == len(moving.LOSSES[tool])
    smoothed = next(row for row in rows if "label_smoothing: 0.1" in row)
    if tool == "llama-factory":
        assert "**cdpo**: `beta=0.1`, `label_smoothing=0.1`" in smoothed
    else:
        assert "**dpo**: `beta=0.1` |" in smoothed and "was dpo without smoothing" in smoothed
    # every name of the table of losses has its row
    names = {"trl": trl.LOSSES, "axolotl": dict.fromkeys(axolotl.METHODS)}.get(
        tool, llama_factory.LOSSES
    )
    assert not [name for name in names if not any(f": {name}`" in row for row in rows)]


def test_versions_that_were_read_are_named():
    assert moving.read_in() == "TRL 1.16.0, Axolotl 0.19.0 and LLaMA-Factory 0.9.5"


def test_every_command_and_option_is_listed():
    page = commands.reference()
    for name, command in typer.main.get_command(app).commands.items():
        section = page.partition(f"## accord {name}\n")[2].partition("\n## accord ")[0]
        for param in command.params:
            assert (
                param.name == "help"
                or param.param_type_name == "argument"
                or all(flag in section for flag in param.opts)
            ), (name, param.name)
    assert (
        "| `--set KEY=VALUE …` |" in page
        and "accord report [RUNS…] [OPTIONS]" in page
        and "| `--model VALUE` | smollm2 (embedded), a folder, or hub:org/name. | smollm2 |" in page
        and "For example:" in page
        and "| `--share VALUE` | Share of the rows to hold out. | `0.1` |" in page
    )


def test_every_field_of_a_recipe_is_listed():
    page = commands.fields()
    for name in (
        "`data.train` | required",
        "`train.micro_tokens` | `2048`",
        "`model.lora.rank` | `16`",
        "`moving.mix` | `0.6`",
        "`evaluate.rows` | –",
    ):
        assert f"| {name} |" in page
    assert (
        "| 75 | `Interrupted` |" in commands.exit_codes()
        and "`tiny_beta`" in commands.permissions()
    )


def test_python_shows_signature_and_docstring():
    page = python.reference("accord.train", "accord.objectives.*")
    assert page.startswith("### accord.train\n") and all(
        f"### accord.objectives.{name}\n" in page for name in OBJECTIVES
    )
    assert (
        "    *,\n    model: Model | None = None,\n" in page
        and "    **options: Any,\n) -> Result" in page
    )
    assert "L = -(1 - ε) log σ(βh)" in page or "log σ(" in page
    assert "0x" not in python.reference(
        "accord.auditing.run.audit"
    ) and "    say: Say = …,\n" in python.reference("accord.auditing.run.audit")


def test_recipes_and_examples_are_all_listed():
    recipes = files.recipes()
    assert (
        recipes.count("### ") == len(list((ROOT / "src/accord/recipes").glob("*.yaml")))
        and "- Expect: " in recipes
        and "```bash\naccord recipes sentiment_dpo --output sentiment_dpo.yaml\naccord train"
        in recipes
    )
    listed = files.examples()
    assert listed.count("### ") == len(
        [path for path in (ROOT / "examples").iterdir() if path.name[:3].isdigit()]
    )
    assert (
        listed.count("**Shows**")
        == listed.count("**Takes**")
        == listed.count("**Expect**")
        == listed.count("### ")
    )
