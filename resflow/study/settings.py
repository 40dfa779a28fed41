"""Every setting of a trial, by section. Each name is unique across sections, so that a factor or `--set`
can name it alone. Pydantic checks types and ranges; the descriptions feed the editors' JSON Schema."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from resflow.architectures import Architecture, Family, Shortcut, Stem, Variant, resolve_stem

Fraction = Annotated[float, Field(ge=0, le=1)]
ImageSize = Annotated[int, Field(ge=16, le=512)]
Precision = Literal["float32", "tensorfloat32", "mixed_float16", "mixed_bfloat16"]
Lowering = Literal["table", "native"]
Inputs = Literal["auto", "host", "device"]


class Mark(Enum):
    """A setting's mark: the part of it that the compiled graph of a trial knows. Without a mark it knows the value."""

    NUMBER = "nothing: its value is in a variable, or is used outside the graph"
    SWITCH = "whether it is on"
    BACKBONE = "nothing where features are at hand, so that the network is the head alone"


NUMBER, SWITCH, BACKBONE = Mark


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)


class Head(Section):
    """The layers on the backbone: pooling, then dense layers, each after a dropout; the last gives the classes."""

    pooling: Literal["gap", "flatten"] = Field("gap", description="global average pooling, or every pixel as it is")
    hidden: tuple[PositiveInt, ...] = Field((), strict=False, description="widths of dense layers before the last")
    activation: Literal["relu", "elu", "gelu", "tanh"] = Field("relu", description="after each hidden layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="before each dense layer, in training")


class Network(Section):
    """The network, as in He et al. 2015 (arXiv 1512.03385)."""

    family: Annotated[Family, BACKBONE] = Field("imagenet", description="stage table: Table 1 or section 4.2")
    depth: Annotated[PositiveInt, BACKBONE] = Field(18, le=2000, description="imagenet 18/34/50/101/152; cifar 6n+2")
    shortcut: Annotated[Shortcut, BACKBONE] = Field(
        "projection", description="none is the plain twin; options A, B, C of section 4.1"
    )
    variant: Annotated[Variant, BACKBONE] = Field(
        "v1.5", description="stride in a bottleneck's first 1x1, or its 3x3; v2 is pre-activation (arXiv 1603.05027)"
    )
    width: Annotated[float, BACKBONE] = Field(1.0, gt=0, le=8, description="multiplier of every channel count")
    stem: Annotated[Literal["auto", Stem], BACKBONE] = Field(
        "auto", description="auto: low_resolution (3x3, no pooling) below 64 pixels and in the cifar family"
    )
    zero_gamma: Annotated[bool, BACKBONE] = Field(
        False, description="each block's last gamma starts at zero (arXiv 1706.02677); residual v1 and v1.5 only"
    )
    weights: Annotated[str, NUMBER] = Field(
        "none",
        min_length=1,
        description="pretrained backbone: none, imagenet, a file (.safetensors, .npz, .weights.h5), or run:RUN/TRIAL",
    )
    partial_weights: Annotated[bool, NUMBER] = Field(
        False, description="load what fits of a file and leave the rest random: no error"
    )
    head: Head = Field(Head(), description="the layers on the backbone")

    def architecture(self, image_size: int) -> Architecture:
        """Return the network with its stem resolved. Raises StudyError where its settings do not go together."""
        stem = resolve_stem(self.stem, self.family, image_size)
        return Architecture(self.family, self.depth, self.shortcut, self.variant, self.width, stem, self.zero_gamma)


class Augmentation(Section):
    """Random views of training images, drawn anew each epoch. Nothing is drawn where all is zero."""

    flip: Annotated[bool, NUMBER] = Field(False, description="mirror left to right with probability one half")
    rotation: Annotated[float, NUMBER] = Field(0.0, ge=0, le=180, description="uniform within ± degrees")
    shear: Annotated[float, NUMBER] = Field(0.0, ge=0, lt=1, description="uniform within ±, tangent of the shear angle")
    zoom: Annotated[float, NUMBER] = Field(0.0, ge=0, lt=1, description="scale uniform within 1 ±")
    crop_padding: Annotated[int, NUMBER] = Field(
        0, ge=0, le=64, description="pad by so many pixels, then crop the old size at random"
    )


class Recipe(Section):
    """The training of a network."""

    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="sgd has Nesterov-free momentum")
    learning_rate: Annotated[float, NUMBER] = Field(0.1, gt=0, description="peak rate, after warm-up")
    momentum: Annotated[float, NUMBER] = Field(0.9, ge=0, lt=1, description="of sgd; Adam's are 0.9 and 0.999")
    weight_decay: Annotated[float, SWITCH] = Field(
        1e-4, ge=0, description="of kernels only; an L2 gradient in sgd and adam, decoupled in adamw"
    )
    schedule: Annotated[Literal["constant", "cosine", "step", "plateau"], NUMBER] = Field(
        "cosine", description="of the rate, after warm-up"
    )
    warmup_epochs: Annotated[int, NUMBER] = Field(0, ge=0, description="linear from 0 to the peak rate")
    milestones: Annotated[tuple[Fraction, ...], NUMBER] = Field(
        (0.5, 0.75), strict=False, description="step: fractions of the epochs after which the rate drops"
    )
    decay_factor: Annotated[float, NUMBER] = Field(
        0.1, gt=0, lt=1, description="step and plateau: what the rate is multiplied by"
    )
    plateau_patience: Annotated[PositiveInt, NUMBER] = Field(
        5, description="plateau: epochs without a lower validation loss before a drop"
    )
    epochs: Annotated[PositiveInt, NUMBER] = Field(90, description="passes over the training images")
    batch_size: Annotated[PositiveInt, NUMBER] = Field(32, description="training images a step")
    label_smoothing: Annotated[float, NUMBER] = Field(
        0.0, ge=0, lt=1, description="share of a label that is spread over all classes"
    )
    early_stopping: Annotated[PositiveInt | None, NUMBER] = Field(
        None, description="epochs without a lower validation loss before the end"
    )
    test_weights: Annotated[Literal["last", "best"], NUMBER] = Field(
        "last",
        description="weights that are tested: the last epoch's, or those of the lowest validation loss",
    )
    evaluate_every: Annotated[PositiveInt, NUMBER] = Field(
        1, description="epochs from one evaluation to the next; the last epoch has one in any case"
    )
    augmentation: Augmentation = Field(Augmentation(), description="random views of training images")
    validation_views: Annotated[Literal["clean", "augmented"], NUMBER] = Field(
        "clean", description="validation images as they are, or each epoch under new draws of the augmentation"
    )
    finetune: Annotated[Literal["scratch", "frozen", "partial", "full"], BACKBONE] = Field(
        "full", description="what trains beside the head: all of it without the weights, nothing, the last stages, all"
    )
    unfrozen_stages: Annotated[int, BACKBONE] = Field(
        1, ge=1, le=4, description="partial: how many of the last stages train"
    )
    bn: Annotated[Literal["inference", "train"], BACKBONE] = Field(
        "inference", description="batch norm of frozen parts: its moving statistics as they are, or the batch's"
    )
    backbone_learning_rate: Annotated[float | None, SWITCH, BACKBONE] = Field(
        None, gt=0, description="peak rate of the backbone where it is another than the head's"
    )
    head_epochs: Annotated[int, NUMBER] = Field(
        0, ge=0, description="first epochs in which the head trains alone, before what finetune unfreezes joins"
    )

    @model_validator(mode="after")
    def _some_epochs_are_left(self) -> Recipe:
        for name in ("warmup_epochs", "head_epochs"):
            if getattr(self, name) >= self.epochs:
                raise ValueError(f"{name} {getattr(self, name)} must be fewer than epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _what_it_needs_is_evaluated(self) -> Recipe:
        needs = [f"early_stopping {self.early_stopping}"] if self.early_stopping else []
        needs += ["test_weights best"] if self.test_weights == "best" else []
        needs += ["schedule plateau"] if self.schedule == "plateau" else []
        if self.evaluate_every > 1 and needs:
            what = " and ".join(needs)
            raise ValueError(f"{what} need the validation loss of every epoch: leave evaluate_every at 1")
        return self


Split = Literal["generated", "official", "article", "stratified", "predefined", "partly-drawn"]
TrainedOn = Literal["train", "train+validation"]


class Data(Section):
    """The images, their size and their split."""

    source: Annotated[str, NUMBER] = Field("synthetic", min_length=1, description="as `resflow data list` names it")
    split: Annotated[Literal["auto", Split], NUMBER] = Field("auto", description="auto: the source's own default")
    train: Annotated[TrainedOn, NUMBER] = Field(
        "train",
        description="images to train on; train+validation is for final models, where nothing may be selected: no early "
        "stopping, no best epoch, no plateau, no tuning",
    )
    image_size: Annotated[ImageSize, BACKBONE] = Field(
        64, description="pixels of a side, after resizing and centre crop"
    )
    normalisation: Annotated[Literal["auto", "dataset", "weights", "raw"], NUMBER] = Field(
        "auto",
        description="by the training images' statistics, as the weights were trained, or 0..255 as it is; "
        "auto: weights where they are loaded, else dataset",
    )


class Execution(Section):
    """The computation of trials: equal for all arms, decided before the first starts, part of each trial's id."""

    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: gpu where the machine has one")
    threads: PositiveInt = Field(1, description="CPU threads a trial; many trials of one thread beat one of many")
    precision: Precision = Field(
        "float32",
        description="tensorfloat32: float32 whose products round to 10 bits, on GPUs; mixed: maps of 16 bits",
    )
    jit: Literal["auto"] | bool = Field(
        "auto", description="compile with XLA; auto: on GPUs, where every arm has steps enough to repay it"
    )
    lowering: Lowering = Field("table", description="convolutions on CPUs by the measured table")
    features: bool = Field(True, description="frozen backbones' outputs are computed once and shared by trials")
    inputs: Inputs = Field(
        "auto",
        description="device: all lie in its memory, an epoch is one call; auto: on GPUs that have room, else host",
    )

    @property
    def policy(self) -> Precision:
        """The precision as Keras calls it: products in tensorfloat32 are a matter of TensorFlow's alone."""
        return "float32" if self.precision == "tensorfloat32" else self.precision


class Resources(Section):
    """The share of a machine that each trial gets; nothing in it changes a result, nor a trial's id."""

    cpus: float | None = Field(None, gt=0, description="CPUs a trial, no fewer than its threads [default: threads]")
    gpus: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] | None = Field(
        None,
        description="share of a GPU a trial, on device gpu; TensorFlow's memory is capped to it [default: 1]. auto: as "
        "many trials a GPU as are fastest, by a measurement at the run's beginning",
    )
    memory: float | None = Field(None, gt=0, description="gigabytes of main memory a trial [default: no bound]")


SECTIONS: dict[str, type[Section]] = {"network": Network, "recipe": Recipe, "data": Data}


def section_of(setting: str) -> str | None:
    """Return the section that holds a setting, None for an unknown one."""
    return next((name for name, model in SECTIONS.items() if setting in model.model_fields), None)


def setting_names() -> list[str]:
    """Return the names of all settings that may be factors."""
    return [field for model in SECTIONS.values() for field in model.model_fields]
