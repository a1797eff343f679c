"""A run whose chat template writes the date goes on, on another day, with the same tokens."""

from datetime import date

import pytest
from training.helpers import json_lines, run, stopped_after

import accord
from accord.training import run as run_module
from accord.types import AccordError, Interrupted

DATED = (
    "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '.<|im_end|>\n' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Day(date):
    """A day that a test chooses."""

    number = 5

    @classmethod
    def today(cls):
        return cls(2031, 1, cls.number)


@pytest.fixture
def dated(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "date", Day)
    Day.number = 5
    path = tmp_path / "dated.jinja"
    path.write_text(DATED)
    return {"set": {"data.template": str(path)}}


def stopped(tiny_folder, pairs_file, tmp_path, monkeypatch, dated):
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "stopped", **dated)
    return tmp_path / "stopped"


def test_another_day_gives_the_same_tokens(tiny_folder, pairs_file, tmp_path, monkeypatch, dated):
    run(tiny_folder, pairs_file, tmp_path / "straight", **dated)
    folder = stopped(tiny_folder, pairs_file, tmp_path, monkeypatch, dated)
    Day.number = 9
    accord.resume(str(folder))
    assert json_lines(folder / "metrics.jsonl") == json_lines(tmp_path / "straight/metrics.jsonl")
    assert "2031-01-05" in (folder / "config.yaml").read_text()
    other = run(tiny_folder, pairs_file, tmp_path / "other", **dated).folder
    assert json_lines(folder / "metrics.jsonl") != json_lines(other / "metrics.jsonl")


def test_a_changed_template_is_refused(tiny_folder, pairs_file, tmp_path, monkeypatch, dated):
    folder = stopped(tiny_folder, pairs_file, tmp_path, monkeypatch, dated)
    (tmp_path / "dated.jinja").write_text(DATED.replace("Today is", "It is"))
    with pytest.raises(AccordError) as error:
        accord.resume(str(folder))
    assert "template" in str(error.value)
    (tmp_path / "dated.jinja").unlink()
    with pytest.raises(AccordError, match="dated.jinja"):
        accord.resume(str(folder))
