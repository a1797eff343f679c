"""Recipes from the settings of other tools: what was mapped, what has no equivalent, what their
defaults really meant.
"""
