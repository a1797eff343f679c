"""The set-up of a run: a config becomes a run that is ready to train."""
