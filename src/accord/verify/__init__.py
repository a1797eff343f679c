"""What is proved before a run, and what must hold while it trains."""
