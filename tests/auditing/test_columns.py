"""Numbers that stand beside the texts: also as text, as a CSV file has them."""

import math

from accord.auditing.columns import SCORES, figure, side_numbers


def test_text_is_read_as_a_number_and_what_is_none_is_left_out():
    assert [figure(value) for value in ("4.5", 3, " 7 ")] == [4.5, 3.0, 7.0]
    none = ("good", "nan", "1e999", True, None, [1], "9" * 50)
    assert all(math.isnan(figure(value)) for value in none)


def test_scores_of_both_sides():
    assert side_numbers({"score_chosen": "3", "score_rejected": 2}, SCORES) == (3.0, 2.0)
    booleans = side_numbers({"score_chosen": True, "score_rejected": False}, SCORES)
    assert all(map(math.isnan, booleans))
