"""Kill a run at the worst moment, and go on as if nothing had happened.

Shows: SIGKILL gives no chance to save; what was being written is told from what is whole; the
resumed run ends with the very bytes of one that was never killed (on a CPU). Takes: about 5
minutes. Expect: "identical: True". On the command line: accord resume RUN
"""

import subprocess
import sys
import time
from pathlib import Path

from settings import MODEL, STEPS, TRAIN, fresh

import accord

whole, killed = Path(fresh("whole")), Path(fresh("killed"))
settings = {"checkpoint.every": 1, "monitor.samples": 0}
accord.train(model=MODEL, data=TRAIN, steps=STEPS, batch_size=8, output=str(whole), set=settings)

command = [
    sys.executable,
    "-m",
    "accord",
    "train",
    "--model",
    MODEL,
    "--data",
    TRAIN,
    "--steps",
    str(STEPS),
    "--batch-size",
    "8",
]
command += [
    "--output",
    str(killed),
    *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
]
victim = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while victim.poll() is None and not (killed / "checkpoints" / "LATEST").exists():
    time.sleep(0.01)
victim.kill()
victim.wait()

accord.resume(str(killed))  # also right if the run was just done
tensors = "adapter/adapter_model.safetensors"
print(f"identical: {(whole / tensors).read_bytes() == (killed / tensors).read_bytes()}")
