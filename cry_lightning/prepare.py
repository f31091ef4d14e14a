"""`prepare`: build, list, verify and remove feature caches."""

import argparse
from typing import Any

from cry_lightning.arguments import ArgumentParser


def main(args: list[str]) -> None:
    """Run the command; what it does not know itself is an override of the stage YAML, as in `fit`."""
    parser = ArgumentParser(
        prog="python -m cry_lightning prepare",
        description="Build the feature cache of a stage, or look after the caches there are.",
        epilog="Further arguments override the YAML as in fit, e.g. --data.workers=4.",
    )
    parser.add_argument("--config", metavar="STAGE.yaml", help="build the cache of this stage")
    parser.add_argument("--verify", action="store_true", help="with --config: read all audio and every row again")
    parser.add_argument("--list", action="store_true", help="what is cached, for which corpus and feature")
    parser.add_argument("--remove", nargs="+", metavar="NAME", help="remove caches by the name that --list shows")
    parser.add_argument("--folder", default="cache", help="folder of the caches, for --list and --remove")
    options, overrides = parser.parse_known_args(args)
    if overrides and not options.config:
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    if not (options.config or options.list or options.remove):
        parser.error("give --config STAGE.yaml, --list or --remove NAME")
    if options.config:
        build(["--config", options.config, *overrides], options.verify)
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
