"""Hand the model on: merged for transformers or vLLM, or the adapter for PEFT.

Shows: both are plain folders that need no accord; merging is read back from disk and says what
rounding cost. Takes: about a minute, once a run is there. Expect: the two ways give all but the
same logits. On the command line: accord export RUN --merge --output DIR
"""

import torch
from peft import PeftModel
from settings import MODEL, a_run, fresh
from transformers import AutoModelForCausalLM, AutoTokenizer

import accord
from accord.models.embedded import embedded_folder

run = a_run()
folder = accord.export(run, fresh("merged"), merge=True, dtype="float32")
print(f"merged into {folder}, and read back from there")

# From here on nothing of accord: transformers alone, and transformers with PEFT.
merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
base = embedded_folder() if MODEL == "smollm2" else MODEL
adapted = PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), f"{run}/adapter"
)

ids = AutoTokenizer.from_pretrained(folder)(
    "How do I keep bread fresh?", return_tensors="pt"
).input_ids
with torch.no_grad():
    difference = (merged(ids).logits - adapted(ids).logits).abs().max()
print(f"largest difference of a logit: {difference:.1e}")
