"""`prepare`: build, list, verify and remove feature caches."""

import argparse
from typing import Any

from cry_lightning.commands.prepare import arguments


def main(args: list[str]) -> None:
    """Run the command; what it does not know itself is an override of the stage YAML, as in `fit`."""
    options = arguments(args)
    if options.config:
        build(["--config", options.config, *options.overrides], options.verify)
    look_after(options)


def look_after(options: argparse.Namespace) -> None:
    """Remove and list caches."""
    import pandas as pd

    from cry_lightning.data.inventory import list_caches, remove_caches

    if options.remove:
        for path in remove_caches(options.folder, options.remove):
            print(f"removed {path}")
    if options.list:
        rows = [describe(cache) for cache in list_caches(options.folder)]
        print(pd.DataFrame(rows).to_string(index=False) if rows else f"no cache in {options.folder}")


def describe(cache: Any) -> dict[str, Any]:
    """One line of the list."""
    return {
        "name": cache.name,
        "state": cache.state,
        "corpus": cache.corpus,
        "feature": cache.feature,
        "clips": cache.rows,
        "bad": cache.bad,
        "shape": "x".join(map(str, cache.shape)),
        "MB": f"{cache.bytes / 1e6:.1f}",
        "age (h)": f"{cache.age_s / 3600:.1f}",
    }


def build(args: list[str], verify: bool) -> None:
    """Build the cache of one stage, given as `fit` takes it."""
    from cry_lightning.cli import StageCLI

    class PrepareCLI(StageCLI):
        """Parses as `fit` does, then prepares the data and stops."""

        def before_fit(self) -> None:
            """No run folder is opened."""

        def after_fit(self) -> None:
            """No fit has reached its end."""

        def fit(self, datamodule: Any, **_: Any) -> None:
            """Build the cache."""
            datamodule.prepare_data()
            cache = datamodule.cache()
            if verify:
                cache.verify()
            features = cache.open()
            for row, reason in features.bad.items():
                print(f"left out: {cache.clips[row].name}: {reason}")
            print(f"{cache.path}: {len(features.good)} clips, {len(features.bad)} left out")

    PrepareCLI(["fit", *args])
