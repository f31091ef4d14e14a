"""What pytest itself is told; what tests share is in made.py."""

import gc
import os
from collections import Counter

import pytest

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share two cores
gc.disable()  # until the tests are collected: nothing that an import makes is garbage


def pytest_configure(config: pytest.Config) -> None:
    """The fixtures are for who runs tests: the process that hands them to others need not wait for their imports."""
    if config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("made")
    else:
        gc.enable()  # which collects no tests


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked sampled(n), all parameters but the first n are slow."""
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is None:
            continue
        test = item.nodeid.partition("[")[0]
        seen[test] += 1
        if seen[test] > mark.args[0]:
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What the imports made is looked through no more, and what a test makes seldom: a quarter of their time."""
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()
