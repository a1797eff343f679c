"""Several processes that train one run: who they are, and how they agree."""
