"""Signatures: what one side's answers have and the other's have not, whatever they say."""
