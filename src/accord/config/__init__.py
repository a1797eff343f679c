"""The config of a run: a recipe, flags and Python keywords become one checked config."""
