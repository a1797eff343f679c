"""benchmarks/house.py on a tree of a few lines, whose figures can be counted by hand."""

from __future__ import annotations

from benchmarks import house

LAYERS = [{"types"}, {"data"}, {"training"}]
FILES = {
    "types.py": '"""Nouns."""\n\nfrom accord.data import read\n',
    "data/__init__.py": '"""Rows."""\n',
    "data/read.py": '"""Read."""\n\n\ndef read():\n    """Read a row."""\n    return 1  # one\n',
    "training/__init__.py": '"""Training."""\n',
    "training/loop.py": "from accord.training import step\nfrom accord.data.read import read\n",
    "training/step.py": (
        "if TYPE_CHECKING:\n    from accord.data import read\n\n\n"
        "def step():\n    from accord.training.loop import x\n" + "    x()\n" * 60
    ),
}


def test_a_small_tree_by_hand():
    found = house.measure(FILES, LAYERS)
    assert found["rooms"]["training"] == {"files": 3, "lines": 69}
    assert (found["files"], found["top-level entries"], found["functions"]) == (6, 3, 2)
    assert found["functions over 60 lines"] == 1
    assert found["longest function"] == "62 lines (training/step.py:step)"
    assert found["functions with a docstring, %"] == 50.0
    assert found["comments in 100 lines"] == round(100 / 73, 1)


def test_circles_and_arrows_are_seen():
    """loop and step import each other; types, at the bottom, imports data."""
    found = house.measure(FILES, LAYERS)
    assert (found["circles inside a room"], found["modules in a circle"]) == (1, 2)
    assert (found["circles across rooms"], found["arrows that do not run down"]) == (0, 1)


def test_what_a_type_checker_alone_imports_does_not_count():
    graph = {"accord.training.step": {"accord.data.read"}}
    assert house.upward(graph, LAYERS) == []
    assert house.upward({"accord.types": {"accord.data.read"}}, LAYERS) == ["types -> data"]


def test_the_tree_of_today():
    files, layers = house.files_at(None)
    found = house.measure(files, house.layers_of(layers))
    assert found["circles inside a room"] == found["circles across rooms"] == 0
    assert found["arrows that do not run down"] == 0
