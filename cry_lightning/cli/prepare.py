"""`prepare`: build feature caches, and verify them."""

import os

from cry_lightning.cli.stage import StageCLI
from cry_lightning.console import UserError, counted, printable
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.datamodule import CryDataModule

MAX_TOLD = 100  # faults in the terminal


def build(args: list[str], verify: bool, share: tuple[int, int] = (1, 1)) -> None:
    """Build the cache of one stage, given as `fit` takes it, or one of several shares of it."""

    class PrepareCLI(StageCLI):
        """Parses as `fit` does, then prepares the data and stops."""

        def before_fit(self) -> None:
            """No run folder is opened."""

        def after_fit(self) -> None:
            """No fit has reached its end."""

        def fit(self, datamodule: CryDataModule, **_: object) -> None:
            """Build the caches, or check those that there are."""
            data = [one for one in (datamodule, datamodule.probe) if one is not None]
            for one in data:
                one.corpus.prepare()
            if share[1] > 1 and not all([built_in_full(one.feature_cache(), share, one.cache.workers) for one in data]):
                return
            if not (verify and all(os.path.lexists(one.feature_cache().path) for one in data)):
                datamodule.prepare_data()
            for one in data:
                tell(one.feature_cache(), verify)

    PrepareCLI(["fit", *args])


def built_in_full(cache: FeatureCache, share: tuple[int, int], workers: int) -> bool:
    """Build one share of a cache; says what others still have to do, if anything."""
    if missing := cache.build_shard(*share, workers):
        built = f"{cache.path}: shard {share[0]}/{share[1]} is built"
        print(f"{built}; {missing:,} of {len(cache.clips):,} rows, of other shards, are missing")
    return not missing


def tell(cache: FeatureCache, verify: bool) -> None:
    """Print what is in a cache, and verify it first if asked to.

    Raises:
        UserError: it is damaged, or its audio is not what it was made of.
    """
    if verify and (faults := cache.verify()):
        for fault in faults[:MAX_TOLD]:
            print(printable(fault))
        more = f" (the first {MAX_TOLD} are above)" if len(faults) > MAX_TOLD else ""
        raise UserError(
            f"{cache.path}: {len(faults)} faults{more}; the same command without --verify computes damaged rows again,"
            " and builds another cache where audio has changed"
        )
    features = cache.open()
    for row, reason in features.bad.items():
        print(printable(f"left out: {cache.clips[row].name}: {reason}"))
    if verify:
        print(f"{cache.path}: {len(features.good)} rows and their audio were read, and are sound")
    print(f"{cache.path}: {counted(len(features.good), 'clip')}, {len(features.bad):,} left out")
