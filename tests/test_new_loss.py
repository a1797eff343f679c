"""A new loss of pairs is five files, as CONTRIBUTING.md lists them: one is written here into a copy
of the tree, by edits of those files alone, and everything else takes it from the table.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from conftest import pair_rows

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "docs", "benchmarks", "examples")
LEFT_OUT = ignore_patterns("*.egg-info", ".*")  # compiled files are good in the copy too

# file -> (the text before which it is inserted, or "" for the end; what is inserted)
EDITS = {
    "src/accord/objectives/pairs.py": [
        (
            "",
            '''

@bounded(beta=BETA)
def least_squares(policy: PairLogps, reference: PairLogps, *, beta: float = 0.2) -> LossOutput:
    """Least squares: the margin is to be 1 / β, and no more.

        L = (1 - βh)²

    Log-ratios are sums. The loss is 1 at policy = reference; the pull on h is 2β there, and grows
    with the distance from the target on either side.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: one over the target of the margin, per nat.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: nobody 2000, arXiv:0000.00000, Eq. 1.
    """
    return LossOutput((1 - beta * _margin(policy, reference)).square())
''',
        )
    ],
    "src/accord/objectives/closed_forms.py": [
        (
            "",
            '''

def least_squares(row: Row, options: dict, z0: float) -> Value:
    """Compute (1 - βh)²."""
    off = 1 - options["beta"] * _h(row)
    return off * off, (-2 * options["beta"] * off, 2 * options["beta"] * off)
''',
        )
    ],
    "src/accord/objectives/pair_table.py": [
        ("from accord.objectives.targets", "from accord.objectives.pairs import least_squares\n"),
        (
            '    _pair(\n        "odpo"',
            """    _pair(
        "least_squares",
        least_squares,
        convention=_sums,
        source="nobody 2000, arXiv:0000.00000, Eq. 1",
        when="the margin should come to rest at one place",
        closed_form=closed_forms.least_squares,
        at_reference=_one,
        also_called=("squared_margin",),
    ),
""",
        ),
    ],
    "tests/oracles/objectives.py": [
        (
            "def robust(",
            '''def least_squares(xp, chosen, rejected, beta):
    """Nobody 2000, Eq. 1."""
    return (1 - beta * h(chosen, rejected)) ** 2


''',
        ),
        (
            '    "odpo": Expected(',
            '    "least_squares": Expected(least_squares, {"beta": 0.2}, ({"beta": 0.05},)),\n',
        ),
    ],
    "PAPERS.md": [
        (
            "## odpo\n",
            """## least_squares
Nobody 2000, *Least squares*, [arXiv:0000.00000](https://arxiv.org/abs/0000.00000), Eq. 1.
- **Equation** L = (1 − βh)².
- **Convention** sums. 1 at policy = reference.
- **Ours differs** in nothing.

""",
        )
    ],
}

# Run in the copy, by one process: the pages are written, the tests of CONTRIBUTING.md collected and
# run, the commands typed, and two updates made.
DRIVER = """
import json, sys
import pytest
from typer.testing import CliRunner

from accord.cli.app import app
from making import pages

done = {"pages": []}
for page, text in pages.stale().items():
    if page != pages.PLAYGROUND:  # which is made as a whole
        assert pages.without_made(page.read_text(encoding="utf-8")) == pages.without_made(text)
    page.write_text(text, encoding="utf-8")
    done["pages"].append(str(page.relative_to(pages.ROOT)))


class Recorder:
    passed, failed = [], []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.failed:
            (self.passed if report.passed else self.failed).append(report.nodeid)


tests = [
    "tests/objectives/test_battery.py",
    "tests/objectives/test_certificate.py",
    "tests/objectives/test_records.py",
    "tests/docs/test_made_pages.py::test_every_page_is_fresh",
    "tests/docs/test_made_pages.py::test_methods_are_those_of_the_table",
    "tests/api/test_public.py",
]
chosen = "least_squares or covers_the_table or made_pages or test_records or test_public"
code = pytest.main(["-p", "no:cacheprovider", "-k", chosen, *tests], plugins=[Recorder()])
done |= {"code": int(code), "passed": Recorder.passed, "failed": Recorder.failed}


def typed(*words):
    return CliRunner().invoke(app, words).output


done["methods"] = typed("methods")
done["mistaken"] = typed("train", "--method", "squared_margin", "--data", "none.jsonl")
done["train"] = typed(*json.loads(sys.argv[1]))
print("DONE" + json.dumps(done))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The tree with the five files edited."""
    folder = tmp_path_factory.mktemp("new_loss") / "tree"
    for name in COPIED:
        copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    for file in [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.yml")]:
        (folder / file.name).write_bytes(file.read_bytes())
    for name, edits in EDITS.items():
        text = (folder / name).read_text(encoding="utf-8")
        for anchor, more in edits:
            assert not anchor or text.count(anchor) == 1, (name, anchor)
            text = text.replace(anchor, more + anchor) if anchor else text + more
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def done(copy, tiny_folder):
    pairs_file = copy.parent / "pairs.jsonl"
    pairs_file.write_text("".join(json.dumps(row) + "\n" for row in pair_rows(8)))
    words = ["train", "--method", "least_squares", "--model", tiny_folder, "--data", pairs_file]
    words += ["--steps", 2, "--batch-size", 4, "--output", copy.parent / "run"]
    words += ["--set", "monitor.audit_rows=0", "--set", "monitor.sample_tokens=6"]
    paths = os.pathsep.join(str(copy / name) for name in ("src", "tests", "docs"))
    ran = subprocess.run(
        [sys.executable, "-P", "-c", DRIVER, json.dumps([str(word) for word in words])],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert "DONE" in ran.stdout, ran.stdout + ran.stderr
    said, _, told = ran.stdout.partition("DONE")
    return json.loads(told) | {"said": said}


def test_the_battery_collects_it(done):
    assert done["code"] == 0 and not done["failed"], done["said"]
    of_it = [node for node in done["passed"] if "least_squares" in node]
    assert len([node for node in of_it if "test_battery" in node]) >= 20
    assert [node for node in of_it if "test_certificate" in node]


def test_the_commands_know_it(done):
    assert "least_squares  the margin should come to rest" in done["methods"]
    assert "did you mean 'least_squares'" in done["mistaken"]


def test_a_run_trains_it_with_its_certificate(copy, done):
    """Its gradient is proved by the closed form; at policy = reference it is the row's 1."""
    run = copy.parent / "run"
    found = {each["check"]: each for each in json.loads((run / "preflight.json").read_text())}
    assert found["step0.gradient"]["verdict"] == "ok"
    assert "closed form" in found["step0.gradient"]["says"], done["train"]
    lines = (run / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if '"loss"' in line]
    assert len(losses) == 2 and losses[0] == pytest.approx(1.0)


def test_five_files_were_edited_and_pages_are_made(copy, done):
    """Whatever differs from this tree was edited here, or is a page whose made pieces changed."""
    differs = {
        str(file.relative_to(copy))
        for file in copy.rglob("*")
        if file.is_file()
        and not re.search(r"/\.|\.pyc$", str(file.relative_to(copy.parent)))
        and file.read_bytes() != (ROOT / file.relative_to(copy)).read_bytes()
    }
    assert differs - EDITS.keys() == set(done["pages"]) and len(EDITS) <= 5
    assert {"docs/beta.md", "docs/methods.md", "docs/python.md"} <= set(done["pages"])
    assert "| **least_squares** |" in (copy / "docs/methods.md").read_text()
