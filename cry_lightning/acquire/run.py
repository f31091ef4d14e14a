"""All sources, one after another or several at once; what is done already is not done again."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cry_lightning import audio
from cry_lightning.acquire.settings import Settings
from cry_lightning.acquire.sources import Record, cut, done, folder_name
from cry_lightning.errors import UserError
from cry_lightning.progress import progress_bar

FIGURES = "figures"  # folder in OUT

Outcome = Record | str  # or why there is none


def acquire(
    root: Path, sources: Sequence[str], out: Path, settings: Settings, figures: bool = False, jobs: int = 1
) -> tuple[list[Record], dict[str, str]]:
    """The records of all sources in a folder, and why others were refused.

    Raises:
        UserError: nothing can be written, or a process was killed.
    """
    one = partial(acquire_one, root=root, out=out, settings=settings, figures=figures)
    records: list[Record] = []
    refused: dict[str, str] = {}
    with _mapping(jobs) as mapped:
        outcomes = progress_bar(mapped(one, sources), "acquire", len(sources), unit="file")
        for source, outcome in zip(sources, outcomes, strict=True):
            if isinstance(outcome, str):
                refused[source] = outcome
            else:
                records.append(outcome)
    return records, refused


def acquire_one(source: str, root: Path, out: Path, settings: Settings, figures: bool) -> Outcome:
    """The record of a source, cut unless it was before."""
    picture = out / FIGURES / f"{folder_name(source)}.png"
    try:
        record = done(root, source, out, settings)
        if record is None:
            picture.unlink(missing_ok=True)
            record = cut(root, source, out, settings)
        if figures and not picture.exists():
            from cry_lightning.acquire.figure import draw  # matplotlib takes long, and few ask for figures

            draw(root / source, record, picture)
    except audio.AudioError as error:
        return str(error).removeprefix(f"{root / source}: ")
    return record


@contextmanager
def _mapping(jobs: int) -> Iterator[Callable[..., Iterator[Outcome]]]:
    """A `map` that works in so many processes."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield pool.map
        except BrokenProcessPool as error:
            raise UserError("a process was killed, perhaps for want of memory; give fewer --jobs") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else all the rest would be done first
            raise
