"""Models and data sets on a hub: their names, what lies there, and fetching it."""
