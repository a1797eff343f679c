"""accord iterate: each round learns from its own answers, goes on from the last, and a death
anywhere costs nothing.
"""

import json
from collections import Counter

import numpy as np
import pytest
from rlhf.helpers import Heard, again, contents, die, log, prompts, steady
from training.helpers import json_lines
from typer.testing import CliRunner

from accord.assess import rollouts
from accord.assess.opened import open_model
from accord.campaign.rlhf import measured, rounds
from accord.campaign.rlhf.measured import Scored
from accord.campaign.rlhf.rounds import Rounds, Terms, iterate
from accord.cli.app import app
from accord.config.build import build
from accord.evaluate import probe
from accord.pages.rlhf_lines import rounds_lines
from accord.runs.display import SilentDisplay
from accord.runs.folder import RunFolder
from accord.sampling.local import LocalSampler
from accord.training import loop, run
from accord.types import DataError, Refused, UsageError

SILENT = SilentDisplay()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(prompts, held-out prompts) of this module's rounds."""
    folder = tmp_path_factory.mktemp("prompts")
    return prompts(folder / "train.jsonl", 20, "tree"), prompts(folder / "held.jsonl", 4, "house")


def recipe(tiny_folder, files, **fields):
    values = {
        "model.name": str(tiny_folder),
        "model.dtype": "float32",
        "data.train": files[0],
        "data.held_out": files[1],
        "train.batch_size": 4,
        "train.learning_rate": 1e-2,
        "train.steps": 2,
        "checkpoint.every": 1,
        "monitor.audit_rows": 0,
    }
    rollouts = {"rewards": ["length"], "num_generations": 3, "max_new_tokens": 6}
    if "rollouts" not in fields:
        values |= {f"rollouts.{name}": value for name, value in rollouts.items()}
    return build({}, fields=values | fields)


@pytest.fixture(scope="module")
def straight(tiny_folder, files, tmp_path_factory):
    """(folder, record) of two rounds of nine prompts that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight") / "out"
    return folder, iterate(recipe(tiny_folder, files), Terms(str(folder), 2, 9), SILENT)


def test_every_round_has_its_own_prompts_and_goes_on_from_the_last(straight, files):
    folder, record = straight
    asked = [
        {line["source"] for line in json_lines(folder / f"round-{r}/prompts.jsonl")} for r in (1, 2)
    ]
    assert [len(one) for one in asked] == [9, 9] and not asked[0] & asked[1]
    configs = [RunFolder.open(str(folder / f"round-{r}/run")).config() for r in (1, 2)]
    assert configs[0].model.adapter is None and configs[1].model.adapter == str(
        (folder / "round-1/run/adapter").resolve()
    )
    answered = [
        {line["provenance"]["model"] for line in json_lines(folder / f"round-{r}/answers.jsonl")}
        for r in (1, 2)
    ]
    # the second round asks the first's policy
    assert [len(one) for one in answered] == [1, 1] and answered[0] != answered[1]
    assert [one["round"] for one in record["rounds"]] == [0, 1, 2]


def test_provenance_of_a_pair_tells_all(straight):
    """From a pair back to the row of the prompt, the round, the plan, the model, the reward and the
    choice.
    """
    folder, record = straight
    pair = json_lines(folder / "round-2/pairs.jsonl")[0]["provenance"]
    assert (
        pair["sampled"]["round"] == 2
        and pair["sampled"]["plan"] == record["plan"]
        and pair["sampled"]["k"] == 3
    )
    assert pair["scored"]["rewards"] == ["length"] and pair["paired"]["policy"] == "best_worst"
    seeds = [
        json_lines(folder / f"round-{r}/answers.jsonl")[0]["provenance"]["seed"] for r in (1, 2)
    ]
    assert seeds[0] != seeds[1]
    assert json_lines(folder / "round-1/answers.jsonl")[0]["row"]["note"] == "kept"


def test_the_table_is_that_of_the_files(straight):
    """Rewards and KL by hand from the scored answers;
    KL to the first model, which is 0 for itself.
    """
    folder, record = straight
    start, last = record["rounds"][0]["held_out"], record["rounds"][2]["held_out"]
    lines = json_lines(folder / "round-2/held_out_scored.jsonl")
    assert last["reward"]["value"] == pytest.approx(
        np.mean([r for line in lines for r in line["rewards"]])
    )
    assert (
        last["kl"]["value"] == pytest.approx(np.mean([k for line in lines for k in line["kl"]]))
        and last["kl"]["value"] > 0
    )
    assert start["kl"]["value"] == 0 and last["kl"]["prompts"] == 4 and last["answers"] == 8
    assert last["reward_change"]["value"] == pytest.approx(
        last["reward"]["value"] - start["reward"]["value"]
    )
    said = "\n".join(rounds_lines(record))
    assert "round 2" in said and "One seed" in said and "4 held-out prompts with 8 answers" in said


def test_kl_is_to_the_first_model_and_not_to_the_last_rounds(straight, tiny_folder, files):
    """The same answers against the bare model, loaded apart: round 2's own reference would be round
    1's policy.
    """
    folder, _ = straight
    questions = [line["prompt"] for line in json_lines(folder / "held_out.jsonl")]
    opened = open_model(str(folder / "round-2/run"))
    from accord.campaign.rlhf.measured import kl_start
    from accord.types import Turn

    prompt = tuple(opened.template.question((Turn("user", questions[0]),)))
    drawn = LocalSampler.of(opened.model).sample([prompt], max_new_tokens=6, seed=5)
    to_last = probe.divergences(
        opened.model,
        [prompt],
        drawn,
        probe.KLReference(
            probe.Forward(opened.model, "padded", "", 0.0), opened.model.as_reference
        ),
    )
    to_first = probe.divergences(
        opened.model, [prompt], drawn, kl_start(opened, recipe(tiny_folder, files))
    )
    bare = open_model(str(tiny_folder), dtype="float32")
    by_hand = probe.divergences(
        opened.model,
        [prompt],
        drawn,
        probe.KLReference(probe.Forward(bare.model, "padded", "", 0.0), probe.nullcontext),
    )
    assert to_first == pytest.approx(by_hand, rel=1e-4) and abs(to_first[0] - to_last[0]) > 1e-4


# Where one life after the other ends: (module, function, which call of it in that life).
DEATHS = {
    "drawing the first held-out answers": (LocalSampler, "sample", 1),
    "drawing the second piece of a round's answers": (LocalSampler, "sample", 3),
    "drawn, not scored": (rounds, "score_file", 1),
    "while pairing": (rollouts, "write_row", 2),
    "between updates": (loop, "make_update", 2),
    "saved, its card not written": (run, "model_card", 1),
    "answers measured, their rewards not": (measured, "score_file", 1),
    "in the second round": (loop, "make_update", 1),
}


def test_deaths_cost_nothing(straight, tiny_folder, files, monkeypatch):
    """Everything is there to the byte in the end; no stage that was over is begun again, no update
    made twice, no answer drawn twice.
    """
    folder, base, drawn = straight[0], recipe(tiny_folder, files), Counter()
    sample = LocalSampler.sample

    def counted(*arguments, **options):
        answers = sample(*arguments, **options)
        drawn[options["seed"], options["first_row"]] += 1
        return answers

    def work():
        return iterate(base, Terms(str(folder), 2, 9), SILENT)

    monkeypatch.setattr(LocalSampler, "sample", counted)
    with again(folder) as aside:
        for place, (module, name, call) in DEATHS.items():
            die(monkeypatch, place, module, name, call, work)
        assert steady(work()) == steady(straight[1])
        assert contents(folder) == contents(aside)
        over = [stage for stage, what in log(folder) if what == "ended"]
        assert len(over) == len(set(over))
    of_rounds = Counter(seed for seed, _ in drawn.elements() if seed != held_out_seed(base))
    assert sorted(of_rounds.values()) == [2, 2]  # nine prompts are two pieces


def held_out_seed(base) -> int:
    return Rounds(None, base, None, None, None, 0, None)._seed(0)


def test_run_again_it_does_nothing(straight, tiny_folder, files, monkeypatch):
    folder, record = straight
    before = contents(folder), log(folder)
    monkeypatch.setattr(Rounds, "_opened", lambda *_: pytest.fail("a model was asked again"))
    assert steady(iterate(recipe(tiny_folder, files), Terms(str(folder), 2), SILENT)) == steady(
        record
    )
    assert (contents(folder), log(folder)) == before


CHANGED = {
    "another reward": (
        {"rollouts.rewards": ["length=2"]},
        {},
        r"rollouts.rewards: then \['length'\], now \['length=2'\]",
    ),
    "another rate": (
        {"train.learning_rate": 1e-3},
        {},
        "train.learning_rate: then 0.01, now 0.001",
    ),
    "another reference": ({}, {"reference": "first"}, "--reference: then last, now first"),
    "other slices": ({}, {"prompts": 5}, "prompts per round: then 9, now 5"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_another_recipe_is_refused(case, straight, tiny_folder, files):
    fields, terms, words = CHANGED[case]
    before = contents(straight[0])
    with pytest.raises(Refused, match=words):
        iterate(
            recipe(tiny_folder, files, **fields),
            Terms(str(straight[0]), **{"rounds": 2, **terms}),
            SILENT,
        )
    assert contents(straight[0]) == before


def test_another_file_of_prompts_is_refused(straight, tiny_folder, files, tmp_path):
    other = prompts(tmp_path / "other.jsonl", 20, "bush")
    with pytest.raises(Refused, match="prompts: then"):
        iterate(recipe(tiny_folder, (other, files[1])), Terms(str(straight[0]), 2), SILENT)


def test_references_over_rounds(straight, tiny_folder, files, tmp_path):
    """What each round's run is measured against;
    the moving one and the first as their names say.
    """
    work = Rounds(
        None, recipe(tiny_folder, files), Terms("x", reference="first"), None, None, 9, None
    )
    work.folder = lambda number: straight[0] / f"round-{number}"
    assert work.config(2).reference == "base" and work.config(2).rollouts is None
    work.terms = Terms("x", reference="moving")
    work.base = recipe(tiny_folder, files, **{"moving": {"every": 1}, "reference": "moving"})
    assert (work.config(2).reference, work.config(2).moving.every) == ("moving", 1)
    work.terms, work.base = (
        Terms("x"),
        recipe(
            tiny_folder,
            files,
            **{"reference": "cached", "train.steps": None, "rollouts.num_iterations": 3},
        ),
    )
    assert (work.config(1).reference, work.config(1).train.epochs) == ("cached", 3.0)


def test_all_weights(tiny_folder, files, tmp_path):
    """A round begins with the folder that the last one saved, and KL is to a model loaded beside
    it.
    """
    base = recipe(
        tiny_folder, files, **{"model.lora": None, "train.learning_rate": 1e-3, "train.steps": 1}
    )
    record = iterate(base, Terms(str(tmp_path / "out"), 1, 4), SILENT)
    work = Rounds(None, base, Terms("x"), None, None, 4, None)
    work.folder = lambda number: tmp_path / f"out/round-{number}"
    assert (
        work.config(2).model.name == str(tmp_path / "out/round-1/run/final")
        and work.config(2).model.adapter is None
    )
    assert record["rounds"][1]["held_out"]["kl"]["value"] > 0


BAD = {
    "no rollouts": ({"rollouts": None}, {}, "a section in the recipe"),
    "no pairs": ({"objective.name": "grpo"}, {}, "pairs of its own answers"),
    "epochs": ({"train.steps": None, "train.epochs": 2}, {}, "rollouts.num_iterations"),
    "passes that do nothing": ({"rollouts.num_iterations": 2}, {}, "would do nothing"),
    "batches ahead": ({"rollouts.ahead": 1}, {}, "learn while they draw"),
    "unknown reference": ({}, {"reference": "second"}, "expected last, first, moving"),
    "no reference to choose": (
        {"objective.name": "simpo"},
        {"reference": "first"},
        "simpo uses no reference",
    ),
    "all weights": ({"model.lora": None}, {"reference": "first"}, "all weights train"),
    "an adapter": ({"model.adapter": "x"}, {"reference": "first"}, "accord export RUN --merge"),
    "said twice": ({"reference": "frozen"}, {"reference": "first"}, "Leave the latter at auto"),
    "moving in the recipe": ({"reference": "moving"}, {}, "--reference moving"),
    "no rounds": ({}, {"rounds": 0}, "--rounds 0"),
    "too many prompts": ({}, {"prompts": 21}, "20 different prompts"),
    "no such reward": ({"rollouts.rewards": ["lenght"]}, {}, "no reward is called"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_could_not_be_done_is_said_before_anything(case, tiny_folder, files, tmp_path):
    fields, terms, words = BAD[case]
    with pytest.raises(UsageError, match=words):
        iterate(recipe(tiny_folder, files, **fields), Terms(str(tmp_path / "out"), **terms), SILENT)
    assert not list((tmp_path / "out").glob("**/*.jsonl"))


def test_a_round_without_pairs_says_what_to_change(tiny_folder, files, tmp_path):
    base = recipe(tiny_folder, files, **{"rollouts.margin": 1000.0})
    heard = Heard()
    with pytest.raises(DataError, match="rollouts.num_generations=8"):
        iterate(base, Terms(str(tmp_path / "out"), 1, 4), heard)
    assert any("4: no two answers far enough apart" in line for line in heard.lines)


def test_a_folder_of_other_things_is_left_alone(tiny_folder, files, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="a folder with other things"):
        iterate(recipe(tiny_folder, files), Terms(str(tmp_path)), SILENT)


def test_answers_without_a_reward_are_counted_and_in_no_mean(tmp_path):
    rows = [
        {
            "completions": ["a", "b"],
            "rewards": [1.0, None],
            "kl": [0.5, 0.5],
            "tokens": [1, 1],
            "ended": [True, False],
        },
        {
            "completions": ["a", "b"],
            "rewards": [3.0, 4.0],
            "kl": [0.5, 1.5],
            "tokens": [1, 1],
            "ended": [True, True],
        },
    ]
    file = tmp_path / "s.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = Scored.read(file)
    found = scored.figures(scored)
    assert (
        found["without_reward"] == 1
        and found["reward"]["value"] == pytest.approx(8 / 3)
        and found["reward"]["n"] == 3
    )
    assert (
        found["kl"]["value"] == 0.75
        and found["ended"] == 0.75
        and found["reward_change"]["value"] == 0
    )


def test_the_command(straight, tiny_folder, files, tmp_path):
    (tmp_path / "recipe.json").write_text(
        json.dumps(recipe(tiny_folder, files).model_dump(mode="json"))
    )
    done = CliRunner().invoke(
        app,
        [
            "iterate",
            str(tmp_path / "recipe.json"),
            "--rounds",
            "2",
            "--output",
            str(straight[0]),
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.strip().splitlines()[-1])["result"]
    assert (
        steady(found["rounds"]) == steady(straight[1]["rounds"]) and found["command"][0] == "accord"
    )


def test_answers_cut_at_the_limit_are_said_aloud(straight, tiny_folder, files):
    """The tiny model ends next to nothing by itself."""
    heard = Heard()
    iterate(recipe(tiny_folder, files), Terms(str(straight[0]), 2), heard)
    assert (
        any("were cut at 6 tokens" in line for line in heard.lines)
        and straight[1]["rounds"][1]["ended"] < 0.9
    )


def test_the_gold_reward_has_its_options(tiny_folder, files, tmp_path):
    """In the files of every round; without them the limit would be 300 words, and the gold reward
    0.
    """
    gold = {"gold": ["too_long"], "gold_options": {"too_long": {"limit": 1, "slack": 1}}}
    asked = recipe(
        tiny_folder,
        files,
        rollouts={"rewards": ["length"], "num_generations": 3, "max_new_tokens": 6} | gold,
    )
    iterate(asked, Terms(str(tmp_path / "out"), 1, 9), SILENT)
    for stage in ("start", "round-1"):
        lines = json_lines(tmp_path / f"out/{stage}/held_out_gold.jsonl")
        words = [len(text.split()) for line in lines for text in line["completions"]]
        assert [reward for line in lines for reward in line["rewards"]] == [
            -1.0 if n > 1 else 0.0 for n in words
        ] and max(words) > 1


def test_a_strange_character_in_a_prompt_ends_no_line(straight, files, tmp_path):
    """U+2028 is text in JSONL, and no end of a row."""
    lines = (straight[0] / "start/held_out_scored.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["prompt"] += "\u2028more"
    (tmp_path / "scored.jsonl").write_text(
        json.dumps(first, ensure_ascii=False) + "\n" + "\n".join(lines[1:]) + "\n"
    )
    assert len(Scored.read(tmp_path / "scored.jsonl").prompt) == len(
        Scored.read(straight[0] / "start/held_out_scored.jsonl").prompt
    )
