"""The page of a run: its figures are the run's own, its text is escaped,
it asks nothing of anyone.
"""

import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from conftest import pair_rows, write_rows
from training.helpers import AUDITED, json_lines, run
from typer.testing import CliRunner

from accord.cli.app import app
from accord.evaluate.intervals import accuracy
from accord.pages.curves import marks
from accord.pages.run import heat, render, report_notes, write_report
from accord.pages.tables import differences, margin_gain, slices
from accord.pages.verdict import verdict, what_was_rewarded
from accord.runs.recorded import Recorded
from accord.types import UsageError

EVIL = '<script>alert("x")</script><img src=https://evil.example/a.png>&amp;{{ 7*7 }}'
FAST = AUDITED | {
    "evaluate.every": 2,
    "monitor.samples": 2,
    "monitor.sample_tokens": 6,
    "monitor.sample_every": 2,
}


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    """A DPO run on rows of which one is hostile."""
    root = tmp_path_factory.mktemp("report")
    data = write_rows(root / "pairs.jsonl", pair_rows(24))
    evil = [{"prompt": EVIL, "chosen": f"Yes {EVIL}", "rejected": "No"}]
    held = write_rows(
        root / "held.jsonl", evil + [{**row, "source": "club"} for row in pair_rows(30, start=100)]
    )
    return run(
        tiny_folder, data, root / "one", held_out=held, steps=8, learning_rate=0.01, set=FAST
    ).folder


@pytest.fixture(scope="module")
def other(tiny_folder, folder):
    data = str(folder.parent / "pairs.jsonl")
    return run(
        tiny_folder, data, folder.parent / "other", steps=3, method="simpo", learning_rate=0.01
    ).folder


@pytest.fixture(scope="module")
def page(folder):
    return render([Recorded.open(str(folder))])


class Tags(HTMLParser):
    """Every tag with its attributes; also that they are closed in order."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):  # <line …/>: nothing to close
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def test_nothing_is_fetched_and_nothing_runs(page):
    """No script, no image, no link outside, no event handler; a policy that would forbid them."""
    tags = Tags(page).seen
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in tags
    }
    for _, attributes in tags:
        assert not [
            name
            for name in attributes
            if name.startswith("on") or name in ("src", "srcset", "xlink:href")
        ]
        assert attributes.get("href", "#").startswith("#")
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in style and "@import" not in style
    policies = [
        a["content"]
        for tag, a in tags
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert (
        policies == ["default-src 'none'; style-src 'unsafe-inline'"]
        and len(page.encode()) < 2_000_000
    )


def test_hostile_text_is_text(page):
    """It stands on the page letter for letter, as text alone."""
    assert "<script" not in page and "{{ 7*7 }}" in page and "49}}" not in page
    text = "".join(Tags(page).text)
    assert EVIL in text  # as a sampled prompt; tokens of pairs: test_heat


def test_figures_are_the_run_s_own(page, folder):
    """The report, the card and metrics.jsonl say the same number."""
    last = [line for line in json_lines(folder / "metrics.jsonl") if "eval_loss" in line][-1]
    card = (folder / "README.md").read_text()
    for name in ("eval_loss", "eval_rewards/margins", "eval_logps/chosen"):
        assert f"{last[name]:.4f}" in page and f"{last[name]:.4f}" in card
    sentence = verdict(Recorded.open(str(folder)))[0]
    assert (
        f"held-out accuracy {last['eval_rewards/accuracies']:.3f}"
        f" ({last['diag/eval_accuracy_low']:.3f} to {last['diag/eval_accuracy_high']:.3f}), 0.500"
        " before training: better than chance." in sentence
    )


@pytest.mark.parametrize(
    "heading",
    [
        "Flags, and what they mean",
        "Held-out figures",
        "Accuracy by slice",
        "Curves",
        "Displacement",
        "Pairs that changed most",
        "Answers before and after",
        "Objective",
        "Data and its audit",
        "What was proved",
        "How to make it again",
    ],
)
def test_every_part_is_there(heading, page):
    assert heading in page


def test_proofs_convention_and_command(page):
    assert "step0.reference" in page and "margins exactly 0" in page
    assert "log-ratios are sums over answer tokens, beta = 0.1 per nat" in page
    assert "accord.train(...)" in page and "learning_rate: 0.01" in page


def test_flags_are_listed_with_their_number_in_the_curves(folder, tmp_path):
    """A flag's number stands on the time axis, its words in the list."""
    import shutil

    shutil.copytree(folder, tmp_path / "flagged")
    event = {
        "step": 4,
        "check": "flag.runaway",
        "verdict": "warning",
        "says": "loss 9 <b>",
        "evidence": {"pairs": [{"at": "dir/file:3"}]},
        "remedy": "--learning-rate 0.1",
        "means": "too large",
        "source": "TRL",
    }
    (tmp_path / "flagged/events.jsonl").write_text(json.dumps(event) + "\n")
    recorded = Recorded.open(str(tmp_path / "flagged"))
    found = render([recorded])
    assert (
        "loss 9 &lt;b&gt;" in found
        and "step 4: runaway" in found
        and '<code title="dir/file:3">file:3</code>' in found
        and 'class="lead flagged"' in found
    )
    assert (
        verdict(recorded)[2]
        == "One red flag was raised: runaway. First to do: --learning-rate 0.1."
    )


def test_flags_of_one_step_share_a_line(folder):
    recorded = Recorded.open(str(folder))
    recorded.events = [
        {"step": s, "check": f"flag.{c}", "verdict": v}
        for s, c, v in ((4, "a", "note"), (4, "b", "warning"), (6, "c", "note"))
    ]
    assert [(m.step, m.label, m.title, m.kind) for m in marks(recorded)] == [
        (4, "1,2", "step 4: a, b", "warning"),
        (6, "3", "step 6: c", "note"),
    ]


def test_no_flag_is_said_too(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "quiet")
    (tmp_path / "quiet/events.jsonl").unlink(missing_ok=True)
    recorded = Recorded.open(str(tmp_path / "quiet"))
    assert verdict(recorded)[2] == "No red flag was raised." and "None was raised" in render(
        [recorded]
    )


def test_a_run_that_stopped_between_evaluations(folder, tmp_path):
    """Nothing is said to be unknown that was measured, and nothing measured that was not: the
    newest evaluation, with its step.
    """
    import shutil

    shutil.copytree(folder, tmp_path / "stopped")
    lines = json_lines(folder / "metrics.jsonl")
    kept = [
        line
        for line in lines
        if line["step"] <= 7 and ("diag/samples_kl" not in line or line["step"] == 0)
    ]
    (tmp_path / "stopped/metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in kept)
    )
    samples = [line for line in json_lines(folder / "samples.jsonl") if line["step"] == 0]
    (tmp_path / "stopped/samples.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in samples)
    )
    recorded = Recorded.open(str(tmp_path / "stopped"))
    (at_six,) = [line for line in kept if line["step"] == 6 and "eval_loss" in line]
    said, cost, _ = verdict(recorded)
    assert f"held-out accuracy {at_six['eval_rewards/accuracies']:.3f} (" in said
    assert ") at step 6, the last that was evaluated of 7, 0.500 before training: " in said
    assert "KL" not in cost and slices(recorded) and margin_gain(recorded)
    page = render([recorded])
    assert (
        ">at step 6</th>" in page
        and "<dt>after</dt>" not in page
        and "the run stopped before it was due again" in page
    )


# ---------------------------------------------------------------- tables


def test_slices_by_hand(folder):
    import numpy as np
    import pandas

    table = pandas.read_parquet(folder / "examples.parquet").query("step == 8").reset_index()
    found = {row.name: row for row in slices(Recorded.open(str(folder)))}
    club = table[table.source == "club"]
    margins = (club["rewards/chosen"] - club["rewards/rejected"]).to_numpy()
    preflight = {f["check"]: f for f in json.loads((folder / "preflight.json").read_text())}
    width = preflight["step0.noise_floor"]["evidence"]["reward_margin"]
    assert found["source club"].value == accuracy(
        margins, tie_width=width, clusters=list(club.prompt)
    )
    longer = int(np.sum(table["tokens/chosen"] > table["tokens/rejected"]))
    assert found["all rows"].cells[0] == "31" and found["chosen is longer"].cells[0] == str(longer)
    assert "one question" not in found  # all rows are: no slice


def test_gain_is_paired(folder):
    last = [line for line in json_lines(folder / "metrics.jsonl") if "eval_loss" in line]
    gain = margin_gain(Recorded.open(str(folder)))
    assert (
        gain.value
        == pytest.approx(last[-1]["eval_rewards/margins"] - last[0]["eval_rewards/margins"])
        and gain.n == 31
    )


def test_pairs_by_hand(folder):
    """The most improved pair is the one whose margin grew most; its tokens' changes add up to its
    answers' change.
    """
    import pandas

    pairs = json.loads((folder / "pairs.json").read_text())
    table = pandas.read_parquet(folder / "examples.parquet")
    first, last = (table[table.step == step].reset_index() for step in (0, 8))
    gain = (last["rewards/chosen"] - last["rewards/rejected"]) - (
        first["rewards/chosen"] - first["rewards/rejected"]
    )
    best = pairs["improved"][0]
    assert (best["gain"], best["at"]) == (gain.max(), last["at"][gain.argmax()]) and len(
        pairs["improved"]
    ) == 4
    assert [p["gain"] for p in pairs["improved"]] == sorted(
        (p["gain"] for p in pairs["improved"]), reverse=True
    )
    for side in ("chosen", "rejected"):
        change = sum(token["change"] for token in best[side])
        assert change == pytest.approx(last[f"diag/log_ratio/{side}"][gain.argmax()], abs=1e-3)
    assert all(pair["gain"] < 0 for pair in pairs["harmed"])


def test_heat():
    """Half the strongest colour at one nat, the strongest from two on; a token of no text is still
    visible.
    """
    tokens = [
        {"text": "<b>", "change": 1.0, "logp": -2.0},
        {"text": "", "change": -9.0, "logp": -9.5},
        {"text": "a", "change": 0.1, "logp": -1.0},
    ]
    found = heat(tokens)
    assert (
        '<span class="up2" title="+1.00 nats, now -2.00">&lt;b&gt;</span><span class="down4"'
        in found
        and "∅" in found
    )
    assert 'class="same"' in found and heat([{"text": "a<", "logp": -1.0}]) == "<span>a&lt;</span>"


# ------------------------------------------------------ several runs, no held-out rows, the command


def test_side_by_side(folder, other):
    runs = [Recorded.open(str(f)) for f in (folder, other)]
    found = render(runs)
    assert "2 runs, side by side" in found and "What is not the same" in found and Tags(found)
    rows = {row.name: row.cells for row in differences(runs)}
    assert (
        rows["objective.name"] == ("dpo", "simpo")
        and rows["train.steps"] == ("8", "3")
        and "train.seed" not in rows
    )
    # simpo's own default: options as they took effect
    assert rows["objective.beta"] == ("0.1", "2.0")


def test_runs_with_other_held_out_rows_share_no_table(folder, tmp_path):
    """The digests of rows and tokens are part of "the same"; runs that were measured on the same
    pairs are compared pair by pair.
    """
    one, twin, off = (shutil.copytree(folder, tmp_path / name) for name in ("one", "twin", "off"))
    alike = render([Recorded.open(str(f)) for f in (one, twin)])
    assert "Nothing: the same configuration, training rows and held-out rows." in alike
    assert "twin minus one" in alike and "not told apart" in alike and "overlap" not in alike
    account = json.loads((off / "data.json").read_text())
    for change in ("sha256", "tokens"):
        changed = json.loads(json.dumps(account))
        target = changed["held_out"] if change == "sha256" else changed["held_out"]["tokens"]
        target["sha256"] = "f" * 64
        (off / "data.json").write_text(json.dumps(changed))
        found = render([Recorded.open(str(f)) for f in (one, off, twin)])
        assert "2 different sets of held-out rows" in found and Tags(found)
        assert "Nothing: the same" not in found and "f" * 12 in found
        assert found.count("Measured on held.jsonl") == 2
        assert "twin minus one" in found and "off minus" not in found
        (note,) = report_notes([str(f) for f in (one, off, twin)])
        assert "2 different held-out sets" in note and "do not compare" in note
    assert report_notes([str(one), str(twin)]) == []


def test_a_run_without_held_out_rows(other):
    found = render([Recorded.open(str(other))])
    assert (
        "nothing is known of how this model generalises" in found
        and "No held-out rows were evaluated" in found
        and Tags(found)
    )
    assert "was not measured" in verdict(Recorded.open(str(other)))[1]


def test_all_weights_have_no_colours(tiny_folder, folder, tmp_path):
    """Nothing is made up where the start is no longer in memory."""
    held = write_rows(tmp_path / "held.jsonl", pair_rows(4, start=100))
    done = run(
        tiny_folder,
        str(folder.parent / "pairs.jsonl"),
        tmp_path / "run",
        held_out=held,
        lora=False,
        steps=2,
        set=FAST,
    )
    found = render([Recorded.open(str(done.folder))])
    assert (
        "No colours: what training started from was not in memory" in found
        and 'class="up' not in found.split("<main>")[1]
    )


@pytest.mark.parametrize("method", ["kto", "sft"])
def test_other_kinds_of_rows(method, tiny_folder, folder, tmp_path):
    held = write_rows(tmp_path / "held.jsonl", pair_rows(12, start=100))
    done = run(
        tiny_folder,
        str(folder.parent / "pairs.jsonl"),
        tmp_path / "run",
        held_out=held,
        method=method,
        steps=2,
        batch_size=8,
        set=FAST,
    )
    assert Tags(render([Recorded.open(str(done.folder))]))


def test_command(folder, other, tmp_path):
    done = CliRunner().invoke(app, ["report", str(folder), "--json"])
    file = folder / "report.html"
    assert (
        done.exit_code == 0
        and json.loads(done.stdout)["result"]["report"] == str(file)
        and file.is_file()
    )
    both = tmp_path / "both.html"
    done = CliRunner().invoke(app, ["report", str(folder), str(other), "--output", str(both)])
    assert done.exit_code == 0 and both.is_file() and "kB" in done.stdout


def rewarded(tmp_path, gains):
    """A stand-in for the records of a run whose held-out answers gained so much reward."""
    lines = [
        {"step": step, "prompt": at, "reward": at + step * gain}
        for step in (0, 1)
        for at, gain in enumerate(gains)
    ]
    values = {(0, "eval_reward"): 1.0, (1, "eval_reward"): 2.0}
    return SimpleNamespace(
        measured=1, at=lambda step, name: values.get((step, name)), lines=lambda name: lines
    )


@pytest.mark.parametrize(
    "gains, says",
    [
        # far less than prompts differ among themselves: two intervals would overlap
        ([0.1, 0.2, 0.1, 0.3, 0.2] * 8, "it rose"),
        ([-0.1, -0.2, -0.3] * 10, "it fell"),
        ([1.0, -1.0] * 20, "no change is certain"),
        ([0.5, 0.4], "not known"),
        ([0.0] * 20, "not known"),
    ],
    ids=["rose", "fell", "neither", "two prompts", "nothing moved"],
)
def test_a_reward_is_compared_prompt_by_prompt(tmp_path, gains, says):
    found = what_was_rewarded(rewarded(tmp_path, gains))
    assert says in found and "overlap" not in found


def test_an_accuracy_without_an_interval_is_said_to_have_none(folder, monkeypatch):
    recorded = Recorded.open(str(folder))
    at = Recorded.at
    monkeypatch.setattr(
        Recorded, "at", lambda self, step, name: None if "_low" in name else at(self, step, name)
    )
    assert "(interval not known), 0.500 before training." in verdict(recorded)[0]


def test_nothing_to_report(folder, tmp_path):
    with pytest.raises(UsageError, match="no run here"):
        write_report([str(tmp_path)])
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    with pytest.raises(UsageError, match="no figures yet"):
        write_report([str(tmp_path)])
