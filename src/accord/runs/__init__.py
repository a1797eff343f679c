"""A run's folder on disk, and what is written there, shown and sent elsewhere while it trains."""
