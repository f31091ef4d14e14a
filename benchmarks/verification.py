"""How often the 95 % intervals of `verify` contain the truth, on simulated embeddings whose equal error rate is known.

Subjects have an effect on all their embeddings; the truth is that of three tests of 1,500 subjects.
"""

import argparse
from itertools import product

import numpy as np

from cry_lightning.evaluation.verification import Sessions, error_rates, pairs, verify

SKILLS = {"none": 0.0, "middling": 0.7, "high": 1.5}  # deviation of the subjects' effect, that of a session being 1
WIDTH = 16  # of an embedding


def simulated(rng: np.random.Generator, n_subjects: int, strength: float, equal: bool) -> Sessions:
    """Sessions of so many subjects: two of each, or a number by chance, 1 to 8."""
    n_sessions = np.full(n_subjects, 2) if equal else rng.geometric(0.5, n_subjects).clip(1, 8)
    subject = np.repeat(np.arange(n_subjects), n_sessions)
    effect = strength * rng.standard_normal((n_subjects, WIDTH))
    embeddings = effect[subject] + rng.standard_normal((len(subject), WIDTH))
    names = np.array([f"r{number}" for number in range(len(subject))])
    return Sessions(embeddings, np.array([f"s{each:05}" for each in subject]), names)


def truth_of(strength: float) -> np.ndarray:
    """Equal error rate and AUC of very many subjects."""
    found = []
    for seed in range(3):
        scores, same, _, _ = pairs(simulated(np.random.default_rng(seed), 1500, strength, equal=True))
        order = np.argsort(scores)
        found.append(error_rates(scores[order], same[order], np.ones(len(same))))
    return np.mean(found, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--simulations", type=int, default=200)
    options = parser.parse_args()
    print("| subjects | sessions | skill | EER | AUC | EER covers | AUC covers | no interval |\n" + "|---" * 8 + "|")
    for n_subjects, equal, (skill, strength) in product(options.subjects, (True, False), SKILLS.items()):
        truth, held, none = truth_of(strength), [], 0
        for seed in range(10, 10 + options.simulations):
            table = verify(simulated(np.random.default_rng(seed), n_subjects, strength, equal))
            if table["low"].isna().any():
                none += 1
                continue
            held.append(((table["low"] <= truth) & (truth <= table["high"])).to_numpy())
        covers = np.mean(held, axis=0) if held else [np.nan] * 2
        print(
            f"| {n_subjects} | {'two' if equal else 'unequal'} | {skill} | {truth[0]:.3f} | {truth[1]:.3f} |"
            f" {covers[0]:.3f} | {covers[1]:.3f} | {none} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
