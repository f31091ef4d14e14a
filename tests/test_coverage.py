"""Intervals contain the truth as often as they say: a small part of `benchmarks/interval_coverage.py`."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/interval_coverage.py"
spec = spec_from_file_location("simulated_coverage", SCRIPT)  # not by its name, which that of a package is, too
coverage = module_from_spec(spec)
sys.modules[spec.name] = coverage
spec.loader.exec_module(coverage)

pytestmark = pytest.mark.slow
SIMULATIONS = 200  # of 95 %, fewer than 91.5 % in one of 80


def lowest(test: coverage.Test, method=coverage.by_jackknife) -> float:
    """Lowest coverage of accuracy, UAR, AUC and the recalls, and of their differences."""
    found = coverage.coverage(test, SIMULATIONS, method)
    return found[found["metric"].isin(("accuracy", "uar", "macro_auc", "recall"))]["coverage"].min()


@pytest.mark.parametrize("skill", ["middling", "high"])
def test_intervals_of_ten_infants_contain_the_truth(skill):
    assert lowest(coverage.Test(10, 0.5, True, True, skill)) >= 0.915


def test_intervals_of_three_classes_contain_the_truth():
    assert lowest(coverage.ThreeClasses(18, True, True, "middling")) >= 0.915


def test_differences_of_two_good_models_of_unequal_skill_contain_the_truth():
    assert lowest(coverage.Unequal(60, 0.3, True, False, "best", "better", 0.8)) >= 0.915


def test_percentiles_of_a_bootstrap_do_not():
    assert lowest(coverage.Test(10, 0.5, True, True, "high"), coverage.by_bootstrap) < 0.85


def test_equal_rivals_are_called_different_in_five_percent():
    test = coverage.Test(18, 0.5, True, True, "middling")
    assert coverage.false_alarms(test, 1, SIMULATIONS).max() <= 0.085
    assert coverage.false_alarms(coverage.Pooled(20, 5, 20, "middling"), 1, SIMULATIONS, 5).max() <= 0.085


def test_pooled_folds_need_wider_intervals():
    found = coverage.pooled_coverage(coverage.Pooled(20, 5, 2, "none"), SIMULATIONS)
    wide, narrow = ([share for name, share in found.items() if name.endswith(how)] for how in ("widened", "one model"))
    assert min(wide) >= 0.915 > min(narrow)


def test_truth_of_models_that_fail_at_some_infants_is_that_of_very_many() -> None:
    test = coverage.Failing(5000, 0.5, True, True, "nearly perfect", 1 / 6)
    (table,) = test.simulated(np.random.default_rng(0), 1)
    found, truth = coverage.measure(table), test.truth()
    assert truth["uar", ""] == pytest.approx(0.829, abs=0.001)
    for key in test.metrics:
        assert found[key][0] == pytest.approx(truth[key], abs=0.015)
