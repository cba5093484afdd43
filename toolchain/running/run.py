"""A run of passes that can be interrupted at any moment and go on later."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial

import torch

from passes.allowance import Allowance
from passes.phase import Phase
from passes.snapshot import Snapshot
from passes.trainer import Trainer
from passes.training import LogEntry
from toolchain.channels.modules import replay
from toolchain.checkpoint import Checkpoint, State
from toolchain.export import KernelChoice
from toolchain.module import OnnxModule
from toolchain.running.deadline import TRAINING_WEIGHT, Deadline, PhaseLength
from toolchain.running.refolding import refold


@dataclass
class Compression:
    """What the passes did, for exporter and report.

    Attributes:
        kernels: the chosen kernel by node name.
        log: interim figures of all phases.
        phases: how long each of them trained.
        removed: what went out of the model, one step after the other: indices of channels by group.
        refolded: names of the lent normalizations that were folded.
        refolded_after: how many of the steps of ``removed`` came before that; None where it is still to come.
        dead: how many nonzero weights went out with them, by tensor name.
        costs: of keeping one weight, by tensor name, where tensors are not compared by parameters.
        scores: the loss that a short trial of each score led to; empty where none was tried.
        learning_rate: that was found for the model; None where it was not looked for, or there was no time.
        bits: of every tensor whose bits were to be found by measuring.
        notes: what else there is to say of it.
        earlier_s: seconds that the passes took before the run was interrupted.
    """

    kernels: dict[str, KernelChoice] = field(default_factory=dict)
    log: list[LogEntry] = field(default_factory=list)
    phases: list[PhaseLength] = field(default_factory=list)
    removed: list[dict[str, list[int]]] = field(default_factory=list)
    refolded: list[str] = field(default_factory=list)
    refolded_after: int | None = None
    dead: dict[str, int] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    learning_rate: float | None = None
    bits: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    earlier_s: float = 0.0

    def state(self) -> State:
        """Return everything as a checkpoint holds it."""
        kernels = {name: asdict(choice) for name, choice in self.kernels.items()}
        phases = [asdict(row) for row in self.phases]
        found: State = {"removed": self.removed, "dead": self.dead, "costs": self.costs, "scores": self.scores}
        found |= {"learning_rate": self.learning_rate, "bits": self.bits, "notes": self.notes}
        found |= {"refolded": self.refolded, "refolded_after": self.refolded_after}
        return {"kernels": kernels, "log": self.log, "phases": phases, **found}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.kernels = {name: KernelChoice(**choice) for name, choice in state["kernels"].items()}
        self.phases = [PhaseLength(**row) for row in state["phases"]]
        self.log, self.removed, self.dead = state["log"], state["removed"], state["dead"]
        self.costs, self.scores = state["costs"], state["scores"]
        self.bits, self.notes = state["bits"], state["notes"]
        self.refolded, self.refolded_after = state["refolded"], state["refolded_after"]
        self.learning_rate = state["learning_rate"]


@dataclass
class Run:
    """The passes under way: what is done is done once, also where the run was interrupted in between.

    Attributes:
        trainer: the models, the data and the generator of random numbers.
        deadline: the training time.
        checkpoint: is offered the state; None keeps none.
        lent: names of the BatchNormalization nodes that the module has only while it trains.
        done: what was reached.
        met: how many actions were asked for so far.
        finished: how many of them are done, in this process or before.
        under_way: allowance and state of the phase in which the run was interrupted.
        floats: the module before any tensor was rounded, until it is settled which of them stay float.
    """

    trainer: Trainer
    deadline: Deadline
    checkpoint: Checkpoint | None
    lent: tuple[str, ...] = ()
    done: Compression = field(default_factory=Compression)
    met: int = 0
    finished: int = 0
    under_way: State | None = None
    floats: Snapshot | None = None
    started: float = field(default_factory=time.monotonic)

    def do(self, action: Callable[[], object], name: str = "", weight: float = 0.0) -> None:
        """Do the next action, unless it was done before the run was interrupted.

        Args:
            action: changes the module, ``done`` or both.
            name: of the phase that it is, for progress; empty where it takes no time.
            weight: of that phase.
        """
        self.met += 1
        if self.met > self.finished:
            action()
            self.finished = self.met
            self._keep(self.state, boundary=True)
        elif name:
            self.trainer.progress.phase(name, weight, 1.0)

    def keep_floats(self) -> None:
        """Keep the module as it is, for tensors that will turn out to have to stay float."""
        self.floats = Snapshot.of(self.trainer.module)

    def train(self, phase: Phase, share: float) -> None:
        """Train a phase that is ``share`` of the whole training, or go on with it where it was interrupted."""
        self.do(partial(self._train, phase, share), phase.name, TRAINING_WEIGHT * share)

    def _train(self, phase: Phase, share: float) -> None:
        saved, self.under_way = self.under_way, None
        allowance = self.deadline.take(share) if saved is None else Allowance(**saved["allowance"])

        def keep(training: Callable[[], State]) -> None:
            self._keep(lambda: self.state() | {"under_way": {"allowance": asdict(allowance), "training": training()}})

        log = phase.run(self.trainer, allowance, saved["training"] if saved else None, keep)
        steps = int(log[-1]["step"]) if log else 0
        self.done.log.extend(log)
        self.done.phases.append(self.deadline.length(phase.name, share, steps, self.trainer.steps_per_epoch))

    def _keep(self, make: Callable[[], State], boundary: bool = False) -> None:
        if self.checkpoint is not None:
            self.checkpoint.offer(make, boundary)

    def begin(self, saved: State | None) -> None:
        """Begin, or go on from a saved state."""
        if saved is None:
            self._keep(self.state, boundary=True)
        else:
            self.restore(saved)
        steps = self.deadline.steps  # of the whole run, so that it is decided alike when it goes on
        epochs = None if steps is None else steps / self.trainer.steps_per_epoch
        if steps != 0:
            self.trainer.remember(epochs, self.deadline.seconds)

    def state(self) -> State:
        """Return everything that decides how the run goes on, between two phases."""
        cuda = self.trainer.module.device.type == "cuda"
        return {
            "finished": self.finished,
            "under_way": None,
            "floats": None if self.floats is None else self.floats.state(),
            "module": Snapshot(self.trainer.module.state_dict(), self.trainer.module.formats).state(),
            "random": {
                "numpy": self.trainer.rng.bit_generator.state,
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state() if cuda else None,
            },
            "deadline": self.deadline.state(),
            "threads": torch.get_num_threads(),
            "done": self.done.state(),
            "took_s": self.done.earlier_s + time.monotonic() - self.started,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.done.restore(state["done"])
        if self.done.learning_rate is not None:
            self.trainer.learning_rate = self.done.learning_rate
        self.trainer.module = module = self._reached()
        self.finished, self.under_way = state["finished"], state["under_way"]
        Snapshot.from_state(state["module"], module.device).restore(module)
        floats = state["floats"]
        self.floats = None if floats is None else Snapshot.from_state(floats, module.device)
        self.trainer.rng.bit_generator.state = state["random"]["numpy"]
        torch.set_rng_state(state["random"]["torch"])
        if state["random"]["cuda"] is not None and module.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"])
        self.deadline.restore(state["deadline"])
        if state["threads"] != torch.get_num_threads():  # sums are then added up in another order
            self.done.notes.append(
                f"The run was interrupted with {state['threads']} threads and went on with {torch.get_num_threads()}: "
                "its last digits may differ from those of a run without interruption."
            )
        self.done.earlier_s = state["took_s"]

    def _reached(self) -> OnnxModule:
        """Return a module of the shape that the model has reached; its values are any."""
        module, removed, before = self.trainer.module, self.done.removed, self.done.refolded_after
        device, sample = module.device, self.trainer.example()
        if removed[:before]:
            module = replay(module.graph, sample, removed[:before]).to(device)
        if before is not None:
            module = refold(module.eval(), self.done.refolded)
            if removed[before:]:
                module = replay(module.graph, sample, removed[before:]).to(device)
        return module
