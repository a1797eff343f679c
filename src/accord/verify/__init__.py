"""Proofs made before a run, and checks of what must hold while it trains."""
