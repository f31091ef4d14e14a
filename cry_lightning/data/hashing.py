"""A division of groups by the hash of their ids."""

import hashlib

import numpy as np

from cry_lightning.errors import UserError

N_HASHES = 2**27


def by_hash(labels: np.ndarray, groups: np.ndarray, val: float, test: float) -> np.ndarray:
    """The part of every clip by its group's hash: "val" in the first share of hashes, "test" in the next, else "train".

    A group stays where it is whichever others there are; the shares of the clips are only roughly those asked for.

    Args:
        labels: class names (n,).
        groups: group ids (n,), hashed without their collection.
        val: share of all hashes.
        test: share of all hashes.

    Raises:
        UserError: a class is missing from a part.

    Source: the division of Speech Commands by speaker; Warden 2018, arXiv:1804.03209, section 7.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    percent = np.array([percentage(name.partition(":")[2] or name) for name in names])[group_of]
    parts = np.select([percent < 100 * val, percent < 100 * (val + test)], ["val", "test"], "train")
    for part, share in {"train": 1 - val - test, "val": val, "test": test}.items():
        if share and (missing := sorted(set(labels) - set(labels[parts == part]))):
            raise UserError(
                f"split: by their hashes, no group of {', '.join(missing)} falls to {part}; move split.val and"
                " split.test, or use the scheme holdout"
            )
    return parts


def percentage(name: str) -> float:
    """Where the hash of a name falls, from 0 to 100."""
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % N_HASHES * 100 / (N_HASHES - 1)
