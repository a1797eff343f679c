"""The model that a server was started with."""

from __future__ import annotations

from accord.sampling.server_client import START, ServerClient
from accord.sampling.server_protocol import Served
from accord.types import UsageError


def find_base(client: ServerClient, name: str | None) -> Served:
    """Find the served model that a policy starts from: the one that is named, or the only one.

    Raises:
      UsageError: nobody answers at the address, another model is behind it, or there are several.
    """
    bases = {
        served.name: served for served in client.models(first=True).values() if not served.parent
    }
    listed = ", ".join(sorted(bases)) or "none"
    if name is not None and name not in bases:
        raise UsageError(
            f"rollouts.sampler.model = {name}: the server at {client.name} serves {listed}. Another"
            f" model may be behind this address. {START}"
        )
    if name is None and len(bases) != 1:
        raise UsageError(
            f"The server at {client.name} serves {listed}: name the policy's own with --set"
            " rollouts.sampler.model=NAME."
        )
    return bases[name] if name is not None else next(iter(bases.values()))
