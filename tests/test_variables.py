"""A processor flag, a number of threads or a rank that is none: an error before torch goes on
without it.
"""

import re

import pytest

from accord.environment import variables
from accord.environment.variables import chosen_settings, require_known
from accord.errors import UsageError

WRONG = {
    "ATEN_CPU_CAPABILITY": ["foo", "AVX2", "avx-512"],
    "ONEDNN_MAX_CPU_ISA": ["foo", "AVX3"],
    "DNNL_MAX_CPU_ISA": ["foo"],
    "MKL_ENABLE_INSTRUCTIONS": ["foo", "avx2"],
    "OMP_NUM_THREADS": ["abc", "0", "-1", "2.5", "2,", "1,0"],
    "MKL_NUM_THREADS": ["abc", "0", "2,2"],
    "RANK": ["abc", "-1"],
    "WORLD_SIZE": ["two"],
    "LOCAL_RANK": ["x"],
}


@pytest.fixture(autouse=True)
def _processor(monkeypatch):
    """An Intel processor with AVX2."""
    monkeypatch.setattr(variables.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(variables, "_cpuinfo", lambda: frozenset(["avx2", "fma"]))


@pytest.mark.parametrize(
    "name, value", [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_named_with_what_is_right(name, value):
    with pytest.raises(UsageError, match=re.escape(f"{name}={value}: ")) as error:
        require_known({name: value})
    assert f"unset {name}" in str(error.value)
    for known in variables.flags().get(name, ()):
        assert known in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        dict.fromkeys(WRONG, ""),
        {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": " 2, 2 ", "MKL_NUM_THREADS": "1"},
        {"ONEDNN_MAX_CPU_ISA": "avx2", "DNNL_MAX_CPU_ISA": "AVX512_CORE_AMX"},
        {"MKL_ENABLE_INSTRUCTIONS": "AVX512_E4", "RANK": "0", "WORLD_SIZE": "2"},
    ],
)
def test_known_values_pass(given):
    require_known(given)


def test_instructions_that_this_processor_lacks(monkeypatch):
    """torch would be killed by SIGILL, without a word."""
    with pytest.raises(UsageError, match="this processor has no avx512f"):
        require_known({"ATEN_CPU_CAPABILITY": "avx512"})
    able = frozenset(["avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl"])
    monkeypatch.setattr(variables, "_cpuinfo", lambda: able)
    require_known({"ATEN_CPU_CAPABILITY": "avx512"})
    monkeypatch.setattr(variables, "_cpuinfo", frozenset)  # not Linux: nobody knows
    require_known({"ATEN_CPU_CAPABILITY": "avx512"})


def test_on_an_unknown_processor_torch_decides(monkeypatch):
    monkeypatch.setattr(variables.platform, "machine", lambda: "riscv64")
    require_known({"ATEN_CPU_CAPABILITY": "rvv"})


def test_what_is_chosen(monkeypatch):
    for name in (*variables.flags(), *variables.THREADS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert chosen_settings() == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
