"""`embed`: the encoder's own numbers beside what is known of the clips, and a map of them."""

import hashlib
import json
import os
from pathlib import Path
from typing import get_args

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from made import RATE
from matplotlib.colors import to_rgba

from cry_lightning.__main__ import DONE_IN_PART, main, run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.evaluation.verification import read_embeddings
from cry_lightning.inference import embed


def embedded(ckpt: Path, *paths: Path, out: Path, args: tuple[str, ...] = ()) -> dict:
    """What the file holds: datasets and attributes."""
    caches = f"--data.cache.folder={out.parent / 'cache'}"
    command("embed", ["--ckpt", str(ckpt), *map(str, paths), "--out", str(out), caches, *args])
    with h5py.File(out) as file:
        columns = {
            name: values[()] if values.dtype.kind == "f" else values.asstr()[()] for name, values in file.items()
        }
        return columns | dict(file.attrs)


@pytest.fixture
def strangers(tmp_path) -> Path:
    """A manifest of four clips of two infants that no model has heard; weight in grams is known of one."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    lines = ["path,label,subject,grams"]
    for take in range(4):
        sound = np.random.default_rng(take).standard_normal(RATE // 2) / 10
        soundfile.write(folder / f"{take}.wav", sound, RATE)
        lines.append(f"{take}.wav,{('pain', '')[take % 2]},stranger{take // 2},{(3100, '')[take // 2]}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.sampled(1)
@pytest.mark.parametrize("task", ["Classifier", "SimCLR"])
def test_embeddings_are_those_of_the_stage_on_its_own_data(stage, tones, tmp_path, task):
    config = stage(normalize={"class_path": "cry_lightning.tasks.MeanSubtraction"})
    config.write_text(config.read_text().replace("Classifier", task))
    monitor = ["--checkpoint.monitor=val/loss", "--checkpoint.mode=min", "--trainer.max_epochs=1"]
    run = cli.main(["fit", "--config", str(config), *monitor, "--data.corpus.init_args.window_s=0.2"])
    checkpoint = torch.load(run.run_folder.best, weights_only=True)
    run.model.load_state_dict(checkpoint["state_dict"])
    file = embedded(run.run_folder.best, tones, out=tmp_path / "e.h5")
    loader = run.datamodule.loader("test")
    with torch.inference_mode():
        expected = torch.cat([run.model.eval().embed(batch["features"]) for batch in loader]).numpy()
    rows = {name: row for row, name in enumerate(file["clip"])}
    own = [rows[clip.name] for clip in run.datamodule.clips_of("test")]
    assert file["embeddings"].shape == (96 * 2, 4) and file["embeddings"].dtype == np.float32
    assert np.abs(file["embeddings"][own] - expected).max() < 1e-5
    assert (tmp_path / "e.png").exists()


@pytest.mark.slow
def test_columns_and_origin_of_every_clip(pretrained, strangers, tmp_path):
    file = embedded(pretrained, strangers, out=tmp_path / "e.h5")
    assert file["clip"].tolist() == [f"{take}.wav#0.000-0.400" for take in range(4)]
    assert file["recording"].tolist() == [f"{take}.wav" for take in range(4)]
    assert file["label"].tolist() == ["pain", "", "pain", ""]
    assert file["subject"].tolist() == [f"manifest:stranger{take // 2}" for take in range(4)]
    assert file["grams"].tolist() == ["3100", "3100", "", ""]
    assert file["start_s"].tolist() == [0.0] * 4 and file["duration_s"].tolist() == [0.4] * 4
    assert file["checkpoint_sha256"] == hashlib.sha256(pretrained.read_bytes()).hexdigest()
    front_end = json.loads(file["front_end"])
    assert front_end["feature"]["class_path"].endswith("MFCC") and front_end["clip_s"] == 0.4
    assert (file["lineage"], file["lineage_reason"]) == ("CLEAN", "")


@pytest.mark.slow
def test_data_that_the_encoder_has_heard_is_stamped(pretrained, strangers, tones, tmp_path):
    file = embedded(
        pretrained, tones, strangers, out=tmp_path / "both.h5", args=("--data.corpus.init_args.window_s=0.5",)
    )
    told = "40 of 100 tested clips trained on (found by content)"  # in windows here, whole in the training
    assert file["lineage"] == "LEAKY" and told in file["lineage_reason"]
    assert file["clip"][0].startswith(f"{tones.parent.name}/low_00_0.wav#")
    assert file["recording"][-1] == f"{strangers.name}/3.wav"
    assert len(file["clip"]) == 100 and set(file["site"]) == {"site0", "site1", "site2", ""}
    no_windows = [f"--data.corpus.init_args.{name}=null" for name in ("window_s", "hop_s", "min_active_db")]
    whole = embedded(pretrained, tones, out=tmp_path / "whole.h5", args=no_windows)
    assert "tested clips trained on (found by content)" in whole["lineage_reason"]


@pytest.mark.slow
def test_front_end_is_the_checkpoints_whatever_the_data_say(pretrained, strangers, tmp_path):
    data = tmp_path / "data.yaml"
    corpus = {"class_path": "cry_lightning.corpora.Manifest", "init_args": {"root": "nowhere.csv"}}
    feature = {"class_path": "cry_lightning.features.LogMel", "init_args": {"sample_rate": 16000}}
    data.write_text(yaml.safe_dump({"corpus": corpus, "feature": feature, "clip_s": 3.0}))
    args = (f"--data.corpus.init_args.root={strangers / 'manifest.csv'}", "--data.corpus.init_args.window_s=0.4")
    from_yaml = embedded(pretrained, data, out=tmp_path / "yaml.h5", args=args)
    plain = embedded(pretrained, strangers, out=tmp_path / "plain.h5")
    assert np.array_equal(from_yaml["embeddings"], plain["embeddings"])


def test_bad_recordings_are_left_out_by_name(pretrained, strangers, tmp_path, caplog):
    (strangers / "2.wav").write_bytes(b"no sound")
    given = ["--ckpt", str(pretrained), str(strangers), "--out", str(tmp_path / "e.h5")]
    assert main(["embed", *given, f"--data.cache.folder={tmp_path / 'cache'}"]) == DONE_IN_PART
    table, embeddings = read_embeddings(tmp_path / "e.h5", ["recording"])
    assert table["recording"].tolist() == ["0.wav", "1.wav", "3.wav"] and len(embeddings) == 3
    assert "2.wav: cannot be decoded" in caplog.text


def test_names_that_are_no_utf_8_are_kept_as_they_are(pretrained, strangers, tmp_path):
    name = os.fsdecode(b"b\xe9b\xe9.wav")
    (strangers / "0.wav").rename(strangers / name)
    (strangers / "manifest.csv").unlink()
    given = ["--ckpt", str(pretrained), str(strangers), "--out", str(tmp_path / "e.h5")]
    command("embed", [*given, f"--data.cache.folder={tmp_path / 'cache'}"])
    table, _ = read_embeddings(tmp_path / "e.h5", ["recording"])
    assert table["recording"].tolist() == ["1.wav", "2.wav", "3.wav", name]


def test_too_few_clips_for_a_map_are_embedded_all_the_same(pretrained, strangers, tmp_path, caplog):
    manifest = strangers / "manifest.csv"
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:3]) + "\n")
    file = embedded(pretrained, manifest, out=tmp_path / "e.h5")
    assert len(file["embeddings"]) == 2 and "no map is drawn" in caplog.text
    assert not (tmp_path / "e.png").exists()


def test_what_is_refused(pretrained, strangers, tmp_path):
    (tmp_path / "there.png").write_text("dear to somebody")
    published = tmp_path / "published.ckpt"
    torch.save({"state_dict": {"encoder.weight": torch.zeros(1)}, "source": {"publisher": "panns"}}, published)
    for ckpt, out, args, told in [
        (published, "e.h5", (), "published weights alone, which do not tell their network"),
        (pretrained, "e.parquet", (), "written as HDF5"),
        (pretrained, "there.h5", (), r"there\.png exists already"),
        (pretrained, "e.h5", ("--color", "weight"), "no such column; there are clip, .*, label, .*, grams"),
        (pretrained, "e.h5", ("--data.clip_s=2",), "all is the checkpoint's"),
        (pretrained, "e.h5", ("--colour", "label"), "unrecognized argument --colour"),
    ]:
        with pytest.raises(UserError, match=told):
            embedded(ckpt, strangers, out=tmp_path / out, args=args)
    with pytest.raises(UserError, match="a corpus is named twice among"):
        embedded(pretrained, strangers, strangers / ".", out=tmp_path / "e.h5")
    with pytest.raises(UserError, match="no recordings found"):
        (tmp_path / "bare").mkdir()
        embedded(pretrained, tmp_path / "bare", out=tmp_path / "e.h5")
    assert not (tmp_path / "e.h5").exists()


@pytest.mark.parametrize("method", get_args(embed.Method))
def test_map_keeps_apart_what_is_apart_and_repeats(method):
    labels = np.repeat([0, 1], 20)
    embeddings = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32) + 20 * labels[:, None]
    points, names = embed.project(embeddings, method)
    again, _ = embed.project(embeddings, method)
    assert np.array_equal(points, again)
    centres = np.stack([points[labels == label].mean(0) for label in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
    assert (nearest == labels).all()
    assert all("principal component" in name if method == "pca" else "t-SNE" in name for name in names)


def painted(values: list[str]):
    points = np.random.default_rng(0).standard_normal((len(values), 2))
    axes = plt.figure().subplots()
    embed.paint(axes, points, pd.Series(values, name="column"))
    plt.close(axes.figure)
    legend = [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
    return axes, legend


def test_few_values_have_a_colour_and_a_count_each():
    axes, legend = painted(["1"] * 3 + ["2"] * 5 + [""])
    assert legend == ["(blank) (1)", "2 (5)", "1 (3)"]
    colours = {tuple(dots.get_facecolor()[0]) for dots in axes.collections}
    assert len(colours) == 3 and tuple(to_rgba(embed.GREY)) in colours


def test_many_names_are_the_commonest_and_others():
    values = [f"baby{number:02}" for number in range(30) for _ in range(number + 1)] + [""]
    axes, legend = painted(values)
    assert len(legend) == 13 and legend[0] == "(others) (190)" and legend[2] == "baby29 (30)"
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == len(values)


def test_many_numbers_have_a_colour_bar_and_blanks_are_grey():
    axes, legend = painted([f"{number / 2}" for number in range(20)] + ["", ""])
    assert not legend and [len(dots.get_offsets()) for dots in axes.collections] == [2, 20]
    assert axes.collections[1].get_array().tolist() == [number / 2 for number in range(20)]
    assert len(axes.figure.axes) == 2


def test_tsne_of_many_clips_shows_some_and_says_so(monkeypatch):
    monkeypatch.setattr(embed, "MAX_TSNE", 20)
    embeddings = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    drawn = embed.draw(embeddings, pd.Series(["a"] * 50, name="label"), "tsne", "all", "LEAKY")
    assert "20 of them, drawn at random" in " ".join(drawn.get_suptitle().split())
    assert sum(len(dots.get_offsets()) for dots in drawn.axes[0].collections) == 20
