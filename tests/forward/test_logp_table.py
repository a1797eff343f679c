"""The table of a cached reference answers as a dict would, whatever keys share."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.forward.logp_table import LogpTable, as_entries, as_keys, as_table, first_of_each

# few halves, so that many keys share one; bytes of both ends, so that order and sign matter
HALF = st.sampled_from([bytes(8), b"\xff" * 8, b"\x00" * 7 + b"\x01", b"\x80" + bytes(7)])
KEY = st.tuples(HALF, HALF).map(b"".join)
ENTRY = st.tuples(st.floats(-1e6, 0), st.integers(1, 10_000))
WRITTEN = st.lists(st.dictionaries(KEY, ENTRY, max_size=6), max_size=5)


@given(WRITTEN, st.lists(KEY, max_size=8))
def test_it_answers_as_a_dict(written, asked):
    table, plain = LogpTable(), {}
    for entries in written:
        table |= entries
        plain |= entries
    assert table == plain and len(table) == len(plain) and bool(table) == bool(plain)
    assert table.has(as_keys(asked)).tolist() == [key in plain for key in asked]
    assert [key in table for key in asked] == [key in plain for key in asked]
    known = [key for key in asked if key in plain]
    found = table.entries(as_keys(known))
    assert found["sums"].tolist() == [plain[key][0] for key in known]
    assert found["counts"].tolist() == [plain[key][1] for key in known]
    assert as_entries(table.tensors()) == plain and list(table) == sorted(plain)


@given(WRITTEN)
def test_a_table_is_sent_and_taken_whole(written):
    one, other = LogpTable(), LogpTable()
    for entries in written:
        one.put(as_table(entries))
    other.put(one.tensors())
    assert one == other


@given(st.dictionaries(KEY, ENTRY))
def test_entries_become_tensors_and_come_back(entries):
    table = as_table(entries)
    assert as_entries(table) == entries
    assert table["keys"].shape == (len(entries), 16) and table["keys"].dtype == torch.uint8
    assert table["sums"].dtype == torch.float64 and table["counts"].dtype == torch.int32


@given(st.lists(KEY))
def test_keys_once_where_they_come_first(keys):
    assert np.array_equal(first_of_each(as_keys(keys)), as_keys(dict.fromkeys(keys)))


def test_a_key_that_is_not_there():
    table = LogpTable()
    table[b"a" * 16] = (-1.0, 2)
    assert table[b"a" * 16] == (-1.0, 2)
    with pytest.raises(KeyError, match="bbb"):
        table[b"b" * 16]
    with pytest.raises(KeyError, match="bbb"):
        table.entries(as_keys([b"a" * 16, b"b" * 16]))
