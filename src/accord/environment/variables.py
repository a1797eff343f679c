"""Environment variables by which a user chooses a processor's instructions, threads and ranks.

torch, oneDNN, MKL and libgomp continue when they do not know a value, with one warning or with none
(measured with torch 2.13; MKL_NUM_THREADS=abc even means one thread). A measurement that was meant
for one setting would then silently be made under another. So an invalid value is an error here,
before torch is imported.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from accord.errors import UsageError

# By processor, as torch's dispatcher compares them: letter by letter.
ATEN = {
    "x86_64": ("default", "avx2", "avx512"),
    "amd64": ("default", "avx2", "avx512"),
    "aarch64": ("default", "sve128", "sve256"),
    "arm64": ("default", "sve128", "sve256"),
    "ppc64le": ("default", "vsx"),
    "s390x": ("default", "zvector"),
}
# In capitals or not (oneDNN 3: guide "CPU Dispatcher Control", and the names in libtorch_cpu).
ONEDNN = (
    "DEFAULT",
    "ALL",
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
    "AVX512_CORE_BF16",
    "AVX512_CORE_FP16",
    "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16",
    "AVX10_1_512",
    "AVX10_1_512_AMX",
    "AVX10_1_512_AMX_FP16",
    "AVX10_2",
    "AVX10_2_512",
    "AVX10_2_512_AMX_2",
    "AVX10_2_AMX_2",
)
# oneMKL developer guide, "Instruction Set Specific Dispatching", and the names in libtorch_cpu.
MKL = (
    "SSE4_2",
    "AVX",
    "AVX2",
    "AVX2_E1",
    "AVX512",
    "AVX512_E1",
    "AVX512_E2",
    "AVX512_E3",
    "AVX512_E4",
    "AVX512_E5",
    "AVX512_MIC",
    "AVX512_MIC_E1",
)
# The names in /proc/cpuinfo of the instructions that torch's own kernels then use. Without them the
# process is killed by SIGILL, and nothing can be reported any more.
NEEDS = {"avx2": ("avx2", "fma"), "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl")}
COUNT = r"[1-9]\d*"
THREADS = {
    "OMP_NUM_THREADS": (rf"{COUNT}(\s*,\s*{COUNT})*", "a number of threads, such as 2"),
    "MKL_NUM_THREADS": (COUNT, "a number of threads, such as 2"),
}
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def require_known(environment: Mapping[str, str] | None = None) -> None:
    """Refuse environment variables with unknown values.

    Raises:
      UsageError: a variable has a value that the library which reads it would ignore.
    """
    given = os.environ if environment is None else environment
    for name, known in flags().items():
        value = given.get(name, "")
        said = value.upper() if name.startswith(("ONEDNN", "DNNL")) else value
        if value and known and said not in known:
            raise UsageError(
                f"{name}={value}: no such instructions; the library would go on with others than"
                f" you asked for. Known: {', '.join(known)}.\nSet one of these, or none: unset"
                f" {name}"
            )
    _require_able(given.get("ATEN_CPU_CAPABILITY", ""))
    for name, (form, expected) in THREADS.items():
        value = given.get(name, "").strip()
        if value and not re.fullmatch(form, value):
            raise UsageError(
                f"{name}={value}: expected {expected}; the library would choose by itself.\nSet"
                f" one, or none: unset {name}"
            )
    for name in RANKS:
        value = given.get(name, "")
        if value and not value.isdecimal():
            raise UsageError(
                f"{name}={value}: expected a number, as torchrun sets it. Start all processes with"
                f" torchrun, or none: unset {name}"
            )


def _require_able(wanted: str) -> None:
    """Refuse a choice of instructions that this processor lacks.

    Raises:
      UsageError: this processor does not have the instructions that torch is to use.
    """
    able = _cpuinfo()
    lacking = [name for name in NEEDS.get(wanted, ()) if able and name not in able]
    if lacking:
        raise UsageError(
            f"ATEN_CPU_CAPABILITY={wanted}: this processor has no {', '.join(lacking)}; torch would"
            " be killed by its first such instruction. Leave it out: unset ATEN_CPU_CAPABILITY"
        )


def _cpuinfo() -> frozenset[str]:
    """Read this processor's features, by Linux's names; empty where they are not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def flags() -> dict[str, tuple[str, ...]]:
    """Return variable -> its known values, on this kind of processor; none where we know of
    none.
    """
    return {
        "ATEN_CPU_CAPABILITY": ATEN.get(platform.machine().lower(), ()),
        "ONEDNN_MAX_CPU_ISA": ONEDNN,
        "DNNL_MAX_CPU_ISA": ONEDNN,
        "MKL_ENABLE_INSTRUCTIONS": MKL,
    }


def chosen_settings() -> dict[str, str]:
    """Return the variables above that are set: they are part of what a machine computes."""
    names = (*flags(), *THREADS)
    return {name: os.environ[name] for name in names if os.environ.get(name)}
