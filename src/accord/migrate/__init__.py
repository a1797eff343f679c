"""Settings of other tools as recipes: what was mapped, what has no equivalent, what their defaults
really meant.
"""
