"""benchmarks/where_time_goes.py: an operation is counted as what it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import vs_trl
import where_time_goes

VOCABULARY = 49_152
WEIGHTS = {(576, 1536), (192, 576), (576, 576)}


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("aten::mm", [[900, 576], [576, 1536]], "layers"),
        ("aten::addmm", [[576], [900, 1536], [1536, 576]], "layers"),
        ("aten::mm", [[1536, 900], [900, 576]], "layers"),  # the gradient of a weight
        ("aten::mm", [[300, 576], [576, 49_152]], "head"),
        ("aten::mm", [[900, 576], [576, 16]], "adapters"),
        ("aten::bmm", [[9, 100, 64], [9, 64, 100]], "other products"),
        (
            "aten::_scaled_dot_product_flash_attention_for_cpu",
            [[1, 9, 100, 64]],
            "attention kernel",
        ),
        ("aten::copy_", [[900, 576], [900, 576], []], "copies"),
        ("aten::silu", [[900, 1536]], "elementwise"),
        ("aten::t", [[576, 1536]], "the rest"),
        ("aten::item", [[]], "the rest"),
    ],
)
def test_an_operation_is_counted_as_what_it_is(name, shapes, expected):
    assert where_time_goes.kind(name, shapes, VOCABULARY, WEIGHTS) == expected
    assert expected in where_time_goes.KINDS


def test_a_case_that_is_not_in_the_table_is_named():
    with pytest.raises(SystemExit, match="no case 'truthfulqa'; there are: hh_harmless dpo LoRA"):
        vs_trl.cases("truthfulqa")
    assert vs_trl.cases(None) == list(vs_trl.CASES)
