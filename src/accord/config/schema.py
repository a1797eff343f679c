"""One schema for recipes, flags and Python.

Configs are frozen and typed. An unknown key is an error that names the right one.

Each field's meaning stands beside it. The objective's own options are not listed here: the keyword
arguments of the objective's function are their schema (see `accord.objectives`).
tests/test_config.py checks that every field below is read somewhere, so that no option does
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from accord.config.data_section import DataConfig
from accord.config.explain import explain, nearest_words
from accord.config.objective_list import one_name
from accord.config.optimizers import OptimizerName, fill_options, missing_rate, unread_option
from accord.config.quantize_section import QuantizeConfig
from accord.config.rollouts_section import RolloutsConfig
from accord.config.section import NotNegative, Positive, Section, finite
from accord.config.shipped import hint
from accord.config.yaml_text import NOT_YAML, TwiceError, read_yaml
from accord.environment.nearest import did_you_mean
from accord.errors import UsageError

DEFAULT_OBJECTIVE = "dpo"
PARTS = "split"  # folder in a run's folder: the two parts that data.hold_out makes

PERMISSIONS = {
    "hub": "take org/name, where no such folder is here, for a hub name (goes to the network)",
    "raw_text": "train a chat model on raw text, without its chat template",
    "tiny_beta": "a beta under 0.005",
    "unusual_settings": "a setting that leaves nothing to learn: rate, clip, decay, alpha, beta",
    "weak_reward": "a reward model whose own held-out accuracy is not above one half",
    "shared_prompts": "train and held-out share prompts",
    "template_changes_text": "a chat template or tokenizer that changes the text of rows",
    "foreign_marks": "train on rows that hold another model's marks or repeat their prompt",
    "untrained_model": "a model, or layers of it, that no training has touched",
    "beyond_positions": "rows longer than the positions that the model was made for",
}


class LoraConfig(Section):
    rank: Positive = 16
    """Rank of the update of each weight."""
    alpha: Annotated[float, Field(strict=True, gt=0)] = 32.0
    """The update is scaled by alpha / rank."""
    targets: str | list[str] = "attention"
    """Modules that get adapters: attention (query, key, value, output projections), all-linear, or
    a list of names."""
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    """Dropout in front of the adapters while training; the reference and every evaluation run
    without it."""
    dora: bool = False
    """Weight-decomposed adapters (Liu et al. 2024, arXiv:2402.09353)."""


class ModelConfig(Section):
    name: str = "smollm2"
    """smollm2 (the embedded model), a folder in save_pretrained layout, or hub:org/name@revision. A
    run records the commit."""
    adapter: str | None = None
    """A LoRA adapter to continue from. Its frozen copy becomes the reference, not the base."""
    lora: LoraConfig | None = LoraConfig()
    """Adapters, or their rank alone; null (or false) trains all weights."""
    quantize: QuantizeConfig | None = None
    """Frozen weights under adapters in fewer bits (QLoRA): nf4, int8, or their settings; null
    leaves them as they are. Embeddings, norms and head stay."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of the network's computation. auto: bfloat16 where the machine has it. Weights that
    train have float32 masters."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """cpu, cuda, cuda:1, …; auto takes the first GPU if there is one."""
    forward: str = "auto"
    """Path that computes log-probs. auto takes the tree path where it equals the model's own
    numbers, by flex attention on a GPU; a path's name (flex, tree, padded) insists on it."""

    @field_validator("lora", mode="before")
    @classmethod
    def _switch(cls, value):
        if isinstance(value, bool):
            return LoraConfig() if value else None
        return {"rank": value} if isinstance(value, int) else value

    @field_validator("quantize", mode="before")
    @classmethod
    def _kind(cls, value):
        if value is False:
            return None
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _quantised_under_adapters(self):
        if self.quantize is not None and self.lora is None:
            raise ValueError(
                f"model.quantize = {self.quantize.kind}: quantised weights do not train, and"
                " model.lora = null trains all weights. Train adapters on them (leave out"
                " --all-weights or model.lora), or train the weights as they are: --set"
                " model.quantize=null"
            )
        return self


class MovingConfig(Section):
    every: Positive = 512
    """Updates between two synchronisations of a moving reference with the policy."""
    mix: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.6
    """α: the reference becomes α·policy + (1 − α)·reference. 1 copies the policy."""


class TrainConfig(Section):
    batch_size: Positive = 16
    """Rows per update: pairs, labels or demonstrations. Batches of an epoch differ by at most one
    row."""
    pair_labels: bool = False
    """Keep the two labels of a pair in one batch, for labels made from pairs: batches of 2 n labels
    are those of n pairs, in the same order. `accord compare` sets this, so that kto sees what the
    methods of pairs see."""
    steps: Positive | None = None
    """Updates to make. Give steps or epochs, not both; neither is one epoch."""
    epochs: Annotated[float, Field(strict=True, gt=0, le=1e6)] | None = None
    """Passes over the rows, instead of steps."""
    optimizer: OptimizerName = "adamw"
    """Optimizer of the float32 masters. adamw_8bit keeps AdamW's two moments in 8 bits each, paged
    ones leave a full GPU for main memory, adafactor keeps sums over rows and columns, sgd one
    momentum. See docs/memory.md."""
    learning_rate: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    """Peak learning rate. None takes the objective's own, scaled to the model's width; a tenth of
    it for all weights. sgd has none of its own."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after the warm-up: it falls to zero, or not at all."""
    warmup: Annotated[float, Field(strict=True, ge=0)] = 0.1
    """Share of the steps (under 1), or number of steps (from 1), over which the learning rate rises
    from zero."""
    weight_decay: Annotated[float, Field(strict=True, ge=0)] = 0.0
    """Decay of matrices, apart from the gradient (AdamW's); with sgd it is part of the gradient."""
    betas: (
        tuple[
            Annotated[float, Field(strict=True, ge=0, lt=1)],
            Annotated[float, Field(strict=True, ge=0, lt=1)],
        ]
        | None
    ) = None
    """Decay rates of AdamW's two moments, in all four of its forms: 0.9 and 0.999 where none are
    given. No other optimizer takes them."""
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = None
    """Momentum of sgd: 0.9 where none is given. No other optimizer takes it."""
    max_grad_norm: Annotated[float, Field(strict=True, gt=0)] | None = 1.0
    """Largest gradient norm; null never clips."""
    seed: NotNegative = 0
    """Order of the rows, initial adapters and dropout are functions of it."""
    micro_tokens: Annotated[int, Field(strict=True, ge=64)] = 2048
    """Unique tokens in one forward and backward pass: memory against speed. The gradient does not
    depend on it."""
    recompute: Literal["auto", "always", "never"] = "auto"
    """Gradient checkpointing: compute activations again for the backward pass instead of keeping
    them. auto: only where a row would not fit."""

    parallel: Literal["auto", "replicated", "sharded"] = "auto"
    """Weights of several processes: each holds them whole (replicated) or a part (sharded: FSDP2;
    of adapters only their base is cut). auto: a part where all weights train and the optimizer can
    update one."""

    @model_validator(mode="before")
    @classmethod
    def _optimizer_by_default(cls, raw):
        """Write the defaults down with the run, so that a checkpoint can be compared with them."""
        return fill_options(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _optimizer_reads_its_options(self):
        wrong = unread_option(self.optimizer, vars(self)) or missing_rate(
            self.optimizer, self.learning_rate
        )
        if wrong is not None:
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _one_length(self):
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"--steps {self.steps} and --epochs {self.epochs:g} both say how long to train;"
                " give one"
            )
        return self


class EvaluateConfig(Section):
    every: NotNegative = 50
    """Steps between evaluations on the held-out rows; before the first and after the last step
    always. 0: only those."""
    rows: Positive | None = None
    """Evaluate on this many held-out rows (drawn by the seed); null takes all."""


class CheckpointConfig(Section):
    every: NotNegative = 50
    """Steps between checkpoints; after the last step always. 0: only then."""
    keep: Positive = 2
    """Number of checkpoints to keep, beside the best one by held-out loss."""


class MonitorConfig(Section):
    on_flag: Literal["warn", "stop", "adapt"] = "warn"
    """Action on a red flag. warn: it is reported. stop: the run is saved and ends (exit 5). adapt:
    the flag's own remedy where it has one: end with the best held-out checkpoint, or halve the
    learning rate, once for each flag that asks for it; reported and recorded."""
    samples: NotNegative = 8
    """Prompts that the model answers before and after training: the first held-out ones. 0:
    none."""
    sample_every: NotNegative = 0
    """Steps between further samples at the same prompts. 0: only before the first and after the
    last."""
    sample_tokens: Positive = 48
    """Longest sampled answer."""
    prompts: str | None = None
    """Text file with the prompts to sample, one per line, in place of held-out ones."""
    audit_rows: NotNegative = 2000
    """Training rows whose texts the audit's classifiers read once a new run is prepared: one to
    three seconds. Its other checks see every row. 0: no classifiers, and no audit in the
    report."""
    trackers: tuple[Literal["trackio", "wandb", "tensorboard", "mlflow"], ...] = ()
    """Trackers that get the figures beside the run's folder; each needs its own package. A tracker
    that fails is dropped with a warning."""


class Config(Section):
    model: ModelConfig = ModelConfig()
    data: DataConfig
    objective: dict[str, Any] = {"name": DEFAULT_OBJECTIVE}
    """name (dpo where none is given), and the objective's own keyword arguments; or several
    objectives of one kind of rows, each with its weight: a list, or a name such as dpo+0.1*sft."""
    reference: Literal["auto", "none", "frozen", "adapter_off", "cached", "moving", "base"] = "auto"
    """Model that the policy is measured against. auto: adapters off when each row comes once,
    cached log-probs otherwise. base: the model without any adapter, even where training continues
    one, whose frozen copy is the reference of all the others."""
    moving: MovingConfig | None = None
    """Settings of a moving reference; null for the others."""
    rollouts: RolloutsConfig | None = None
    """Rollouts: with this section, answers come from the policy as it learns, and data.train and
    data.held_out are files of prompts."""
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    monitor: MonitorConfig = MonitorConfig()
    output: str | None = None
    """The run's folder; it must not exist. None makes a new one under runs/."""
    allow: tuple[str, ...] = ()
    """Permissions for what is refused otherwise; each is recorded with the run."""

    @property
    def rollout_settings(self) -> RolloutsConfig:
        """Return the section `rollouts` where a run is known to have one."""
        assert self.rollouts is not None, "only a run that draws its own answers asks for these"
        return self.rollouts

    @property
    def train_file(self) -> str:
        """Return the file that is trained on: data.train, or what data.hold_out has left of it."""
        return self.data.train if self.data.hold_out is None else self._part("train")

    @property
    def held_out_file(self) -> str | None:
        """Return the file that is evaluated on, if there is one."""
        return self.data.held_out if self.data.hold_out is None else self._part("held_out")

    def _part(self, name: str) -> str:
        return str(self.run_folder / PARTS / f"{name}.jsonl")

    @property
    def run_folder(self) -> Path:
        """Return `output` where a folder is known to be named."""
        assert self.output is not None, "a run of a larger plan has a folder of its own"
        return Path(self.output)

    @model_validator(mode="before")
    @classmethod
    def _moving_by_default(cls, raw):
        """Write the defaults down with the run, so that a checkpoint can be compared with them."""
        moves = (
            isinstance(raw, dict) and raw.get("reference") == "moving" and raw.get("moving") is None
        )
        return raw | {"moving": {}} if moves else raw

    @model_validator(mode="after")
    def _prompts_of_one_file(self):
        for key, files in (
            ("train", self.data.train_files),
            ("held_out", self.data.held_out_files),
        ):
            if files and self.rollouts is not None:
                raise ValueError(
                    f"data.{key}: a list of files is for rows, and with rollouts it is a file of"
                    f" prompts. Write the prompts into one file: cat"
                    f" {' '.join(each.path for each in files)} > prompts.jsonl"
                )
        return self

    @model_validator(mode="after")
    def _quantised_weights_are_whole(self):
        if self.model.quantize is not None and self.train.parallel == "sharded":
            raise ValueError(
                "train.parallel = sharded cuts weights into parts, and quantised ones stay whole in"
                " each process: --set train.parallel=replicated, or --set model.quantize=null"
            )
        return self

    @model_validator(mode="after")
    def _moving_where_it_moves(self):
        if self.moving is not None and self.reference != "moving":
            raise ValueError(
                "moving says how a moving reference follows the policy, and reference is"
                f" {self.reference}: it would do nothing. Leave it out, or --set reference=moving"
            )
        return self

    @field_validator("allow")
    @classmethod
    def _known(cls, value):
        for name in value:
            if name not in PERMISSIONS:
                raise ValueError(
                    f"{name!r} is no permission{nearest_words(name, PERMISSIONS, '.')} Known:"
                    f" {', '.join(PERMISSIONS)}"
                )
        return value

    @field_validator("objective", mode="before")
    @classmethod
    def _named(cls, value):
        value = {"name": value} if isinstance(value, str) else value
        value = one_name(value) if isinstance(value, list) else value
        value = {"name": DEFAULT_OBJECTIVE} | value if isinstance(value, dict) else value
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError("expected a name and its options, such as {name: dpo, beta: 0.1}")
        return finite(value)


# ---------------------------------------------------------------- making one


RECIPE_BYTES = 200_000


def _first_lines(error: Exception) -> str:
    return "it is nested too deeply." if isinstance(error, RecursionError) else str(error)[:1_000]


def load_recipe(path: str) -> dict:
    """Read the mapping in a YAML recipe, not yet validated."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"{path}: no such recipe. {hint(path)}{did_you_mean(path)}")
    if file.stat().st_size > RECIPE_BYTES:
        raise UsageError(
            f"{path}: over {RECIPE_BYTES:,} bytes, too large for a recipe. If it holds data: --data"
            f" {path}."
        )
    try:
        raw = read_yaml(file.read_text(encoding="utf-8"))
    except TwiceError as error:
        raise UsageError(f"{path}: {error}") from error
    except NOT_YAML as error:
        if file.suffix in (".yaml", ".yml", ""):
            raise UsageError(f"{path}: not valid YAML.\n{_first_lines(error)}") from error
        raise UsageError(
            f"{path}: no recipe, which is a YAML file that names its data, such as\n"
            f"data: {{train: {path}, held_out: test.jsonl}}\n"
            f"A file of preferences itself is given with --data {path}"
        ) from error
    if not isinstance(raw, dict):
        raise UsageError(
            f"{path}: expected a mapping with model, data, objective, …; found"
            f" {type(raw).__name__}."
        )
    return raw


def parse_assignment(assignment: str, flag: str = "--set") -> tuple[list[str], Any]:
    """Parse `section.key=value` into path and value; the value is read as YAML."""
    key, sign, text = assignment.partition("=")
    if not sign or not key.strip():
        raise UsageError(
            f"{flag} {assignment}: expected KEY=VALUE without a blank, such as {flag}"
            f" {key.strip() or 'objective.beta'}=0.2"
        )
    if not text.strip():
        raise UsageError(
            f"{flag} {assignment}: no value stands behind the =. For none of it:"
            f" {flag} {key.strip()}=null"
        )
    try:
        return key.strip().split("."), read_yaml(text)
    except TwiceError as error:
        raise UsageError(f"{flag} {assignment}: {error}") from error
    except NOT_YAML as error:
        raise UsageError(
            f"{flag} {assignment}: the value is not valid YAML. A list stands in brackets, and in"
            f" quotes for the shell: {flag} '{key.strip()}=[a,b]'"
        ) from error


def make_config(raw: dict, typed: Mapping[str, str] | None = None) -> Config:
    """Validate a mapping.

    Args:
      typed: path of a field -> the option that it was given by, by which a problem names it.

    Raises:
      UsageError: every problem, one per line, with the nearest right key for an unknown one.
    """
    try:
        return Config.model_validate(_numbers(raw))
    except ValidationError as error:
        said = "\n".join(explain(problem, Config, typed) for problem in error.errors())
        raise UsageError(said) from error


def dump(config: Config) -> str:
    """Write the resolved config as YAML: the first file of a run."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _number(value):
    """Read a number that YAML 1.1 takes for text, such as 1e-4."""
    if isinstance(value, str):
        try:
            return (
                float(value)
                if "e" in value.lower() and value.strip()[:1] in "+-.0123456789"
                else value
            )
        except ValueError:
            return value
    return value


def _numbers(node):
    if isinstance(node, dict):
        return {key: _numbers(value) for key, value in node.items()}
    return [_numbers(value) for value in node] if isinstance(node, list) else _number(node)
