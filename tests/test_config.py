"""The schema: no option does nothing, and every error names the right key."""

import ast
from pathlib import Path

import pytest
from pydantic import BaseModel

from accord.config.renamed import RENAMED
from accord.config.schema import (
    PERMISSIONS,
    Config,
    LoraConfig,
    dump,
    load_recipe,
    make_config,
    parse_assignment,
)
from accord.errors import UsageError

SOURCE = Path(__file__).parents[1] / "src/accord"
DATA = {"data": {"train": "x.jsonl"}}


def fields(model: type[BaseModel] = Config, path: str = ""):
    """(path, name, field) of every field, sections opened."""
    for name, field in model.model_fields.items():
        kinds = [
            t
            for t in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if isinstance(t, type)
        ]
        section = next((t for t in kinds if issubclass(t, BaseModel)), None)
        yield f"{path}{name}", name, field
        if section is not None:
            yield from fields(section, f"{path}{name}.")


def read_names() -> set[str]:
    """Every attribute that some file other than config.py reads, and the keywords that add_lora
    takes from a section.
    """
    names = set()
    for file in SOURCE.rglob("*.py"):
        if file.name != "config.py":
            tree = ast.parse(file.read_text())
            names |= {
                n.attr
                for n in ast.walk(tree)
                if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)
            }
    return names


def lora_keywords() -> set[str]:
    """LoraConfig is handed over whole, as keywords of `add_lora`."""
    tree = ast.parse((SOURCE / "models/lora.py").read_text())
    (function,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "add_lora"]
    used = {n.id for n in ast.walk(ast.Module(function.body, [])) if isinstance(n, ast.Name)}
    return {argument.arg for argument in function.args.kwonlyargs} & used


def test_every_field_is_read():
    read = read_names()
    unread = [
        path
        for path, name, _ in fields()
        if name not in read and not path.startswith("model.lora.")
    ]
    assert unread == []
    assert set(LoraConfig.model_fields) <= lora_keywords()


def test_every_field_says_what_it_means():
    sections = {
        name
        for name, field in Config.model_fields.items()
        if hasattr(field.annotation, "model_fields")
    }
    assert [
        path for path, _, field in fields() if not field.description and path not in sections
    ] == []


def test_every_permission_is_asked_for():
    """A permission that no check looks at would be an option that does nothing."""
    text = "".join(
        file.read_text()
        for file in SOURCE.rglob("*.py")
        if file.name not in ("config.py", "cli.py")
    )
    assert [name for name in PERMISSIONS if f'"{name}"' not in text] == []


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"objective": {"name": "ipo", "beta": 0.2, "normalize": "sequence_sum"}},
        {"model": {"lora": None}},
        {"train": {"betas": [0.9, 0.95], "max_grad_norm": None, "epochs": 1.5}, "allow": ["hub"]},
        {"data": {"train": "é.jsonl", "columns": {"prompt": "question"}}, "output": "runs/1"},
    ],
    ids=["defaults", "objective", "all-weights", "train", "data"],
)
def test_dump_and_load_agree(raw, tmp_path):
    config = make_config(DATA | raw)
    (tmp_path / "config.yaml").write_text(dump(config), encoding="utf-8")
    assert make_config(load_recipe(str(tmp_path / "config.yaml"))) == config


def test_lora_on_and_off():
    lora = [
        make_config(DATA | {"model": {"lora": value}}).model.lora
        for value in (True, False, None, {"rank": 4})
    ]
    assert lora == [LoraConfig(), None, None, LoraConfig(rank=4)]


def test_frozen():
    with pytest.raises(Exception, match="frozen"):
        make_config(DATA).train.steps = 5


@pytest.mark.parametrize(
    "text, value", [("1e-4", 1e-4), ("5E3", 5000.0), ("-2e-1", -0.2), ("1.0e-4", 1e-4)]
)
def test_yaml_numbers_without_a_point(text, value):
    """YAML 1.1 reads 1e-4 as text; a learning rate must not fail, or stay text in an objective's
    options.
    """
    _, parsed = parse_assignment(f"objective.beta={text}")
    assert (
        make_config(DATA | {"objective": {"name": "dpo", "beta": parsed}}).objective["beta"]
        == value
    )


def test_text_with_an_e_stays_text():
    assert (
        make_config(DATA | {"objective": {"name": "e:mine"}, "output": "2e-runs"}).output
        == "2e-runs"
    )


def test_objective_as_a_word():
    assert make_config(DATA | {"objective": "kto"}).objective == {"name": "kto"}


BAD = {
    "unknown key": (
        {"train": {"batchsize": 4}},
        "train.batchsize: unknown key; did you mean batch_size?",
    ),
    "unknown section": ({"trian": {}}, "trian: unknown key; did you mean train?"),
    "unknown in lora": (
        {"model": {"lora": {"rnak": 4}}},
        "model.lora.rnak: unknown key; did you mean rank?",
    ),
    "nothing near": ({"train": {"zzz": 1}}, "train.zzz: unknown key; known here: batch_size"),
    "TRL's name": (
        {"train": {"per_device_train_batch_size": 4}},
        "TRL's name; here it is train.batch_size",
    ),
    "TRL's lora_r": ({"lora_r": 4}, "TRL's name; here it is model.lora.rank"),
    "both lengths": (
        {"train": {"steps": 1, "epochs": 1}},
        "--steps 1 and --epochs 1 both say how long to train",
    ),
    "permission": ({"allow": ["raw_txt"]}, "'raw_txt' is no permission; did you mean raw_text?"),
    "objective": (
        {"objective": 5},
        "expected a name and its options, such as {name: dpo, beta: 0.1}",
    ),
    "a rate of 1": ({"train": {"learning_rate": 1}}, "train.learning_rate"),
    "infinite": (
        {"train": {"weight_decay": float("inf")}},
        "train.weight_decay: expected a finite number",
    ),
    "device": ({"model": {"device": "gpu"}}, "model.device"),
    "schedule": (
        {"train": {"schedule": "step"}},
        "expected linear, cosine or constant; got 'step'",
    ),
    "section as a word": ({"train": "fast"}, "train: "),
}


@pytest.mark.parametrize("raw, words", BAD.values(), ids=BAD)
def test_errors_name_the_place_and_the_remedy(raw, words):
    with pytest.raises(UsageError) as error:
        make_config(DATA | raw)
    assert words in str(error.value)


def test_every_problem_is_a_line():
    with pytest.raises(UsageError) as error:
        make_config({"train": {"steps": 0, "sead": 1}})
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "data",
        "train.steps",
        "train.sead",
    ]
    assert "data: missing (--data FILE)." in str(error.value)


@pytest.mark.parametrize(
    "text, path, value",
    [
        ("objective.beta=0.2", ["objective", "beta"], 0.2),
        ("model.lora=false", ["model", "lora"], False),
        ("data.columns={prompt: q}", ["data", "columns"], {"prompt": "q"}),
        ("output=a=b", ["output"], "a=b"),
        ("train.max_grad_norm=null", ["train", "max_grad_norm"], None),
    ],
)
def test_assignments(text, path, value):
    assert parse_assignment(text) == (path, value)


@pytest.mark.parametrize(
    "text", ["objective.beta", "=3", "a=[1", "a=" + "9" * 5_000, "a=" + "[" * 5_000]
)
def test_bad_assignments(text):
    with pytest.raises(UsageError, match="--set"):
        parse_assignment(text)


RECIPES = {
    "a list": ("- a\n- b\n", "expected a mapping"),
    "broken": ("data: {train: [\n", "not valid YAML"),
    "a Python object": ("data: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    "empty": ("", "expected a mapping"),
    "a time that is none": ("output: !!timestamp x\n", "not valid YAML"),
    "nested for ever": ("a: " + "[" * 5_000, "nested too deeply"),
    "aliases of aliases": (
        "a: &a [x, x, x, x, x, x]\n"
        + "".join(
            f"{k}: &{k} [*{j}, *{j}, *{j}, *{j}, *{j}, *{j}]\n"
            for j, k in zip("abcdefg", "bcdefgh", strict=True)
        ),
        "over 20,000 values",
    ),
    "an alias of itself": ("a: &a [*a]\n", "over 20,000 values|nested too deeply"),
    "a file of data": ('{"prompt": "a"}\n' * 20_000, "too large for a recipe"),
}


@pytest.mark.parametrize("text, words", RECIPES.values(), ids=RECIPES)
def test_bad_recipes(text, words, tmp_path):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError, match=words):
        load_recipe(str(tmp_path / "recipe.yaml"))


def test_recipe_of_bytes_or_none(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe")
    for name in ("recipe.yaml", "missing.yaml", "."):
        with pytest.raises(UsageError, match="not valid YAML|no such recipe"):
            load_recipe(str(tmp_path / name))


@pytest.mark.parametrize(
    "raw", [{"seed": 2**63}, {"steps": 10**30}, {"epochs": 1e300}, {"batch_size": 2**64}]
)
def test_numbers_that_nothing_could_count_to(raw):
    """Random number generators take 64 bits; more was a traceback much later."""
    with pytest.raises(UsageError, match=f"train.{next(iter(raw))}.*or less"):
        make_config(DATA | {"train": raw})


def test_an_empty_value_is_no_value():
    """Else `--set train.max_grad_norm=$NORM` without the variable would never clip."""
    with pytest.raises(UsageError, match="no value stands behind the =.*max_grad_norm=null"):
        parse_assignment("train.max_grad_norm=")


def test_aliases_are_values_of_their_own(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: {train: &file x.jsonl, held_out: *file}\n")
    assert make_config(load_recipe(str(tmp_path / "recipe.yaml"))).data.held_out == "x.jsonl"


@pytest.mark.parametrize(
    "field", ["train.steps", "train.learning_rate", "train.batch_size", "model.lora.alpha"]
)
def test_a_boolean_is_no_number(field):
    """true would be taken as 1."""
    section, *rest = field.split(".")
    node: dict = {"data": {"train": "x.jsonl"}}
    place = node.setdefault(section, {})
    for name in rest[:-1]:
        place = place.setdefault(name, {})
    place[rest[-1]] = True
    with pytest.raises(UsageError, match=rest[-1]):
        make_config(node)


@pytest.mark.parametrize("old, new", RENAMED.items())
def test_an_old_key_answers_with_the_new_name(old, new):
    section, key = old.split(".")
    with pytest.raises(UsageError) as error:
        make_config({"data": {"train": "x"}, section: {key: 2, "rewards": ["length"]}})
    assert f"{old}: unknown key: its name was changed to {new.split('.')[1]}." in str(error.value)


def test_renamed_keys_exist_and_old_ones_do_not():
    config = make_config({"data": {"train": "x"}, "rollouts": {"rewards": ["length"]}})
    fields = config.model_dump()
    for old, new in RENAMED.items():
        for path, there in ((old, False), (new, True)):
            section, key = path.split(".")
            assert (key in fields[section]) == there
