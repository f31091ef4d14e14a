"""Filling a cache file with features: the unfinished rows, batch by batch, and what becomes of bad clips."""

import logging

from cry_lightning.data.cachefile import PENDING, CacheFile
from cry_lightning.data.compute import ClipBatches, batch_loader, killed_workers_told
from cry_lightning.errors import UserError
from cry_lightning.progress import progress_bar

log = logging.getLogger(__name__)
BATCH_SIZE = 64  # larger batches leave the processor's cache
MAX_BAD_SHARE = 0.05


def fill(file: CacheFile, dataset: ClipBatches, corpus_name: str, workers: int) -> None:
    """Compute every row that is not done, and list the bad ones at the end.

    Raises:
        UserError: more than 5 % of the clips are bad (the file is deleted then), or a worker died.
    """
    done = file.column("done") != PENDING
    done[file.damaged_rows()] = False
    n = len(dataset)
    # Batches always begin at the same rows, so that a build that was stopped gives the same bits as one that was not.
    batches = [range(first, min(first + BATCH_SIZE, n)) for first in range(0, n, BATCH_SIZE)]
    batches = [rows for rows in batches if not done[rows.start : rows.stop].all()]
    bar = progress_bar(desc=corpus_name, unit="clip", total=n, initial=n - sum(map(len, batches)))
    with bar, killed_workers_told(workers):
        for rows, features, reasons in batch_loader(dataset, batches, workers):
            file.write_rows(rows, features, reasons)
            bar.update(len(rows))
            if any(reasons):
                _refuse_too_many(file, corpus_name)
    if bad := file.reasons():
        listed = "\n  ".join(_listed(file, bad, at_most=100))
        log.warning("%s: %d of %d clips are left out:\n  %s", corpus_name, len(bad), n, listed)


def _refuse_too_many(file: CacheFile, corpus_name: str) -> None:
    bad, n = file.reasons(), file.shape[0]
    if len(bad) > MAX_BAD_SHARE * n:
        listed = "; ".join(_listed(file, bad, at_most=10))
        file.path.unlink()  # mended clips would have another cache
        raise UserError(
            f"{corpus_name}: {len(bad)} of {n} clips are bad already, and more than {MAX_BAD_SHARE:.0%} are too many; "
            f"mend or remove them: {listed}"
        )


def _listed(file: CacheFile, bad: dict[int, str], at_most: int) -> list[str]:
    names = [name.encode(errors="backslashreplace").decode() for name in file.texts("clip")]  # fit to be printed
    listed = [f"{names[row]}: {reason}" for row, reason in list(bad.items())[:at_most]]
    return listed if len(listed) == len(bad) else [*listed, f"and {len(bad) - len(listed)} more"]
