"""A run's folder on disk: what is written there, shown and sent elsewhere while it trains."""
