"""The section `model.quantize` of a config: how the frozen weights under adapters are stored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from accord.config.section import Section


class QuantizeConfig(Section):
    kind: Literal["nf4", "int8"]
    """nf4: 4 bits a weight and a scale for every 64 of them (QLoRA, arXiv:2305.14314; needs
    bitsandbytes). int8: 8 bits a weight and a scale for every output."""
    double: bool | None = None
    """Store the scales of nf4 in 8 bits too: 4.13 bits a weight instead of 4.5. null: yes; int8 has
    no such scales."""
    keep: tuple[str, ...] = ()
    """Linear modules of the trunk that stay as they are, by their names or the ends of their
    paths."""

    @model_validator(mode="before")
    @classmethod
    def _double_by_default(cls, raw: Any) -> Any:
        """Write down what null means, so that a checkpoint can be compared with it."""
        if not isinstance(raw, dict) or raw.get("double") is not None:
            return raw
        return raw | {"double": True if raw.get("kind") == "nf4" else None}

    @model_validator(mode="after")
    def _double_where_it_does_something(self) -> QuantizeConfig:
        if self.kind == "int8" and self.double is not None:
            raise ValueError(
                "double is about the scales of nf4, and int8 has one for each output alone: it"
                " would do nothing. Leave it out"
            )
        return self
