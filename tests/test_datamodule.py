"""Batches: the crop that is a shift, the order that is a function of seed and epoch, the subsets of labels."""

import numpy as np
import pandas as pd
import pytest
import torch

from cry_lightning.callbacks.records import LineageRecorder
from cry_lightning.console import UserError
from cry_lightning.corpora import Manifest
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.loader import EpochOrder
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import Caching, Sampling, Subset
from cry_lightning.features import MFCC
from cry_lightning.tasks.stage_data import StageData


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def make(tones, cache_dir):
    def make(**arguments) -> CryDataModule:
        arguments = {
            "clip_s": 0.4,
            "shift_s": 0.05,
            "sampling": Sampling(8),
            "split": Split(val=0.2, test=0.4),
        } | arguments
        data = CryDataModule(Manifest(tones), MFCC(), cache=Caching(cache_dir), **arguments)
        data.prepare_data()
        data.setup()
        return data

    return make


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return list(loader)


@pytest.mark.parametrize("balanced", [False, True])
def test_few_rows_are_visited_several_times_where_an_epoch_has_a_least_number_of_batches(balanced):
    labels = torch.tensor([0] * 5 + [1] * 2)
    positions = EpochOrder(labels, balanced, batch_size=4, min_batches=5).positions()
    assert len(positions) == 20
    counts = torch.bincount(positions, minlength=7)
    drawn = torch.bincount(labels[positions]) / 20
    assert (0.2 < drawn[0] < 0.8) if balanced else counts.max() - counts.min() <= 1
    ranks = [EpochOrder(labels, balanced, 0, rank, 2, batch_size=4, min_batches=5) for rank in (0, 1)]
    assert [len(order) for order in ranks] == [20, 20] == [len(order.positions()) for order in ranks]
    enough = EpochOrder(labels, balanced, batch_size=4, min_batches=1).positions()
    assert torch.equal(enough, EpochOrder(labels, balanced).positions())


def test_no_subject_is_in_two_parts(make):
    data = make()
    train, val, test = (set(data.subjects(part)) for part in ("train", "val", "test"))
    assert train and val and test
    assert not (train & val or train & test or val & test)


def test_batches_have_the_agreed_form(make):
    data = make()
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"features", "label", "index"}
    assert (
        batch["features"].shape == (8, 1, 40, data.feature.n_frames(0.4)) and batch["features"].dtype == torch.float32
    )
    assert [data.classes[label] for label in batch["label"]] == [data.clips[row].label for row in batch["index"]]


def test_it_has_what_stages_ask_of_their_data(make):
    data = make()
    asked = {*StageData.__annotations__, *(name for name in vars(StageData) if not name.startswith("_"))}
    assert len(asked) > 15 and not [name for name in asked if not hasattr(data, name)]


def test_random_crop_equals_shifting_the_waveform(make):
    """A crop that starts k frames early is the feature of the sound k hops later, where the windows lie inside it."""
    data = make()
    feature, n_frames = data.feature, data.n_frames
    wide = torch.randn(1, round(0.5 * 8000))
    cached = feature(wide)
    inside = slice(2, n_frames - 2)  # a window of 240 samples reaches less than two hops of 80 beyond its centre
    for frames in (0, 3, 5, 10):
        shifted = feature(wide[:, frames * feature.hop_length :][:, : round(0.4 * 8000)])
        cropped = cached[..., frames : frames + n_frames]
        torch.testing.assert_close(cropped[..., inside], shifted[..., inside], rtol=0, atol=1e-4)


def test_training_crops_at_random_and_testing_at_the_centre(make):
    data = make()
    cached = {row: data.features.gather(torch.tensor([row]))[0] for row in range(len(data.clips))}
    spare = cached[0].shape[-1] - data.n_frames
    assert spare == 10
    starts = []
    for batch in epoch(data.train_dataloader(), 0):
        for feature, row in zip(batch["features"], batch["index"].tolist(), strict=True):
            windows = cached[row].unfold(-1, data.n_frames, 1).permute(2, 0, 1, 3)
            starts.append(int((windows == feature).flatten(1).all(1).nonzero()))
    assert len(set(starts)) > 5
    for batch in data.val_dataloader():
        for feature, row in zip(batch["features"], batch["index"].tolist(), strict=True):
            assert torch.equal(feature, cached[row][..., 5 : 5 + data.n_frames])


def test_order_is_a_function_of_seed_and_epoch(make):
    first, again, other = make(), make(), make(seed=1)
    rows = [[batch["index"].tolist() for batch in epoch(data.train_dataloader(), 3)] for data in (first, again, other)]
    assert rows[0] == rows[1] != rows[2]
    assert rows[0] != [batch["index"].tolist() for batch in epoch(first.train_dataloader(), 4)]
    assert sorted(row for batch in rows[0] for row in batch) == first.rows("train").tolist()


def test_interrupted_epoch_goes_on_where_it_stopped(make):
    data = make()
    whole = epoch(data.train_dataloader(), 2)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(2)
    begun = iter(loader)
    next(begun), next(begun)
    resumed = data.train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    rest = epoch(resumed, 2)
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(a["features"], b["features"]) for a, b in zip(rest, whole[2:], strict=True))
    assert len(epoch(resumed, 3)) == len(whole)


def test_an_epoch_left_early_is_not_continued_by_the_next(make):
    """`limit_train_batches` and `limit_val_batches` leave their loops so."""
    data = make()
    train, val = data.train_dataloader(), data.val_dataloader()
    train.sampler.set_epoch(0)
    next(iter(train)), next(iter(val))
    assert torch.equal(epoch(train, 1)[0]["index"], epoch(data.train_dataloader(), 1)[0]["index"])
    assert torch.equal(next(iter(val))["index"], val.rows[:8])


def test_excluded_subjects_that_are_not_there_are_told(make, tmp_path, caplog):
    known = make().subjects("train")[0]
    (tmp_path / "exclude.txt").write_text(f"007\n{known}\n")
    data = make(subset=Subset(exclude_subjects=str(tmp_path / "exclude.txt")))
    like = min(clip.subject for clip in data.clips)
    assert "1 of the 2 subjects in" in caplog.text
    assert f"are none of this corpus, first 007; its ids are like {like}" in caplog.text


def test_a_class_that_is_not_trained_on_is_told(tones, tmp_path, caplog):
    """Its infants are all in the test part of a division of the manifest's own."""
    table = pd.read_csv(tones)
    table["path"] = str(tones.parent) + "/" + table["path"]
    of_one = table["subject"] == "baby00"
    table["part"] = np.where(of_one, "test", "train")
    table.loc[of_one & (table["label"] == "high"), "label"] = "rare"
    table.to_csv(tmp_path / "manifest.csv", index=False)
    corpus, split = Manifest(tmp_path / "manifest.csv"), Split(column="part")
    data = CryDataModule(corpus, MFCC(), split, clip_s=0.4, cache=Caching(str(tmp_path)))
    data.prepare_data()
    data.setup()
    assert "no clip to train on of the class rare, which no network can learn so; leave it out by" in caplog.text
    assert LineageRecorder("finetune", tmp_path).own_stage(data).untrained == ["rare"]


def test_a_probe_has_labels(make):
    with pytest.raises(UserError, match="the probe scores labels"):
        make(probe=make(subset=Subset(unlabelled=True)))


def test_ranks_share_an_epoch_evenly():
    labels = torch.zeros(11, dtype=torch.long)
    orders = [EpochOrder(labels, seed=5, rank=rank, world_size=2) for rank in (0, 1)]
    taken = [order.positions().tolist() for order in orders]
    assert len(taken[0]) == len(taken[1]) == 6
    assert set(taken[0]) | set(taken[1]) == set(range(11))
    assert len(set(taken[0]) & set(taken[1])) <= 1


@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_by_subject_hold_as_few_subjects_as_can_be(world_size):
    subjects = torch.arange(40).remainder(2).mul(torch.arange(40) < 36) + 2 * (torch.arange(40) >= 36)  # 18, 18 and 4
    orders = [EpochOrder(subjects, False, 3, rank, world_size, subjects.numpy(), 4) for rank in range(world_size)]
    seen = []
    for epoch in range(6):
        taken = []
        for order in orders:
            order.set_epoch(epoch)
            taken.append(order.positions().split(4))
        joint = [torch.cat(parts) for parts in zip(*taken, strict=True)]
        assert sorted(torch.cat(joint).tolist()) == list(range(40))
        mixed = [batch for batch in joint if subjects[batch].unique().numel() > 1]
        assert len(mixed) <= 2  # where one subject ends and the next begins
        seen.append(torch.cat(joint).tolist())
    assert len({tuple(order) for order in seen}) == 6


def test_batches_by_subject_are_made_of_the_training_part(make):
    data = make(sampling=Sampling(4, by_subject=True))
    batches = epoch(data.train_dataloader(), 0)
    n_subjects = [len({data.clips[row].subject for row in batch["index"].tolist()}) for batch in batches]
    assert sum(n == 1 for n in n_subjects) > len(batches) / 2
    mixed = epoch(make(sampling=Sampling(4)).train_dataloader(), 0)
    assert sum(len({data.clips[row].subject for row in batch["index"].tolist()}) == 1 for batch in mixed) <= 1
    with pytest.raises(UserError, match="cannot go with data"):
        Sampling(by_subject=True, balanced=True)


def test_balanced_sampling_draws_rare_classes_as_often():
    labels = torch.tensor([0] * 950 + [1] * 50)
    drawn = labels[EpochOrder(labels, balanced=True).positions()]
    assert abs(drawn.float().mean() - 0.5) < 0.06  # four standard deviations


def test_class_weights_are_inverse_frequencies(make):
    data = make(sampling=Sampling(8, class_weights=True))
    assert torch.allclose(data.loss_weights(), torch.ones(2))
    data.labels[data.rows("train")[:4]] = 1 - data.labels[data.rows("train")[:4]]
    counts = torch.bincount(data.labels[data.rows("train")])
    weights = data.loss_weights()
    assert torch.isclose(weights[0] / weights[1], counts[1] / counts[0])
    assert torch.isclose(weights.mean(), torch.tensor(1.0))


def test_any_column_can_be_the_group(make):
    data = make(split=Split(group="site", val=0.3, test=0.3))
    sites = [{data.clips[row].columns["site"] for row in data.rows(part).tolist()} for part in ("train", "val", "test")]
    assert all(sites) and not (sites[0] & sites[1] or sites[0] & sites[2] or sites[1] & sites[2])


def test_unknown_column_is_named_with_those_there_are(make):
    with pytest.raises(UserError, match=r"no column 'clinic'.*site"):
        make(split=Split(group="clinic"))


def test_excluded_subjects_are_in_neither_training_nor_validation(make, tmp_path):
    subjects = make().subjects("train")
    (tmp_path / "exclude.txt").write_text(f"{subjects[0]}\n# a comment\n")
    left = make(subset=Subset(exclude_subjects=str(tmp_path / "exclude.txt")))
    assert left.subjects("train") == subjects[1:]


def test_several_lists_of_exclusions_add_up(make, tmp_path):
    """One as text; one as the predictions of a later stage, whose tested subjects alone count."""
    subjects = make().subjects("train")
    (tmp_path / "exclude.txt").write_text(f"{subjects[0]}\n")
    (tmp_path / "predictions.csv").write_text(f"subject,split\n{subjects[1]},test\n{subjects[2]},val\n")
    left = make(subset=Subset(exclude_subjects=[str(tmp_path / name) for name in ("exclude.txt", "predictions.csv")]))
    assert left.subjects("train") == subjects[2:]


def test_clips_without_a_label_go_where_their_subject_goes_and_are_not_tested(tones, tmp_path):
    lines = tones.read_text().splitlines()
    blank = [lines[0], *(line.replace(",low,", ",,") for line in lines[1:])]
    (tmp_path / "manifest.csv").write_text("\n".join(blank).replace("\nhigh", f"\n{tones.parent}/high"))
    text = (tmp_path / "manifest.csv").read_text().replace("\nlow", f"\n{tones.parent}/low")
    (tmp_path / "manifest.csv").write_text(text)
    own = {"subset": Subset(unlabelled=True), "cache": Caching(str(tmp_path / "cache"))}
    data = CryDataModule(Manifest(tmp_path / "manifest.csv"), MFCC(), Split(val=0.2, test=0.2), 0.4, **own)
    data.prepare_data()
    data.setup()
    parts = {part: set(data.subjects(part)) for part in ("train", "val", "test")}
    assert not (parts["train"] & parts["val"] or parts["train"] & parts["test"] or parts["val"] & parts["test"])
    blank = {part: {clip.label for clip in data.clips_of(part)} for part in parts}
    assert blank == {"train": {"high", None}, "val": {"high", None}, "test": {"high"}}


def test_probe_is_served_behind_the_validation_part(make, tones):
    probe = make()
    data = make(probe=probe)
    data.probe.setup()
    loaders = data.val_dataloader()
    assert [len(loader.rows) for loader in loaders] == [len(rows) for rows in map(data.rows, ("val", "train", "val"))]
    with pytest.raises(UserError, match="the very feature"):
        CryDataModule(Manifest(tones), MFCC(n_mels=20, n_mfcc=20), probe=probe)


def test_the_parts_of_a_probe_are_told_as_such(tones, tmp_path, caplog):
    caplog.set_level("INFO")
    own = {"split": Split(val=0.2, test=0.2), "clip_s": 0.4, "cache": Caching(str(tmp_path / "cache"))}
    data = CryDataModule(Manifest(tones), MFCC(), probe=CryDataModule(Manifest(tones), MFCC(), **own), **own)
    data.prepare_data()
    data.setup("fit")
    told = [text.partition(":")[0] for text in caplog.messages if " subjects (" in text]
    assert told == ["train", "val", "test", "probe, train", "probe, val", "probe, test"]


def test_label_fraction_counts_subjects(make):
    whole, half = make(), make(subset=Subset(label_fraction=0.5))
    assert set(half.subjects("train")) < set(whole.subjects("train"))
    assert half.subjects("test") == whole.subjects("test")


def test_per_class_counts_clips_over_subjects(make):
    data = make(subset=Subset(per_class=3))
    assert np.bincount(data.labels[data.rows("train")]).tolist() == [3, 3]
    assert len(data.subjects("train")) >= 3


def test_bad_clip_is_in_no_part(tones, tmp_path):
    broken = tmp_path / "corpus"
    broken.mkdir()
    for wav in tones.parent.glob("*.wav"):
        (broken / wav.name).write_bytes(wav.read_bytes())
    (broken / "low_00_0.wav").write_bytes(b"")
    (broken / "manifest.csv").write_text(tones.read_text())
    data = CryDataModule(Manifest(broken / "manifest.csv"), MFCC(), clip_s=0.4, cache=Caching(str(tmp_path / "cache")))
    data.prepare_data()
    data.setup()
    row = [clip.path for clip in data.clips].index("low_00_0.wav")
    assert data.parts[row] == "" and "empty" in data.features.bad[row]


def test_balanced_and_unlabelled_contradict(tones):
    with pytest.raises(UserError, match="balanced"):
        CryDataModule(Manifest(tones), MFCC(), subset=Subset(unlabelled=True), sampling=Sampling(balanced=True))
