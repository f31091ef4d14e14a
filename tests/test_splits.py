"""Splits: nobody on both sides, every class everywhere, the shares asked for, nestedness, and clear refusals."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.model_selection import StratifiedGroupKFold

from cry_lightning.console import UserError
from cry_lightning.corpora import Clip, Clips
from cry_lightning.data.splits import Split, assign, fold_of_groups, imbalance
from cry_lightning.data.subset import clips_per_class, divide, fraction_of_groups, read_exclusions
from cry_lightning.make.chain import digest

SCHEMES = [
    Split(),
    Split(val=0.3, test=0.3, seed=5),
    Split(scheme="kfold", folds=4, fold=2),
    Split(scheme="kfold", folds=4, fold=1, repeat=3),
    Split(scheme="leave_one_out", fold=7),
    Split(scheme="hash", val=0.25, test=0.25),
]


def random_corpus(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of a few hundred clips: skewed classes, uneven subjects, most with clips of several classes."""
    rng = np.random.default_rng(seed)
    n_classes, n_groups = rng.integers(2, 6), rng.integers(24, 60)
    prior = rng.dirichlet(np.ones(n_classes))
    labels, groups = [], []
    for group in range(n_groups):
        taste = rng.dirichlet(prior * 5 + 0.1)
        n_clips = int(rng.geometric(0.1))
        own = rng.choice(n_classes, n_clips, p=taste)
        own[0] = group % n_classes  # no class with fewer groups than folds
        labels += [f"class{label}" for label in own]
        groups += [f"subject{group}"] * n_clips
    shuffled = rng.permutation(len(labels))
    return np.array(labels)[shuffled], np.array(groups)[shuffled]


def groups_of(parts: np.ndarray, groups: np.ndarray) -> dict[str, set[str]]:
    return {part: set(groups[parts == part]) for part in ("train", "val", "test")}


@pytest.mark.sampled(12)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("split", SCHEMES, ids=lambda split: f"{split.scheme}-{split.seed + split.repeat}")
def test_no_group_is_divided_and_results_repeat(split: Split, seed: int) -> None:
    labels, groups = random_corpus(seed)
    parts = assign(split, labels, groups)
    assert set(parts) == {"train", "val", "test"}
    assert sum(map(len, groups_of(parts, groups).values())) == len(set(groups))
    other_order = np.random.default_rng(1).permutation(len(labels))
    assert np.array_equal(assign(split, labels[other_order], groups[other_order]), parts[other_order])


@pytest.mark.parametrize("split", [Split(val=0.15, test=0.3), Split(scheme="kfold", folds=3)], ids=["holdout", "kfold"])
def test_windows_of_any_length_are_divided_alike_by_recordings(split: Split) -> None:
    """Recordings of 3 to 8 s, of infants who cry for up to three reasons."""
    rng, recordings = np.random.default_rng(0), []
    for infant in range(30):
        reasons = rng.permutation(3)[: rng.integers(1, 4)]
        recordings += [
            (Clip(f"{infant}-{take}.wav", f"ward:{infant}", "abc"[reason]), rng.integers(3, 9))
            for take, reason in enumerate(rng.choice(reasons, rng.integers(1, 9)))
        ]

    def tested(window_s: float, split: Split) -> set[str]:
        clips = Clips.joined(
            Clips.windows(clip, np.arange(0, length_s - window_s + 0.5, window_s), window_s)
            for clip, length_s in recordings
        )
        parts = divide(clips, np.full(len(clips), True), split)
        assert "" not in parts and len(parts) == len(clips)
        return {clip.subject for clip in clips[parts == "test"]}

    for shares_of in ("clips", "recordings"):
        each = [tested(window_s, replace(split, shares_of=shares_of)) for window_s in (1.0, 2.0, 3.0)]
        assert (len({frozenset(one) for one in each}) == 1) == (shares_of == "recordings")


def test_own_recordings_are_divided_by_recordings_whatever_the_windows() -> None:
    data = Path(__file__).parents[1] / "configs/data"
    own, of_32_khz = (yaml.safe_load((data / name).read_text())["split"] for name in ("own.yaml", "own_32k.yaml"))
    assert own == of_32_khz and own["shares_of"] == "recordings"


def test_the_manual_cuts_own_recordings_into_the_windows_of_the_other_method() -> None:
    folder = Path(__file__).parents[1]
    other = yaml.safe_load((folder / "configs/data/own_32k.yaml").read_text())
    told = re.search(r'ARGS="(--data\.corpus\.init_args\.window_s.+)"', (folder / "docs/stages.md").read_text())[1]
    given = dict(re.findall(r"--data\.(?:corpus\.init_args\.)?(\w+)=([\d.]+)", told))
    wanted = {key: other["corpus"]["init_args"][key] for key in ("window_s", "hop_s")} | {"clip_s": other["clip_s"]}
    assert {key: float(value) for key, value in given.items()} == wanted
    assert f"finetune-{digest(*told.split())[:6]}" in (folder / "docs/stages.md").read_text()


@pytest.mark.parametrize("seed", range(20))
def test_holdout_has_every_class_in_every_part_at_about_the_shares_asked_for(seed: int) -> None:
    labels, groups = random_corpus(seed)
    parts = assign(Split(), labels, groups)
    for name in set(labels):
        assert set(parts[labels == name]) == {"train", "val", "test"}
    largest = max(np.unique(groups, return_counts=True)[1]) / len(labels)
    for part, share in {"train": 0.65, "val": 0.15, "test": 0.2}.items():
        assert abs(np.mean(parts == part) - share) < 0.05 + largest


def test_holdout_places_three_groups_of_a_class_one_by_one() -> None:
    labels = np.array(["rare"] * 3 + ["common"] * 30)
    groups = np.array([f"s{i}" for i in range(33)])
    for seed in range(20):
        assert sorted(assign(Split(seed=seed), labels, groups)[:3]) == ["test", "train", "val"]


def test_holdout_depends_on_the_seed_and_stratifies_single_label_subjects() -> None:
    labels = np.array(["ill"] * 100 + ["well"] * 900)
    groups = np.array([f"s{i // 5}" for i in range(1000)])
    first, second = (assign(Split(seed=seed), labels, groups) for seed in (0, 1))
    assert not np.array_equal(first, second)
    for part in ("train", "val", "test"):
        assert np.mean(labels[first == part] == "ill") == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("seed", range(10))
def test_holdout_gives_each_part_its_share_of_the_subjects_too(seed: int) -> None:
    """One of twenty ill infants has nine tenths of their clips: by clips alone it would be the training part."""
    rng = np.random.default_rng(seed)
    labels = np.array(["ill"] * 1990 + ["well"] * 600)
    groups = np.array(["i0"] * 1800 + [f"i{1 + i // 10}" for i in range(190)] + [f"w{i // 15}" for i in range(600)])
    order = rng.permutation(len(labels))
    labels, groups = labels[order], groups[order]
    parts = assign(Split(val=0.15, test=0.3, seed=seed), labels, groups)
    ill = {part: len(set(groups[(parts == part) & (labels == "ill")])) for part in ("train", "val", "test")}
    assert ill["train"] >= 9 and ill["val"] >= 3 and ill["test"] >= 5
    assert np.all(parts[groups == "i0"] == "train")


def test_too_few_groups_are_refused_with_class_and_counts() -> None:
    labels = np.array(["pain"] * 7 + ["hunger"] * 30)
    groups = np.array([f"s{i % 2}" for i in range(7)] + [f"s{i}" for i in range(30)])
    with pytest.raises(UserError, match=r"at least 3 subjects of each class, .*pain \(2 subjects, 7 clips\).*classes"):
        assign(Split(), labels, groups)
    with pytest.raises(
        UserError, match=r"only pain \(2 subjects, 7 clips\); it takes more subjects, and two classes at"
    ):
        assign(Split(), labels[:7], groups[:7])
    with pytest.raises(UserError, match=r"it takes more subjects$"):
        assign(Split(), np.full(7, ""), groups[:7])
    with pytest.raises(UserError, match=r"5-fold.*pain \(2 sites, 7 clips\)"):
        assign(Split(scheme="kfold", group="site"), labels, groups)


def test_a_division_that_cannot_be_is_refused() -> None:
    # every pair of the four subjects shares a class of three groups: no dealing can serve all classes
    trios = {"a": "123", "b": "124", "c": "134", "d": "234"}
    labels = np.array([name for name, subjects in trios.items() for _ in subjects])
    groups = np.array([subject for subjects in trios.values() for subject in subjects])
    with pytest.raises(UserError, match="no division of 4 subjects"):
        assign(Split(), labels, groups)


def test_folds_test_every_clip_once_and_repeats_differ() -> None:
    labels, groups = random_corpus(0)
    tested = sum((assign(Split(scheme="kfold", fold=k), labels, groups) == "test").astype(int) for k in range(5))
    assert np.all(tested == 1)
    repeats = [assign(Split(scheme="kfold", repeat=repeat), labels, groups) == "test" for repeat in (0, 1)]
    assert not np.array_equal(*repeats)


BABIES = [  # Zhao's ten, clips of each of four reasons
    *([35, 0, 0, 9], [30, 6, 4, 12], [14, 144, 24, 0], [20, 1, 6, 2], [56, 76, 38, 14], [14, 28, 2, 106]),
    *([14, 12, 28, 17], [20, 31, 30, 20], [0, 14, 9, 0], [2, 0, 11, 3]),
]


def unequal(n: int) -> np.ndarray:
    return np.random.default_rng(0).poisson(np.random.default_rng(1).lognormal(2.5, 0.8, (n, 1)) * [0.6, 0.4]) + 1


@pytest.mark.parametrize("counts", [np.array(BABIES), unequal(41), unequal(200)], ids=["Zhao", "41 infants", "200"])
def test_every_repeat_is_another_division_and_about_as_balanced(counts) -> None:
    of_repeats = [fold_of_groups(counts, 5, 0, repeat) for repeat in range(10)]
    partitions = {frozenset(frozenset(np.flatnonzero(fold == k)) for k in range(5)) for fold in of_repeats}
    assert len(partitions) == 10 and all(len(partition) == 5 for partition in partitions)
    group, label = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fold, (_, tested) in enumerate(splitter.split(label, label, group)):
        assert set(group[tested]) == set(np.flatnonzero(of_repeats[0] == fold))  # scikit-learn's comes first
    bound = max(1.5 * imbalance(counts, of_repeats[0], 5), 0.01)
    assert all(imbalance(counts, fold, 5) <= bound for fold in of_repeats)


def test_more_repeats_than_divisions_are_refused_with_their_number() -> None:
    """Four alike subjects are paired in three ways."""
    counts = np.full((4, 2), 5)
    assert len({fold_of_groups(counts, 2, 0, repeat).tobytes() for repeat in range(3)}) == 3
    with pytest.raises(UserError, match="found only 3 different balanced divisions of 4 subjects into 2 folds"):
        fold_of_groups(counts, 2, 0, 3, "subject")


def test_hash_is_the_published_formula_and_does_not_depend_on_who_else_is_there() -> None:
    groups = np.array([f"chillanto:{i:04}" for i in range(200)])
    labels = np.where(np.arange(200) % 2, "ill", "well")
    parts = assign(Split(scheme="hash", val=0.05, test=0.4, seed=3), labels, groups)
    for i, part in enumerate(parts):
        percentage = (int(hashlib.sha1(f"{i:04}".encode()).hexdigest(), 16) % (2**27)) * (100.0 / (2**27 - 1))
        assert part == ("val" if percentage < 5 else "test" if percentage < 45 else "train")
    few = slice(0, 120)
    assert np.array_equal(assign(Split(scheme="hash", val=0.05, test=0.4), labels[few], groups[few]), parts[few])
    bare = np.array([group.removeprefix("chillanto:") for group in groups])
    assert np.array_equal(assign(Split(scheme="hash", val=0.05, test=0.4), labels, bare), parts)


def test_hash_refuses_a_part_without_a_class() -> None:
    labels, groups = np.array(["ill"] * 3 + ["well"] * 50), np.array([f"s{i % 53}" for i in range(53)])
    with pytest.raises(UserError, match=r"by their hashes, no group of ill falls to (val|test|train)"):
        assign(Split(scheme="hash", val=0.05, test=0.05), labels, groups)
    assert "val" not in assign(Split(scheme="hash", val=0, test=0.4), labels[3:], groups[3:])


def test_leave_one_out_tests_the_groups_in_sorted_order() -> None:
    labels = np.array(list("ab") * 12)
    groups = np.array([f"speaker{i // 4}" for i in range(24)])
    for fold in range(6):
        parts = assign(Split(scheme="leave_one_out", fold=fold), labels, groups)
        assert groups_of(parts, groups)["test"] == {f"speaker{fold}"}
        assert len(groups_of(parts, groups)["val"]) == 1
    with pytest.raises(UserError, match="between 0 and 5"):
        assign(Split(scheme="leave_one_out", fold=6), labels, groups)


def test_column_is_taken_as_it_is_and_val_carved_from_train_by_group() -> None:
    labels, groups = random_corpus(1)
    own = np.where(np.random.default_rng(0).random(len(labels)) < 0.3, "test", "train")
    own[:3] = ""
    split = Split(column="fold")
    parts = assign(split, labels, groups, own)
    assert split.scheme == "column"
    assert np.array_equal(parts == "test", own == "test")
    assert np.all(parts[:3] == "")
    divided = groups_of(parts, groups)
    assert divided["val"] and not divided["val"] & divided["train"]
    own[10:40] = np.array(["validation", "dev", "valid"] * 10)
    assert np.array_equal(assign(split, labels, groups, own) == "val", np.isin(own, ["validation", "dev", "valid"]))
    assert not np.any(assign(Split(column="fold", val=0), labels, groups, np.full(len(labels), "train")) == "val")


@pytest.mark.parametrize(("values", "named"), [("eval train", "'eval'"), ("test test", "no clip for train")])
def test_column_refuses_other_values(values: str, named: str) -> None:
    with pytest.raises(UserError, match=f"'fold'.*{named}"):
        assign(Split(column="fold"), np.array(["a", "b"]), np.array(["s", "t"]), np.array(values.split()))


@pytest.mark.parametrize("split", [*SCHEMES, Split(column="own")], ids=lambda split: split.scheme)
def test_unlabelled_clips_follow_their_group(split: Split) -> None:
    labels, groups = random_corpus(2)
    own = np.where([group[-1] in "12" for group in groups], "test", "train")
    parts_of_group = dict(zip(groups, assign(split, labels, groups, own), strict=True))
    extra_groups = np.array([*np.unique(groups), "stranger"])
    all_labels = np.concatenate([labels, np.full(len(extra_groups), "")])
    all_own = np.concatenate([own, np.full(len(extra_groups), "train")])
    parts = assign(split, all_labels, np.concatenate([groups, extra_groups]), all_own)
    for group, part in zip(extra_groups, parts[len(labels) :], strict=True):
        assert part == parts_of_group.get(group, "train")


def test_external_corpus_is_tested_whole() -> None:
    parts = assign(Split(scheme="external"), np.array(["a", "a", "b", ""]), np.array(["s", "s", "t", "u"]))
    assert parts.tolist() == ["test"] * 4


def test_a_corpus_without_any_label_is_divided_as_one_class() -> None:
    groups = np.array([f"s{i % 40}" for i in range(400)])
    parts = assign(Split(), np.full(400, ""), groups)
    assert {part: len(names) for part, names in groups_of(parts, groups).items()} == {"train": 26, "val": 6, "test": 8}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"scheme": "column"}, "split.column"),
        ({"val": 0.5, "test": 0.5}, "less than 1"),
        ({"val": -0.1}, "negative"),
        ({"scheme": "kfold", "fold": 5}, "fold 5"),
        ({"scheme": "leave_one_out", "column": "split"}, "contradict"),
    ],
)
def test_contradicting_settings_are_refused(arguments: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Split(**arguments)


@pytest.mark.parametrize("seed", range(10))
def test_label_fractions_are_nested_counted_in_groups_and_keep_every_class(seed: int) -> None:
    labels, groups = random_corpus(seed)
    smaller: set[str] = set()
    for fraction in (0.01, 0.1, 0.25, 0.5, 0.75, 1.0):
        kept = fraction_of_groups(labels, groups, fraction, seed=seed)
        chosen = set(groups[kept])
        assert np.array_equal(kept, np.isin(groups, list(chosen)))  # whole groups
        assert smaller <= chosen
        assert set(labels[kept]) == set(labels)
        if fraction >= 0.25:
            assert len(chosen) == round(fraction * len(set(groups)))
        smaller = chosen
    assert len(smaller) == len(set(groups))


def test_label_fraction_is_stratified_seeded_and_free_of_row_order() -> None:
    labels = np.array(["ill"] * 200 + ["well"] * 800)
    groups = np.array([f"s{i // 5}" for i in range(1000)])
    kept = fraction_of_groups(labels, groups, 0.25, seed=0)
    assert {name: int(kept[labels == name].sum()) for name in ("ill", "well")} == {"ill": 50, "well": 200}
    assert not np.array_equal(kept, fraction_of_groups(labels, groups, 0.25, seed=1))
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(fraction_of_groups(labels[order], groups[order], 0.25, seed=0), kept[order])
    with pytest.raises(UserError, match="label_fraction"):
        fraction_of_groups(labels, groups, 0.0, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_per_class_is_exact_nested_and_spread_over_subjects(seed: int) -> None:
    labels, groups = random_corpus(seed)
    labels = np.concatenate([labels, [""]])
    groups = np.concatenate([groups, ["subject0"]])
    available = min(np.sum(labels == name) for name in set(labels) - {""})
    before = np.zeros(len(labels), dtype=bool)
    for n in range(1, available + 1):
        kept = clips_per_class(labels, groups, n, seed=seed)
        assert np.all(kept[before])
        for name in set(labels) - {""}:
            mine = labels == name
            assert kept[mine].sum() == n
            assert len(set(groups[mine & kept])) == min(n, len(set(groups[mine])))
        before = kept
    assert before[-1]
    with pytest.raises(
        UserError, match=rf"not {available + 1} training clips of class\d \(\d+ groups, {available} clips"
    ):
        clips_per_class(labels, groups, available + 1, seed=seed)


def test_per_class_takes_subjects_in_turn() -> None:
    labels = np.full(12, "cry")
    groups = np.array(["a"] * 9 + ["b"] * 2 + ["c"])
    kept = clips_per_class(labels, groups, 6, seed=0)
    assert {name: int(kept[groups == name].sum()) for name in "abc"} == {"a": 3, "b": 2, "c": 1}


def test_a_share_of_no_labels_is_refused() -> None:
    with pytest.raises(UserError, match="no training clip has a label"):
        fraction_of_groups(np.array(["", ""]), np.array(["a", "b"]), 0.5, seed=0)


def test_exclusions_are_read_without_comments_and_refused_when_empty_or_missing(tmp_path: Path) -> None:
    listed = tmp_path / "held_back.txt"
    listed.write_text("# kept for acceptance\nward:baby 1\n\n  ward:baby2  # twin\n", encoding="utf-8")
    assert read_exclusions(listed) == {"ward:baby 1", "ward:baby2"}
    listed.write_text("ward:baby 1\nward:baby2\n", encoding="utf-8-sig")  # as editors on Windows write it
    assert read_exclusions(listed) == {"ward:baby 1", "ward:baby2"}
    listed.write_text("# nobody\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"held_back\.txt names no subject"):
        read_exclusions(listed)
    with pytest.raises(UserError, match=r"absent\.txt"):
        read_exclusions(tmp_path / "absent.txt")


def test_exclusions_may_be_those_whom_a_run_tests(tmp_path: Path) -> None:
    table = tmp_path / "predictions.csv"
    table.write_text("clip,subject,split\na,ward:007,test\nb,ward:NA,test\nc,ward:1,val\nd,ward:007,test\n")
    assert read_exclusions(table) == {"ward:007", "ward:NA"}
    table.write_text("clip,subject,split\nc,ward:1,val\n")
    with pytest.raises(UserError, match=r"predictions\.csv names no subject"):
        read_exclusions(table)
    table.write_text("ward:1\nward:2\n")
    with pytest.raises(UserError, match=r"predictions\.csv has no column split and subject; .* is a \.txt"):
        read_exclusions(table)
    for damaged in (b"", b"\xff\xfe", b'subject,split\n"ward:1,test\n'):
        table.write_bytes(damaged)
        with pytest.raises(UserError, match=r"predictions\.csv cannot be read") as error:
            read_exclusions(table)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("split", SCHEMES, ids=lambda split: f"{split.scheme}-{split.seed + split.repeat}")
def test_validation_may_join_the_training_part_and_the_test_part_stays(split: Split) -> None:
    labels, groups = random_corpus(0)
    parts = assign(split, labels, groups)
    joined = assign(replace(split, val_in_train=True), labels, groups)
    assert (parts == "val").any() and np.array_equal(joined, np.where(parts == "val", "train", parts))
