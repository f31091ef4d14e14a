"""SIGTERM and SIGUSR1, by which a scheduler says that time is up: a fit ends where it can go on exactly."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lightning import Trainer

from cry_lightning.console import Interrupted

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # Windows lacks one

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None  # as `signal.signal` has it


class Interruption:
    """Notes such a signal. Outside of a training it ends the command at once; within, `LastCheckpoint` asks for it."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.waits = False  # for a checkpoint

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take these signals until the block ends; threads other than the main one cannot."""
        before = self.take()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def take(self) -> dict[signal.Signals, Handler]:
        """Take these signals, also from Lightning, which would end a validation half done; returns who had them."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            return
        self.signal = signal.Signals(number)
        if not self.waits:
            raise Interrupted(number, f"stopped by {self.signal.name}; the same command goes on")

    def came(self, trainer: Trainer) -> bool:
        """Whether one came, to this process or to one that trains with it."""
        here = self.signal is not None
        return here if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(here, all=False)

    def end(self, written: str) -> None:
        """End the command, `written` being where the training goes on from.

        Raises:
            Interrupted: always.
        """
        came = self.signal or signal.SIGTERM  # to another process, that is
        raise Interrupted(came, f"stopped by {came.name} after {written}; the same command goes on from there")
