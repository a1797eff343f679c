"""From a recipe, flags and Python keywords to one checked config."""
