"""Two machines as two network namespaces of one: the commands of docs/many.md, typed as they stand
there, and a cable that is pulled in the middle.

    sudo python benchmarks/two_nodes.py [--processes 2] [--steps 8] [--output FILE]

Each node has its own network, host name and folder; a veth pair is the cable between them. What is
changed of the page: so many processes a node in place of its 8 and 4, and CPUs with gloo in place
of GPUs with NCCL. Slurm is left out. Measured: the largest relative difference of the losses of
each run to those of one process; after `ip link set down`, the seconds until both nodes have ended,
their exit codes and last words; whether one node alone goes on from the checkpoint to the same
losses.

Without root, or without `ip netns` and `unshare`, it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/two_nodes.json"
PAGE = ROOT / "docs/many.md"
RANGE, PORT = "10.211.17", 29500
PATIENCE = 20  # seconds: how long a rank waits for another, of 1,800 by default
LIMIT = 1200  # seconds for one command
TORCHRUN = 60  # seconds that torchrun gets to notice that its processes have ended
CLOSE = 1e-5  # relative difference of losses that rounding may make
MOST = 96  # rows that are trained on
ROWS = ROOT / "src/accord/demo/train.jsonl"


@dataclass(frozen=True)
class Node:
    """One machine: its name, its network namespace, its end of the cable, its folder."""

    name: str
    number: int
    folder: Path

    @property
    def space(self) -> str:
        return f"accord-{self.name}"

    @property
    def cable(self) -> str:
        return f"acc{self.number}"

    @property
    def address(self) -> str:
        return f"{RANGE}.{self.number}"

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the words that run a command on this machine."""
        line = f"hostname {self.name}; exec " + '"$@"'
        return [
            "ip",
            "netns",
            "exec",
            self.space,
            "unshare",
            "--uts",
            "sh",
            "-c",
            line,
            "-",
            *words,
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2, help="on each node")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if lacks := missing():
        print(f"skipped: {lacks}")
        return
    with tempfile.TemporaryDirectory(prefix="two-nodes-") as folder:
        nodes = [Node(f"node{n}", n, Path(folder) / f"node{n}") for n in (1, 2)]
        try:
            build(nodes, options.steps)
            keep = partial(write, options.output)
            record = measure(nodes, options.processes, options.steps, keep)
        finally:
            take_down(nodes)
    print(json.dumps(record, indent=1, ensure_ascii=False))
    sys.exit(bool(record["wrong"]))


def write(file: Path, record: dict) -> None:
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


def missing() -> str:
    """Say what stands in the way of two namespaces; empty where nothing does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if lacking := [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]:
        return f"there is no {lacking[0]} (packages iproute2 and util-linux)"
    trial = subprocess.run(["ip", "netns", "add", "accord-trial"], capture_output=True, text=True)
    if trial.returncode:
        return f"no network namespace can be made: {trial.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", "accord-trial"], check=True)
    return ""


# ---------------------------------------------------------------- the machines


def build(nodes: Sequence[Node], steps: int) -> None:
    """Make both machines, the cable, and the files that each has on its own disk."""
    take_down(nodes)
    for node in nodes:
        ip("netns", "add", node.space)
        write_hosts(node, nodes)
    ip("link", "add", nodes[0].cable, "type", "veth", "peer", "name", nodes[1].cable)
    for node in nodes:
        ip("link", "set", node.cable, "netns", node.space)
        ip("-n", node.space, "addr", "add", f"{node.address}/24", "dev", node.cable)
        ip("-n", node.space, "link", "set", node.cable, "up")
        ip("-n", node.space, "link", "set", "lo", "up")
    first, *others = (node.folder for node in nodes)
    write_files(first, steps)
    for other in others:
        shutil.copytree(first, other)


def write_hosts(node: Node, nodes: Sequence[Node]) -> None:
    """Give a machine names for all: `ip netns exec` puts this file in the place of /etc/hosts."""
    place = Path("/etc/netns") / node.space
    place.mkdir(parents=True, exist_ok=True)
    lines = ["127.0.0.1 localhost", *(f"{each.address} {each.name}" for each in nodes)]
    (place / "hosts").write_text("\n".join(lines) + "\n")


def take_down(nodes: Sequence[Node]) -> None:
    for node in nodes:
        subprocess.run(["ip", "netns", "delete", node.space], capture_output=True, check=False)
        shutil.rmtree(Path("/etc/netns") / node.space, ignore_errors=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def write_files(folder: Path, steps: int) -> None:
    """Write the recipe, the rows and a random model of two layers: what docs/many.md takes as
    given.
    """
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

    from accord.models.embedded import embedded_folder

    folder.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = ROWS.read_text(encoding="utf-8").splitlines(keepends=True)[:MOST]
    (folder / "rows.jsonl").write_text("".join(rows), "utf-8")
    recipe = {
        "model": {"name": "model", "device": "cpu", "dtype": "float32"},
        "objective": {"name": "dpo"},
        "data": {"train": "rows.jsonl"},
        "train": {"steps": steps, "batch_size": 8, "learning_rate": 1e-3},
        "checkpoint": {"every": 1},
        "monitor": {"samples": 0},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe, indent=1))  # JSON is YAML
    (folder / "python").write_text(TELLING.format(python=sys.executable))
    (folder / "python").chmod(0o755)


# torchrun does not say with which codes its processes ended when it has lost the other node.
TELLING = """#!/bin/sh
{python} "$@" &
child=$!
trap 'kill -TERM $child' TERM INT
wait $child
code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
echo "rank $RANK ended with exit code $code"
exit $code
"""


# ---------------------------------------------------------------- the commands of the page


def commands() -> dict[str, str]:
    """Return the page's torchrun commands by the run that each makes or goes on with."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("torchrun --")]
    return {
        ("resume" if " resume " in line else re.search(r"runs/(\w+)", line)[1]): line
        for line in lines
    }


def words_of(line: str, processes: int) -> list[str]:
    """Split a command of the page, with so many processes in place of the page's."""
    line = re.sub(r"--nproc-per-node \d+", f"--nproc-per-node {processes}", line)
    torchrun, *words = line.split()
    assert torchrun == "torchrun"
    return [sys.executable, "-m", "torch.distributed.run", *words]


def start(node: Node, words: Sequence[str]) -> subprocess.Popen:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "ACCORD_PATIENCE": str(PATIENCE),
        "PYTHON_EXEC": str(node.folder / "python"),  # what torchrun starts
    }
    print(f"{node.name}: {' '.join(words[1:])}", file=sys.stderr, flush=True)
    with (node.folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            node.command(words), cwd=node.folder, env=environment, stdout=log, stderr=log
        )


def run(nodes: Sequence[Node], words: Sequence[str]) -> list[int]:
    """Run one command on all nodes at once; return the exit codes."""
    running = [start(node, words) for node in nodes]
    return [process.wait(LIMIT) for process in running]


def measure(nodes: Sequence[Node], processes: int, steps: int, keep: Callable) -> dict:
    """Type every command of the page, those of two nodes first, and pull the cable in the middle of
    one.

    Args:
      keep: takes the record as it stands, after each command.
    """
    page, first = commands(), nodes[0]
    record: dict = {"processes_a_node": processes, "steps": steps, "commands": {}, "wrong": []}
    alone: dict[bool, list[float]] = {}
    resumed = page.pop("resume")
    for name, line in sorted(page.items(), key=lambda each: "--nnodes" not in each[1]):
        all_weights = "--all-weights" in line
        if all_weights not in alone:
            alone[all_weights] = losses_of_one(first, ["--all-weights"] if all_weights else [])
        here = nodes if "--nnodes" in line else nodes[:1]
        codes = run(here, words_of(line, processes))
        found, right = losses(first.folder / "runs" / name), alone[all_weights]
        apart = far(found, right)
        record["commands"][name] = {"line": line, "exit_codes": codes, "losses_apart": apart}
        if any(codes) or not apart < CLOSE:
            record["wrong"].append(f"{name}: {codes}, {len(found)} losses, {apart:.2g} apart")
        if here is nodes:
            record["cable"] = cable(nodes, name, line, processes, right, record["wrong"])
        keep(record)
    stopped = re.search(r"runs/(\w+)", resumed)[1]
    lines = (stopped, page[stopped], resumed)
    record["interrupted"] = interrupted(first, lines, processes, alone[False], record["wrong"])
    keep(record)
    return record


def losses_of_one(node: Node, extra: Sequence[str]) -> list[float]:
    """Train with one process; return its losses."""
    words = [sys.executable, "-m", "accord", "train", "recipe.yaml", *extra]
    folder = "-".join(["runs/one", *extra])
    (code,) = run([node], [*words, "--output", folder])
    assert code == 0, (node.folder / "log.txt").read_text()
    return losses(node.folder / folder)


def losses(folder: Path) -> list[float]:
    """Read the losses of the updates of a run; none where it has not begun."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def far(found: Sequence[float], right: Sequence[float]) -> float:
    """Return the largest relative difference of two runs' losses; infinite where one has fewer."""
    if len(found) != len(right):
        return float("inf")
    return max(abs(a - b) / abs(b) for a, b in zip(found, right, strict=True))


def interrupted(
    node: Node,
    lines: tuple[str, str, str],
    processes: int,
    right: Sequence[float],
    wrong: list[str],
) -> dict:
    """Stop a run of the page midway by a signal, and go on with the page's `resume`.

    Args:
      lines: the name of the run, the command that makes it, and the one that goes on with it.
    """
    name, begun, line = lines
    shutil.rmtree(node.folder / "runs" / name)
    process = start(node, words_of(begun, processes))
    wait_for(node.folder / "runs" / name, len(right) // 2)
    process.send_signal(signal.SIGTERM)
    code, said = process.wait(LIMIT), last_words(node)
    stood = len(losses(node.folder / "runs" / name))
    (went_on,) = run([node], words_of(line, max(1, processes // 2)))
    apart = far(losses(node.folder / "runs" / name), right)
    if went_on or not 0 < stood < len(right) or not apart < CLOSE or "resume" not in said:
        wrong.append(f"interrupted: {stood} updates, exit {went_on}, {apart:.2g} apart, {said}")
    return {
        "line": line,
        "stopped_after": stood,
        "exit_code_of_torchrun": code,
        "said": said,
        "losses_apart": apart,
    }


def cable(
    nodes: Sequence[Node],
    name: str,
    line: str,
    processes: int,
    right: Sequence[float],
    wrong: list[str],
) -> dict:
    """Pull the cable in the middle of the run of two nodes; go on with one process of one."""
    folder = nodes[0].folder / "runs" / name
    shutil.rmtree(folder)
    shutil.rmtree(nodes[1].folder / "runs", ignore_errors=True)
    running = [start(node, words_of(line, processes)) for node in nodes]
    wait_for(folder, len(right) // 2)
    ip("-n", nodes[0].space, "link", "set", nodes[0].cable, "down")
    began = time.monotonic()
    ends = [ended_after(node, began, processes) for node in nodes]
    codes = [exit_codes(node) for node in nodes]
    said = [last_words(node) for node in nodes]
    waits = [waits_on(node, process) for node, process in zip(nodes, running, strict=True)]
    stood = len(losses(folder))
    alone = nodes[0].command([sys.executable, "-m", "accord", "resume", f"runs/{name}"])
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    went_on = subprocess.run(
        alone, cwd=nodes[0].folder, env=environment, capture_output=True, timeout=LIMIT
    ).returncode
    apart = far(losses(folder), right)
    sound = went_on == 0 and 0 < stood < len(right) and apart < CLOSE and all(said)
    if not sound or not all({6, 75} & set(found) for found in codes):
        wrong.append(f"cable: {codes}, {stood} updates, exit {went_on}, {apart:.2g}, {said}")
    return {
        "line": line,
        "patience": PATIENCE,
        "stopped_after": stood,
        "seconds_until_the_end": ends,
        "exit_codes": codes,
        "torchrun_waited_on": waits,
        "said": said,
        "one_node_went_on": went_on == 0,
        "losses_apart": apart,
    }


def wait_for(folder: Path, updates: int) -> None:
    until = time.monotonic() + LIMIT
    while len(losses(folder)) < updates:
        assert time.monotonic() < until, f"{folder} makes no update"
        time.sleep(0.02)


def last_words(node: Node) -> str:
    """Return what accord said at the end; empty where it said nothing."""
    lines = (node.folder / "log.txt").read_text(errors="replace").splitlines()
    own = [line for line in lines if re.search(r"lost |stopped by |[Gg]o on with", line)]
    return " ".join(own).replace(str(node.folder), "…")


def ended_after(node: Node, began: float, processes: int) -> float:
    """Wait until all processes of a node have ended; return the seconds since `began`."""
    while len(exit_codes(node)) < processes and time.monotonic() - began < LIMIT:
        time.sleep(0.1)
    return round(time.monotonic() - began, 1)


def exit_codes(node: Node) -> list[int]:
    """Return the exit codes of the processes of a node that have ended. 143: by torchrun's SIGTERM,
    which it sends to all once one has ended.
    """
    text = (node.folder / "log.txt").read_text(errors="replace")
    return sorted(int(code) for code in re.findall(r"ended with exit code (\d+)", text))


def waits_on(node: Node, process: subprocess.Popen) -> bool:
    """Tell whether torchrun itself waits for the other node, although its processes have ended; it
    is ended then.
    """
    try:
        process.wait(TORCHRUN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


if __name__ == "__main__":
    main()
