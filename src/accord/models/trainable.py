"""The trainable part of a model, and the head that its objective needs."""

from __future__ import annotations

from accord.config.schema import Config, LoraConfig
from accord.models import fingerprint
from accord.models.hub import local_folder
from accord.models.language import LanguageModel
from accord.models.lora import (
    add_lora,
    add_reference_adapter,
    forget_reference_adapter,
    load_adapter,
    train_all_weights,
)
from accord.models.reward import with_score_head
from accord.objectives import BoundObjective
from accord.types import UsageError


def with_objective_head(
    model: LanguageModel, objective: BoundObjective, config: Config
) -> LanguageModel:
    """Return the model that the objective needs: unchanged, or with a fresh scalar head in place of
    its vocabulary.

    Raises:
      UsageError: a setting that does nothing for a reward model; or this architecture cannot be
        one.
    """
    if objective.needs == "logps":
        return model
    if config.model.adapter is not None:
        raise UsageError(
            f"model.adapter: {objective.name} puts a new head on a whole model. Merge the adapter"
            " into its base first."
        )
    if config.monitor.prompts is not None:
        raise UsageError(
            f"monitor.prompts would do nothing: what {objective.name} trains gives scores, no"
            " answers. Leave it out."
        )
    return with_score_head(model, config.train.seed)


def make_trainable(config: Config, model: LanguageModel) -> str:
    """Choose what trains; return the fingerprint of the weights before anything was added to
    them.
    """
    weights = fingerprint.weights(model.network)
    spec = config.model
    if spec.adapter is not None:
        if spec.lora is None:
            raise UsageError(
                "model.adapter is given and model.lora is null: train the adapter, or merge it"
                " first."
            )
        if spec.lora != LoraConfig():
            raise UsageError(
                "model.adapter brings its own rank, alpha and targets; leave model.lora out."
            )
        load_adapter(model, spec.adapter)
        if config.reference == "base":
            forget_reference_adapter(model)
        return weights + ":" + fingerprint.adapter(local_folder(spec.adapter))
    if spec.lora is None:
        train_all_weights(model)
    else:
        add_lora(model, **spec.lora.model_dump(), seed=config.train.seed)
        if config.reference == "moving":
            add_reference_adapter(model)
    return weights
