"""What is plausible of a recording, and how far a declared length may be off: all such numbers, in one place."""

import stat
from pathlib import Path

from cry_lightning.audio.errors import AudioError

SAMPLE_RATES = (2_000, 768_000)  # Hz; a header that says otherwise is damaged
MOST_CHANNELS = 64
MOST_SAMPLES = 1 << 30  # of a recording in memory at once, 4 GiB; longer ones are read in blocks or windows
SLACK_S = 0.1  # a declared length that is off by less is right: lossy codecs are padded, headers rounded
SHORTEST_S = 0.01  # a clip shorter than this holds no sound worth a row
CANCELLED = 1e-3  # channels whose mean has less than this share of their power cancel each other

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def what_it_is(path: Path) -> str:
    """What lies at a path, links followed, where it is no file: "a named pipe"; empty where it is one.

    Raises:
        OSError: nothing is there.
    """
    return _kind(path.stat().st_mode)


def _kind(mode: int) -> str:
    kind = stat.S_IFMT(mode)
    return "" if kind == stat.S_IFREG else KINDS.get(kind, "no file")


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it; opening a named pipe would wait for ever.

    Raises:
        AudioError: it is none.
    """
    status = path.stat()
    if kind := _kind(status.st_mode):
        raise AudioError(f"{path}: is {kind}, no recording")
    if not status.st_size:
        raise AudioError(f"{path}: the file is empty")


def check_form(path: Path, sample_rate: int, n_channels: int) -> None:
    """Refuse a header that cannot be true.

    Raises:
        AudioError: its sample rate or number of channels is not plausible.
    """
    low, high = SAMPLE_RATES
    if sample_rate == 0:
        raise AudioError(f"{path}: tells no sample rate: it is damaged, or holds no sound")
    if not low <= sample_rate <= high:
        raise AudioError(
            f"{path}: its header says {sample_rate:,} Hz, and sample rates are {low:,} to {high:,} Hz: it is damaged"
        )
    if not 1 <= n_channels <= MOST_CHANNELS:
        raise AudioError(f"{path}: its header says {n_channels} channels, and 1 to {MOST_CHANNELS} are plausible")
