"""Read what a run wrote about itself, and ask its model something.

Shows: metrics.jsonl, preflight.json and events.jsonl are plain JSON; PEFT loads the adapter;
samples before and after take the same seed, so that what differs between them is the training.
Takes: about 2 minutes if no example was run before, else seconds. Expect: the loss a little lower
than ln 2 = .693.
"""

import json
from pathlib import Path

from peft import PeftModel
from settings import a_run

from accord.models.load import load
from accord.sampling.local import LocalSampler

run = Path(a_run())

# Figures: a line an update under TRL's names; lines of an evaluation begin with eval_.
lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
updates = [line for line in lines if "loss" in line]
print(f"loss {updates[0]['loss']:.4f} → {updates[-1]['loss']:.4f} in {updates[-1]['step']} updates")

# Proofs: what was checked before the first update.
checks = json.loads((run / "preflight.json").read_text())
print(f"{len(checks)} checks, {sum(check['verdict'] == 'ok' for check in checks)} without remark")

# Red flags: none in a healthy run, and then there is no file.
events = run / "events.jsonl"
print(events.read_text() if events.exists() else "no red flag, no note")

# Samples: the base model, then the same with the run's adapter, as anybody's PEFT would load it.
settings = json.loads((run / "adapter/adapter_config.json").read_text())
model = load(settings["base_model_name_or_path"])
question = [{"role": "user", "content": "How do I keep bread fresh?"}]
# as in training
ids = tuple(
    model.tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
)

how = {"max_new_tokens": 32, "temperature": 0.7, "seed": 1}
(before,) = LocalSampler(model.network, model.tokenizer).sample([ids], **how)
trained = PeftModel.from_pretrained(model.network, run / "adapter")
(after,) = LocalSampler(trained, model.tokenizer).sample([ids], **how)
print(f"before: {before.text!r}\nafter: {after.text!r}")
