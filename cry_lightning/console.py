"""What a person reads: errors in one line, progress bars, shortened lists, cells that are safe in tables."""

import difflib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # either would slow down the start of every command
    import pandas as pd
    from tqdm import tqdm

T = TypeVar("T")
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)]
LONGEST = 250  # characters of a message
RUN_BY_SPREADSHEETS = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
MARKDOWN = {"\\": "\\\\", "|": "\\|", "*": "\\*", "&": "&amp;", "<": "&lt;", ">": "&gt;", "](": "]\\("}
CLIP = re.compile(r"(.+)#(\d+\.\d+)-(end|\d+\.\d+)", re.DOTALL)  # a name of `corpora.Clip`
MARKED = re.compile(r"\]\(|[\\|*&<>]")


class UserError(ValueError):
    """A mistake of the user's, in one line: the file, key or shape at fault, and the way out.

    The command line prints it without a traceback and exits with 2.
    """


class Interrupted(SystemExit):
    """A signal ended a command, which says so in one line; the exit code is 128 and the signal's number.

    Args:
        number: of the signal.
        message: how to go on.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(128 + number)
        self.number = number
        self.message = message

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[int, str]]:
        return type(self), (self.number, self.message)


@contextmanager
def stopped_by(numbers: Iterable[int], stop: Callable[[int], BaseException]) -> Iterator[None]:
    """End the block by an exception, not the process at once, where a signal comes; only the main thread can.

    Args:
        numbers: of the signals.
        stop: the exception, of the signal's number.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise stop(number)

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, end) for number in numbers if is_main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped_by_signals() -> AbstractContextManager[None]:
    """Stop trainings that follow each other by an exception where a signal comes outside of one.

    Each takes the signals for itself, and passes on one that came in its last step, and so did not end it.
    """

    def stop(number: int) -> BaseException:
        message = f"stopped by {signal.Signals(number).name}; the same command goes on"
        return KeyboardInterrupt(message) if number == signal.SIGINT else Interrupted(number, message)

    return stopped_by(SIGNALS, stop)


def print_any_name() -> None:
    """Have characters that the terminal's encoding lacks printed as escapes, not end the command that prints them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def check_working_folder() -> None:
    """Say so where the folder that a command is started in is gone; libraries stop with errors that do not.

    Raises:
        UserError: it is.
    """
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise UserError(f"the current folder is not there ({error.strerror}); go to another, by cd") from error


def progress_bar(
    items: Iterable[T],
    desc: str | None = None,
    total: int | None = None,
    *,
    unit: str = "it",
    initial: int = 0,
    delay: float = 0,
    leave: bool = True,
    hidden: bool = False,
) -> "tqdm[T]":
    """A bar of tqdm's that a terminal shows, so that no log file fills with it; a hidden one is shown nowhere."""
    from tqdm import tqdm

    disable = True if hidden else None
    return tqdm(items, desc, total, leave, unit=unit, initial=initial, delay=delay, disable=disable)


def log_line(text: str) -> None:
    """A line on stderr where that is a log file, of what a bar shows in a terminal; any process may write one."""
    if not sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def followed(items: Iterable[T], desc: str, total: int, unit: str) -> Iterator[T]:
    """The items, with a bar in a terminal, and a line for each in a log file: "cross-validate: fold 2 of 5, 41 s"."""
    began = time.monotonic()
    for number, item in enumerate(progress_bar(items, desc, total, unit=unit), 1):
        log_line(f"{desc}: {unit} {number} of {total} done, {time.monotonic() - began:.0f} s since the start")
        yield item


class ConfigError(UserError):
    """What is wrong with which key of a config.

    Args:
        key: dotted; empty for the config as a whole.
        reason: in a few words.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(one_line(f"{key}: {reason}" if key else reason))
        self.key = key
        self.reason = reason


def did_you_mean(keys: list[str], known: list[str], dashes: str = "", n: int = 1) -> str:
    """The `n` nearest of the known keys to each, as the end of a message; empty where none is near."""
    near = [
        dashes + match for key in keys for match in _moved_to(key, known) or difflib.get_close_matches(key, known, n=n)
    ]
    return f"; did you mean {', '.join(near)}?" if near else ""


def _moved_to(key: str, known: list[str]) -> list[str]:
    """The known key deeper in the same section whose own name is nearly the same, if there is one."""
    section, dot, name = key.rpartition(".")
    names = {one.rpartition(".")[2]: one for one in known if dot and one.startswith(f"{section}.")}
    return [names[match] for match in difflib.get_close_matches(name, names, n=1, cutoff=0.8)]


def dotted(*keys: str) -> str:
    """The keys that are not empty, joined."""
    return ".".join(filter(None, keys))


def printable(text: str) -> str:
    """Text with what no encoding holds, as in file names from elsewhere, spelled out."""
    return text.encode(errors="backslashreplace").decode()


def one_line(text: str) -> str:
    """A message without line breaks, cut where it goes on and on."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... (--debug shows all)"


def counted(n: int, one: str, several: str = "") -> str:
    """A number with what it counts: "1 clip is", "2 clips are"; `several` is `one` with an s unless it is given."""
    return f"{n:,} {one if n == 1 else several or f'{one}s'}"


def counted_plural(n: int, several: str) -> str:
    """The same by the plural, which begins with its noun: "1 clip without a label", of "clips without a label"."""
    return counted(n, re.sub(r"^(\w+)s\b", r"\1", several), several)


def first_few(texts: Sequence[str], at_most: int, between: str = ", ", rest: str = " and") -> str:
    """Some texts, and how many more there are: "a, b and 3 more"."""
    n_more = len(texts) - at_most
    return between.join(texts[:at_most]) + (f"{rest} {n_more} more" if n_more > 0 else "")


def clip_in_words(name: str) -> str:
    """A clip by the times at which it begins and ends, "a.wav, 2.0 to 5.0 s", of its name `a.wav#2.000-3.000`."""
    if not (found := CLIP.fullmatch(name)):
        return name
    path, start_s, duration_s = found.groups()
    start = float(start_s)
    if duration_s == "end":
        return f"{path}, {start} s to the end" if start else path
    return f"{path}, {start} to {round(start + float(duration_s), 3)} s"


def for_spreadsheets(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with an apostrophe before each text, names of columns included, that a spreadsheet would run."""
    from pandas.api.types import is_numeric_dtype

    safe = table.copy()
    for place, kind in enumerate(table.dtypes):
        if not is_numeric_dtype(kind):
            safe.isetitem(place, list(map(as_cell, table.iloc[:, place])))
    return safe.set_axis([as_cell(name) for name in table.columns], axis=1)


def as_cell(value: object) -> object:
    """A text with an apostrophe before it where a spreadsheet would run it; any other value as it is."""
    if not isinstance(value, str) or not RUN_BY_SPREADSHEETS.match(value) or _is_number(value):
        return value
    return f"'{value}"


def from_cell(text: str) -> str:
    """What `as_cell` was given."""
    return text[1:] if text.startswith("'") and RUN_BY_SPREADSHEETS.match(text) else text


def on_one_line(text: str) -> str:
    """The text without line breaks, or whatever else would move a terminal's cursor."""
    return CONTROL.sub(" ", text)


def as_markdown_text(text: str) -> str:
    """The text as Markdown shows it, on one line, and no link, table or HTML of its own; `quotes` in pairs stay."""
    escaped = MARKED.sub(lambda found: MARKDOWN[found[0]], on_one_line(text))
    return escaped.replace("`", "\\`") if escaped.count("`") % 2 else escaped


def as_markdown_list(lines: Iterable[str]) -> str:
    """A bullet for each line."""
    return "\n".join(f"- {as_markdown_text(line)}" for line in lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
