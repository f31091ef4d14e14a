"""SIGTERM and SIGUSR1, by which a scheduler says that time is up, and Ctrl-C: a fit ends where it can go on exactly.

The same signal again some seconds later, or another Ctrl-C, is from somebody who will not wait for what hangs.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from cry_lightning.console import SIGNALS, Interrupted

AGAIN_S = 5.0  # sooner, one signal has come on two ways: to a group of processes, and to each of them
BY_HAND_S = 0.5  # the same of Ctrl-C, by a person who waits

log = logging.getLogger(__name__)
Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None  # as `signal.signal` has it


class Interruption:
    """Notes such a signal. Outside of a training it ends the command at once; within, `LastCheckpoint` asks for it."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.seen: dict[int, float] = {}  # when each came first, s
        self.waits = False  # for a checkpoint

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take these signals until the block ends; threads other than the main one cannot.

        One that has not ended it is passed on to the study that it is a part of, if any, or to a script's own handler.
        """
        before = self.take()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        passed_on = before.get(self.signal) if self.signal else None
        if self.signal and callable(passed_on) and passed_on is not signal.default_int_handler:
            passed_on(self.signal, None)

    def take(self) -> dict[signal.Signals, Handler]:
        """Take these signals, also from Lightning, which would end a validation half done; returns who had them."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        by_hand = number == signal.SIGINT
        first = min(self.seen.values(), default=math.inf) if by_hand else self.seen.get(number, math.inf)
        again = now - first >= (BY_HAND_S if by_hand else AGAIN_S)
        self.seen.setdefault(number, now)
        if self.signal is not None and not again:
            return
        self.signal = signal.Signals(number)
        if again:
            signal.signal(number, signal.SIG_DFL)  # a third ends what no Python reaches
        if again or not self.waits:
            raise Interrupted(number, f"stopped by {self.signal.name}{' again' * again}; the same command goes on")
        if by_hand:
            rank_zero_only(log.warning)("stops after this step; Ctrl-C again stops at once")

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
