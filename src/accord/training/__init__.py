"""Training: from a config to a run, its one loop, its checkpoints."""
