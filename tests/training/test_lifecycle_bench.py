"""SilentBench's lifecycle part: what it draws, that each fault changes something, and that its
judge takes no empty message for a name. No run is trained here.
"""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import assert_no_faults

from benchmarks.machines import available
from benchmarks.silentbench.lifecycle import case as cases
from benchmarks.silentbench.lifecycle import in_adapter, in_measure, in_model, said, sound
from benchmarks.silentbench.lifecycle.generator import GROUPS, KINDS, draws, kind_named, outcome
from benchmarks.silentbench.lifecycle.kinds import Inert, Kind, spoil
from benchmarks.silentbench.lifecycle.models import family_config
from benchmarks.silentbench.lifecycle.places import PLACES
from benchmarks.silentbench.lifecycle.said import Step, judge
from benchmarks.silentbench.lifecycle.table import counts, table

ADAPTERS = ("run/adapter", "adapter")


@pytest.fixture(scope="module")
def make_case(tmp_path_factory, tokenizer):
    """Make cases on random models, with what a place's setup would have left."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp("lifecycle")

    @cache
    def model(root_, family, seed=0, updates=None) -> Path:
        folder = root / f"{family}-{seed}"
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(family_config(family, tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
        return folder

    @cache
    def adapter() -> dict[str, bytes]:
        base = AutoModelForCausalLM.from_pretrained(model(root, "llama"))
        targets = ["q_proj", "v_proj"]
        config = LoraConfig(task_type="CAUSAL_LM", target_modules=targets, lora_alpha=32, r=16)
        get_peft_model(base, config).save_pretrained(root / "made")
        return {file.name: file.read_bytes() for file in (root / "made").iterdir()}

    def do(self, *words):
        if words[0] == "export":
            folder = Path(words[-1])
            folder.mkdir()
            content = (model(root, "llama", seed=1) / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(content)

    def lived(case) -> None:
        """Files of a finished run."""
        for name in ADAPTERS:
            (case.folder / name).mkdir(parents=True)
            for file, content in adapter().items():
                (case.folder / name / file).write_bytes(content)
        (case.folder / "rm-model").mkdir()
        for file in (model(root, "llama")).iterdir():
            (case.folder / "rm-model" / file.name).write_bytes(file.read_bytes())
        case.tensors(lambda t: t.update(score=torch.ones(1, 64)), case.folder / "rm-model")
        for step in (2, 4):
            checkpoint = case.folder / f"run/checkpoints/step-{step:06}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "tensors.safetensors").write_bytes(bytes([step]) * 64)
        text = "train:\n  learning_rate: 0.001\n  seed: 0\n  batch_size: 8\n  weight_decay: 0.0\n"
        (case.folder / "run/config.yaml").write_text(text, encoding="utf-8")
        case.train_words(case.folder / "next")

    with pytest.MonkeyPatch.context() as patch:
        for module in (cases, in_adapter, in_measure):
            patch.setattr(module, "trained_model", model)
        patch.setattr(cases.Case, "do", do)
        number = iter(range(10_000))

        def make(kind: Kind, family: str | None = None, seed: int = 1) -> cases.Case:
            folder = root / f"case-{next(number)}"
            folder.mkdir()
            method, family = kind.methods[0], family or kind.families[0]
            case = cases.Case(folder, root, random.Random(seed), method=method, family=family)
            if kind.between:
                lived(case)
            return case

        yield make


def test_each_fault_changes_something(make_case):
    def inject(kind):
        for family in kind.families:
            case = make_case(kind, family)
            with case.stack:
                assert spoil(kind, case)

    assert_no_faults(KINDS, inject, lambda kind: kind.name)


def test_a_fault_that_changes_nothing_is_a_defect_of_the_bench(make_case):
    kind = Kind("nothing", "never said", lambda case: "nothing", ("train",))
    with pytest.raises(Inert, match="nothing"):
        spoil(kind, make_case(kind))


def test_parameters_are_drawn_from_the_seed(make_case):
    kind = kind_named("layers drawn anew")
    found = [spoil(kind, make_case(kind, seed=seed)) for seed in (3, 3, *range(8))]
    assert found[0] == found[1] and len(set(found)) > 2


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "name",
    [
        "a layer of zeros",
        "layers drawn anew",
        "another embedding",
        "layers dropped by the configuration",
    ],
)
def test_a_fault_of_the_weights_makes_another_model(name, family, make_case):
    from transformers import AutoModelForCausalLM

    case, ids = make_case(kind_named(name), family), torch.arange(5, 15)[None]

    def logits():
        with torch.no_grad():
            return AutoModelForCausalLM.from_pretrained(case.model)(input_ids=ids).logits

    before = logits()
    spoil(kind_named(name), case)
    assert (logits() - before).abs().max() > 1e-4


def test_permuted_ids_give_other_tokens(make_case):
    from transformers import AutoTokenizer

    case = make_case(kind_named("a tokenizer with other ids"))
    text = "The kettle follows the planet near the old town"
    before = AutoTokenizer.from_pretrained(case.model)(text)["input_ids"]
    in_model.permuted_tokenizer(case)
    after = AutoTokenizer.from_pretrained(case.model)(text)["input_ids"]
    assert before != after


# ---------------------------------------------------------------- what is drawn


def test_a_seed_gives_its_cases():
    assert draws(1, 150) == draws(1, 150)
    assert draws(1, 150) != draws(2, 150)
    assert draws(1, 20) == draws(1, 150)[:20]


def test_every_kind_comes_before_any_comes_twice():
    first = [draw.kind for draw in draws(4, len(KINDS))]
    assert sorted(first) == sorted(kind.name for kind in KINDS)
    assert len(draws(4, 10_000)) == len(set(draws(4, 10_000)))


def test_a_kind_comes_at_another_place_the_second_time():
    twice = draws(5, 2 * len(KINDS))
    for kind in KINDS:
        places = [draw.place for draw in twice if draw.kind == kind.name][:2]
        assert len(kind.places) == 1 or len(set(places)) == len(places), (kind.name, places)


def test_there_are_enough_kinds_and_each_has_its_places():
    assert len(KINDS) >= 40 and len({kind.name for kind in KINDS}) == len(KINDS)
    assert {place for kind in KINDS for place in kind.places} == set(PLACES)
    assert all(GROUPS.values())


def test_sound_cases_are_of_many_settings():
    drawn = [sound.draw(1, number) for number in range(100)]
    assert drawn[7] == sound.draw(1, 7)
    assert {fields["method"] for fields, _, _ in drawn} == set(sound.METHODS)
    assert {last[2] for _, last, _ in drawn} >= set(available())
    assert {fields["settings"]["model.dtype"] for fields, _, _ in drawn} == {"float32", "bfloat16"}


# ---------------------------------------------------------------- the judge


def step(output: str, code: int = 0, crash: str = "") -> Step:
    return Step(["train"], code, output, crash)


@pytest.mark.parametrize("cause", ["", ".*", "model", "is no", "learning.?rate", "error|beta"])
def test_a_pattern_that_matches_a_message_without_content(cause):
    with pytest.raises(ValueError, match="names nothing"):
        Kind("too wide", cause, lambda case: "", ("train",))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_empty_message_names_a_cause(kind):
    for text in said.GENERIC:
        found = judge(kind.cause, [step(text, code=4)], set())
        assert found.word in ("wrong cause", "missed", "crashed")
    assert judge(kind.cause, [], set()).word == "missed"


def test_what_is_said_of_a_sound_case_names_nothing():
    line = "  beta 0.1 at /a/b/c"
    assert judge("beta", [step(line)], set()).word == "named"
    assert judge("beta", [step(line)], {said.normal("  beta 0.7 at /x/y")}).word == "missed"


def test_an_alarm_counts_before_a_line():
    told = step("beta is large\n! beta is 1,000: nothing is learned\n    what to do: lower it")
    found = judge("beta", [told], set())
    assert found.loud and found.says.endswith("lower it")


def test_an_alarm_that_names_something_else():
    assert judge("rope", [step("error: no such file", code=2)], set()).word == "wrong cause"


def test_a_traceback_is_a_crash_whatever_it_holds():
    crashed = step("Traceback (most recent call last): rope", code=1, crash="KeyError: rope")
    assert judge("rope", [crashed], set()).word == "crashed"


def test_what_was_measured_to_be_right_is_handled():
    assert judge("rope", [step("done")], set(), handled=True).word == "handled"


def test_an_error_is_an_alarm_with_all_its_lines():
    assert step("· loading\nerror: rope\nexpected: one", code=2).alarms == [
        "error: rope\nexpected: one"
    ]
    assert step("✗ step 0  a\n✓ b\n! c").alarms == ["✗ step 0  a", "! c"]


def test_the_outcome_is_figures_without_speeds(make_case):
    case = make_case(kind_named("a large beta"))
    case.said = [step("accuracy 0.5\n48 tokens, 190 a second")]
    before = outcome(case)
    case.said = [step("accuracy 0.5\n48 tokens, 77 a second")]
    assert outcome(case) == before and before[1] == "accuracy 0.5"
    case.said = [step("accuracy 0.6\n48 tokens, 77 a second")]
    assert outcome(case) != before


def test_the_table_counts():
    shared = {"kind": "k", "group": "g", "place": "p", "method": "dpo", "family": "llama"}
    shared |= {"drawn": "d", "says": "s", "loud": True}
    words = ("named", "missed", "handled", "inert")
    record = {
        "cases": [shared | {"verdict": word} for word in words],
        "sound": [{"alarms": []}],
        "twins": {"t": []},
    }
    found = counts(record)
    assert found["faults"]["named"] == 1 and found["faults"]["in all"] == 3
    assert found["bench"]["inert"] == 1 and found["sound"] == {"false alarms": 0, "runs": 1}
    assert re.search(r"\| k \| 3 \| 2 \| p: missed \|", table(record))
