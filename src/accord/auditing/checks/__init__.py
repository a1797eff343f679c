"""The checks: each file looks at one kind of fault and returns findings."""
