"""The plan: what will be done to which tensor, resolved before any compute; JSON-able through and through."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from toolchain.amounts import QuantSpec
from toolchain.augmentation import Augmentation, parse_augment
from toolchain.errors import RecipeError
from toolchain.structures import UNSTRUCTURED, Structure

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
Allocate = Literal["auto", "parameters", "bytes", "flops", "ms"]
TargetName = Literal["cpu", "cuda", "tensorrt", "portable"]
Objective = Literal["latency", "size"]
EncodingName = Literal["auto", "dense", "sparse", "packed"]

DEFAULT_EPOCHS = 30  # of training without --epochs and --budget
DEFAULT_MAX_DROP = 0.5  # percentage points that --quant auto may lose without --max-drop
DEFAULT_SECONDS = 600.0  # or this, whichever ends first

_T = TypeVar("_T", int, float, int | None, float | None)


def _between(default: _T, low: float, high: float = math.inf) -> _T:
    """Return a dataclass field whose value lies in ``low..high``; the recipe reader checks it."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class PruneGroup:
    """Tensors that share one count of kept weights; which of them keeps how many is for the constraint to choose.

    Attributes:
        names: initializer names; every one keeps at least one weight, so ``len(names) <= kept``.
        kept: how many weights stay, over all ``names`` together, exactly.
        size: how many weights ``names`` have together.
        structure: which weights are pruned together.
    """

    names: tuple[str, ...]
    kept: int
    size: int
    structure: Structure = UNSTRUCTURED


@dataclass(frozen=True)
class PruneStep:
    """Prune to exact counts.

    Attributes:
        groups: disjoint; tensors with a target of their own are groups of one.
        total: prunable weights of the whole model, those in no group (excluded, dense) included.
        skipped: tensors that stay dense because the structure asked for cannot be theirs, and why.
    """

    groups: tuple[PruneGroup, ...]
    total: int
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor that is pruned."""
        return tuple(name for group in self.groups for name in group.names)

    @property
    def kept(self) -> int:
        """Prunable weights that stay in the whole model, those in no group included."""
        return self.total - sum(group.size - group.kept for group in self.groups)


@dataclass(frozen=True)
class QuantizeStep:
    """Quantize every target's weights to a grid of its family.

    Attributes:
        targets: initializer name and grid family, in graph order.
        max_drop: percentage points that the model may lose where bits are to be found by measuring, else 0.
    """

    targets: tuple[tuple[str, QuantSpec], ...]
    max_drop: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor that is quantized."""
        return tuple(name for name, _ in self.targets)

    def grids(self, bits: Mapping[str, int]) -> dict[str, QuantSpec]:
        """Return the grid family by tensor name, where ``bits`` holds those that were found by measuring."""
        return {name: QuantSpec("uniform", bits[name]) if name in bits else spec for name, spec in self.targets}


Step = PruneStep | QuantizeStep


@dataclass(frozen=True)
class TrainOptions:
    """How long and on what to train.

    Attributes:
        epochs: passes over the training data in all; 0 only calibrates and projects; None leaves it to ``budget_s``
            or, without one, to ``DEFAULT_EPOCHS`` or ``DEFAULT_SECONDS``, whichever ends first.
        budget_s: seconds that the schedule is fitted into; None for no limit. Never given together with ``epochs``.
        batch_size: samples per step.
        learning_rate: of Adam, at the peak of its schedule; None finds one by a short test on the model and the data.
        precision: in which training multiplies; ``"bfloat16"`` is faster on CPUs and GPUs that have it, and coarser.
        augment: how training images are varied; None lets the model and the data decide.
        renormalize: whether the convolutions of a deep model are lent a BatchNormalization (``unfolding``).
        seed: of every random choice.
        device: ``"auto"`` takes CUDA where there is one.
    """

    epochs: int | None = None
    budget_s: float | None = None
    batch_size: int = _between(64, low=1)
    learning_rate: float | None = _between(None, low=1e-9, high=1e3)
    precision: Precision = "float32"
    augment: Augmentation | None = field(default=None, metadata={"parse": parse_augment})
    renormalize: Literal["auto", "never"] = "auto"
    seed: int = 0
    device: Device = "auto"

    @property
    def pace(self) -> float:
        """How long every step beside training may take, as a part of what it may where there is no budget.

        Those times go with training of ``DEFAULT_SECONDS``; a shorter budget leaves them as much less.
        """
        return 1.0 if self.budget_s is None else min(1.0, self.budget_s / DEFAULT_SECONDS)


@dataclass(frozen=True)
class PruneSchedule:
    """The ADMM run that prunes.

    What is None is as the schedule of that name has it.

    Attributes:
        schedule: ``"frequent"`` updates every few steps while the set tightens; ``"sharp"`` is that with the
            sharpness-aware gradient; ``"one-shot"``, ``"progressive"`` and ``"reweighted"`` are those of the papers.
        score: what ranks weights globally: squared weight times root of Adam's second moment, squared weight, that
            relative to the mean of its tensor, or LAMP; ``"auto"`` is the first unless short trials show another to be
            clearly better. The reweighted schedule has prices of its own instead.
        allocate: what scores are divided by when tensors are compared: how many weights, bytes of the file, products or
            milliseconds of a run keeping them costs; ``"auto"`` counts products beside weights for gathered groups,
            which are there to be fast, and weights alone for everything else.
        rho: part of the way to the projection, 0..1, that each optimizer step moves the weights at the end of the ramp.
        ramp: how the pull grows to that: at once, by a factor, as a cosine, or balancing the residuals.
        update_every: optimizer steps between two updates of Z and U.
        updates: how many there are in all instead; ``update_every`` wins where both are given.
        damping: factor of the dual at each update.
        sharpness: radius of the sharpness-aware gradient; 0 is the plain gradient.
        progressive_start: ratio at which the geometric tightening towards the target begins; 1 keeps all; None is
            three quarters of the way there, in logarithms.
        admm_share: part of the training time spent in ADMM; the rest is masked fine-tuning. None is what suits the
            structures: half for single weights, less for others.
        regrow_share: part of the training time after that in which masks of single weights go on searching: the least
            of the kept are dropped and others grow; at most what ADMM leaves, and 0 does without.
        blend: part of the fine-tuning over which the dense weights fade that it begins with; 0 begins without them.
    """

    schedule: Literal["frequent", "sharp", "one-shot", "progressive", "reweighted"] = "frequent"
    score: Literal["auto", "curvature", "magnitude", "normalised", "lamp"] = "curvature"
    allocate: Allocate = "auto"
    rho: float | None = _between(None, low=0.0, high=1.0)
    ramp: Literal["constant", "growing", "cosine", "balanced"] | None = None
    update_every: int | None = _between(None, low=1)
    updates: int | None = _between(None, low=1)
    damping: float | None = _between(None, low=0.0, high=1.0)
    sharpness: float | None = _between(None, low=0.0)
    progressive_start: float | None = _between(None, low=1.0)
    admm_share: float | None = _between(None, low=0.0, high=1.0)
    regrow_share: float = _between(0.3, low=0.0, high=1.0)
    blend: float = _between(0.0, low=0.0, high=1.0)

    @property
    def ranking(self) -> str:
        """What ranks weights: ``score``, but magnitude where the reweighted schedule's prices did the rest."""
        return "magnitude" if self.schedule == "reweighted" else self.score


@dataclass(frozen=True)
class QuantSchedule:
    """The ADMM run that quantizes.

    Attributes:
        update_every: optimizer steps between two updates of Z and U.
        rho: part of the way to the projection, 0..1, that each optimizer step moves the weights at the end of the ramp.
        admm_share: part of the training time spent in ADMM; the rest is straight-through fine-tuning on the grid.
        time_share: part of the whole training time that quantization gets when the model is pruned as well.
        snaps: moments in the last fifth of ADMM at which more weights are fixed to their levels, those nearest to one
            first, while the others train on; 0 fixes none before the end.
        scales: how the scales follow the weights while these train on the grid: refitted to them by least squares, or
            learned by their own gradients.
        rounding: how weights are rounded without training; all but ``"nearest"`` look at what layers answer to data.
        samples: how many inputs that looks at.
    """

    update_every: int = _between(32, low=1)
    rho: float = _between(5e-2, low=0.0, high=1.0)
    admm_share: float = _between(0.5, low=0.0, high=1.0)
    time_share: float = _between(0.4, low=0.0, high=1.0)
    snaps: int = _between(0, low=0, high=100)
    scales: Literal["refit", "learned"] = "refit"
    rounding: Literal["admm", "descent", "gptq", "nearest"] = "admm"
    samples: int = _between(1024, low=1)


@dataclass(frozen=True)
class CalibrationOptions:
    """How activation ranges are found.

    Attributes:
        observer: which statistic sets the range; ``"auto"`` takes the one that changes the outputs least.
        samples: how many inputs are observed; as many as there is time for, unless more are asked for.
        activations: whether kernels may round them to 8 bits: by ranges found now, by those of every run, or not.
    """

    observer: Literal["auto", "minmax", "percentile", "entropy", "mse"] = "auto"
    samples: int = _between(512, low=1)
    activations: Literal["static", "dynamic", "none"] = "static"


@dataclass(frozen=True)
class ExportOptions:
    """What the written file runs on.

    Attributes:
        kernel: ``"auto"`` takes the fastest measured kernel per node; the others force one where it is possible.
        threads: of the sessions in which kernels and latency are measured.
        target: where the file is to run: ``"portable"`` has standard operators up to opset 18 alone.
        objective: whether kernels are chosen for time or for bytes.
        encoding: how tensors are stored; ``"auto"`` takes the fewest bytes for each.
    """

    kernel: Literal["auto", "float", "int8", "nbits", "dynamic", "gathered", "gathered_int8"] = "auto"
    threads: int = _between(1, low=1, high=1024)
    target: TargetName = "cpu"
    objective: Objective = "latency"
    encoding: EncodingName = "auto"


@dataclass(frozen=True)
class Plan:
    """Everything that will be done, with every target resolved; ``dataclasses.asdict`` gives plain JSON values."""

    steps: tuple[Step, ...]
    train: TrainOptions = TrainOptions()
    prune_schedule: PruneSchedule = PruneSchedule()
    quant_schedule: QuantSchedule = QuantSchedule()
    calibration: CalibrationOptions = CalibrationOptions()
    export: ExportOptions = ExportOptions()

    def __post_init__(self) -> None:
        """Check that there is something to do."""
        if not self.steps:
            raise RecipeError("nothing to do: neither prune nor quant is given", hint="add --prune 36x or --quant 8bit")

    @property
    def prune(self) -> PruneStep | None:
        """The step that prunes, if there is one."""
        return next((step for step in self.steps if isinstance(step, PruneStep)), None)

    @property
    def quantize(self) -> QuantizeStep | None:
        """The step that quantizes, if there is one."""
        return next((step for step in self.steps if isinstance(step, QuantizeStep)), None)
