"""Measurements of accord: each script says how it is run; `results/` has what came out."""
