"""Speech Commands and keyword spotting: the official division, shares, sides kept, regions of noise apart."""

import hashlib
import json
import shutil
import tarfile
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from jsonargparse import ArgumentParser
from made import REPO

from cry_lightning.__main__ import run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.corpora import Corpus, Manifest, SyntheticWords
from cry_lightning.corpora.words import SILENCE, UNKNOWN, Keywords, SpeechCommands
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.splits import Split, assign
from cry_lightning.data.subset import divide
from cry_lightning.evaluation.run import evaluate_run, read_run
from cry_lightning.features import MFCC

RATE = 8000
WORDS = ["yes", "no"]
OTHERS = ["bed", "cat", "tree"]
N_SPEAKERS = 30


def speaker(index: int) -> str:
    return hashlib.sha1(str(index).encode()).hexdigest()[:8]


def sound(seed: int, seconds: float = 1.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def make(folder: Path) -> Path:
    """The corpus in its own layout: 30 speakers say each word twice; of every ten, one is for val and two for test."""
    lists = {"validation_list.txt": [], "testing_list.txt": []}
    for word in [*WORDS, *OTHERS]:
        (folder / word).mkdir(parents=True)
        for index in range(N_SPEAKERS):
            for take in range(2):
                name = f"{word}/{speaker(index)}_nohash_{take}.wav"
                soundfile.write(folder / name, sound(index), RATE)
                if index % 10 < 3:
                    lists["testing_list.txt" if index % 10 else "validation_list.txt"].append(name)
    for name, paths in lists.items():
        (folder / name).write_text("".join(f"{path}\n" for path in paths))
    (folder / "_background_noise_").mkdir()
    (folder / "_background_noise_" / "README.md").write_text("recorded here")
    soundfile.write(folder / "_background_noise_" / "running_tap.wav", sound(0, 20.3), RATE)
    soundfile.write(folder / "_background_noise_" / "pink_noise.wav", sound(1, 7.0), RATE)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "SpeechCommands" / "speech_commands_v0.02")


@pytest.fixture
def keywords(tree) -> Keywords:
    return Keywords(SpeechCommands(tree), WORDS, tree / "_background_noise_")


def part_of(index: int) -> str:
    return {0: "val", 1: "test", 2: "test"}.get(index % 10, "train")


def test_lists_words_speakers_and_the_official_division_from_either_level(tree):
    clips = SpeechCommands(tree).clips()
    assert len(clips) == 5 * N_SPEAKERS * 2 and len({clip.name for clip in clips}) == len(clips)
    expected = {f"speech_commands:{speaker(index)}": part_of(index) for index in range(N_SPEAKERS)}
    assert {clip.subject: clip.columns["split"] for clip in clips} == expected
    assert all(clip.label == Path(clip.path).parent.name for clip in clips)
    assert {clip.label for clip in clips} == {*WORDS, *OTHERS}
    for root in (tree.parent, tree.parents[1]):
        corpus = SpeechCommands(root)
        assert [corpus.path_of(clip) for clip in corpus.clips()] == [tree / clip.path for clip in clips]


def test_the_first_version_is_read_too_and_two_at_once_are_refused(tree, tmp_path):
    (tmp_path / "speech_commands_v0.01").symlink_to(tree)
    assert len(SpeechCommands(tmp_path).clips()) == 300
    (tmp_path / "speech_commands_v0.02").symlink_to(tree)
    with pytest.raises(UserError, match=r"v0\.01 and speech_commands_v0\.02: take one"):
        SpeechCommands(tmp_path).clips()


def test_unknown_and_silence_are_a_tenth_of_the_words_in_each_part(keywords, tmp_path):
    clips = keywords.clips(tmp_path)
    assert keywords.class_names() == ["silence", "unknown", "yes", "no"]
    count = Counter((clip.columns["split"], "word" if clip.label in WORDS else clip.label) for clip in clips)
    for part, n_words in {"train": 84, "val": 12, "test": 24}.items():
        assert (count[part, "word"], count[part, UNKNOWN], count[part, SILENCE]) == (
            n_words,
            round(n_words / 10),
            round(n_words / 10),
        )
    assert {Path(clip.path).parent.name for clip in clips if clip.label == UNKNOWN} <= set(OTHERS)
    assert all(keywords.path_of(clip).is_file() for clip in [*clips, *keywords.recordings()])
    assert len({clip.path for clip in clips}) == len(clips)  # each is judged by itself, as a recording


def test_nobody_is_on_two_sides_of_the_official_division(keywords, tmp_path):
    clips = keywords.clips(tmp_path)
    parts = divide(clips, np.full(len(clips), True), Split(column="split"))
    assert np.array_equal(parts, [clip.columns["split"] for clip in clips])
    sides = defaultdict(set)
    for clip, part in zip(clips, parts, strict=True):
        sides[clip.subject].add(part)
    assert all(len(side) == 1 for side in sides.values())
    official = {f"speech_commands:{speaker(index)}": {part_of(index)} for index in range(N_SPEAKERS)}
    assert all(sides[clip.subject] == official[clip.subject] for clip in clips if clip.label == UNKNOWN)


def test_silence_lies_in_the_region_that_its_subject_names_and_regions_do_not_overlap(keywords, tmp_path):
    regions = {}
    for clip in keywords.noise.clips(tmp_path):
        name, span = clip.subject.removeprefix("_background_noise_:").split("#")
        start_s, end_s = map(float, span.split("-"))
        assert name == clip.path and clip.duration_s == 1
        assert start_s - 0.01 <= clip.start_s and clip.start_s + 1 <= end_s + 0.01
        assert regions.setdefault((name, start_s, end_s), clip.columns["split"]) == clip.columns["split"]
    for name, length_s in {"running_tap.wav": 20.3, "pink_noise.wav": 7.0}.items():
        spans = sorted((start_s, end_s, part) for (path, start_s, end_s), part in regions.items() if path == name)
        assert [part for *_, part in spans] == ["train", "train", "train", "val", "test"]
        edges = [0, *(end_s for _, end_s, _ in spans)]
        assert [start_s for start_s, *_ in spans] == edges[:-1] and edges[-1] == pytest.approx(length_s, abs=0.01)
    cuts = sorted(keywords.noise.clips(tmp_path), key=lambda clip: (clip.path, clip.start_s))
    for earlier, later in pairwise(cuts):
        if earlier.path == later.path and earlier.columns != later.columns:
            assert earlier.start_s + 1 <= later.start_s + 1e-6


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_order_of_the_corpus(tree, tmp_path, monkeypatch):
    def clips(seed: int) -> list:
        return Keywords(SpeechCommands(tree), WORDS, tree / "_background_noise_", seed=seed).clips(tmp_path)

    once, other = clips(0), clips(1)
    in_order = SpeechCommands.recordings
    monkeypatch.setattr(SpeechCommands, "recordings", lambda self: in_order(self)[::-1])
    assert sorted(map(str, clips(0))) == sorted(map(str, once)) != sorted(map(str, other))
    assert [*clips(0)[-20:]] == [*once[-20:]]


def test_padding_of_a_noise_recording_is_no_silence(tree, tmp_path):
    (tmp_path / "noise").mkdir()
    padded = np.concatenate([sound(2, 8.0), np.zeros(4 * RATE)])
    soundfile.write(tmp_path / "noise" / "a.wav", padded, RATE)
    keywords = Keywords(SpeechCommands(tree), WORDS, tmp_path / "noise", column=None)
    silence = [clip for clip in keywords.clips(tmp_path) if clip.label == SILENCE]
    assert len(silence) == 12 and all(clip.start_s < 8 for clip in silence)


def test_any_corpus_of_words_without_a_division_is_split_by_speaker(tree, tmp_path):
    lines = [f"{word}/{speaker(i)}_nohash_0.wav,{word},s{i}" for word in [*WORDS, *OTHERS] for i in range(N_SPEAKERS)]
    (tree / "list.csv").write_text("\n".join(["path,label,subject", *lines, f"bed/{speaker(0)}_nohash_1.wav,,s0"]))
    corpus = Manifest(tree / "list.csv", name="own")
    keywords = Keywords(corpus, ["no", "yes", "bed"], tree / "_background_noise_", column=None)
    clips = keywords.clips(tmp_path)
    count = Counter(clip.label for clip in clips)
    assert count == {"no": 30, "yes": 30, "bed": 30, UNKNOWN: 9, SILENCE: 9}
    parts = divide(clips, np.full(len(clips), True), Split(val=0.2, test=0.3))
    for group in {clip.subject for clip in clips}:
        assert len({part for clip, part in zip(clips, parts, strict=True) if clip.subject == group}) == 1
    with pytest.raises(UserError, match="no column 'split'; set `column` to null"):
        Keywords(corpus, WORDS, tree / "_background_noise_").clips(tmp_path)


def test_a_corpus_without_a_division_has_one_by_the_hashes_of_its_speakers(tree, tmp_path):
    lines = [f"{word}/{speaker(i)}_nohash_0.wav,{word},{speaker(i)}" for word in WORDS for i in range(N_SPEAKERS)]
    (tree / "list.csv").write_text("\n".join(["path,label,subject", *lines]))
    corpus, noise, shares = (
        Manifest(tree / "list.csv", name="own"),
        tree / "_background_noise_",
        {"val": 0.2, "test": 0.3},
    )
    clips = [*Keywords(corpus, WORDS, noise, shares=shares).clips(tmp_path)]
    spoken = [clip for clip in clips if clip.label in WORDS]
    names = {clip.subject: clip.subject.partition(":")[2] for clip in spoken}
    by_hash = assign(
        Split(scheme="hash", val=0.2, test=0.3), [clip.label for clip in spoken], [clip.subject for clip in spoken]
    )
    assert [clip.columns["split"] for clip in spoken] == list(by_hash) and len(names) == N_SPEAKERS
    silence = [clip for clip in clips if clip.label == SILENCE]
    assert {clip.columns["split"] for clip in silence} == {"train", "val", "test"}
    length_s = {"running_tap.wav": 20.3, "pink_noise.wav": 7.0}  # what `RecordedNoise` leaves out with its share 0.6
    assert all(
        (clip.columns["split"] == "train") == (clip.start_s < 0.6 * length_s[Path(clip.path).name]) for clip in silence
    )
    for wrong in ({"val": 0.2}, {"val": 0.2, "test": 0.3, "dev": 0.1}):
        with pytest.raises(UserError, match=r"shares .* are those of val and test"):
            Keywords(corpus, WORDS, noise, shares=wrong)
    for wrong in ({"val": 8, "test": 20}, {"val": 0.7, "test": 0.7}, {"val": -0.2, "test": 0.3}):
        with pytest.raises(UserError, match=r"shares .* must not be negative and sum to less than 1"):
            Keywords(corpus, WORDS, noise, shares=wrong)
    with pytest.raises(UserError, match="by their hashes, no speaker of the words falls to val; move shares"):
        Keywords(corpus, WORDS, noise, shares={"val": 1e-6, "test": 0.3}).clips(tmp_path)
    elsewhere = Keywords(corpus, WORDS, noise, column="part", shares=shares).clips(tmp_path)
    assert [clip.columns["part"] for clip in elsewhere] == [clip.columns["split"] for clip in clips]


def test_too_few_others_are_all_taken_and_told(tree, tmp_path, caplog):
    few = Manifest(tree / "few.csv", name="few")
    names = [f"{word}/{speaker(i)}_nohash_0.wav,{word}" for word in WORDS for i in range(N_SPEAKERS)]
    (tree / "few.csv").write_text("\n".join(["path,label", *names, f"bed/{speaker(0)}_nohash_0.wav,bed"]))
    clips = Keywords(few, WORDS, tree / "_background_noise_", column=None).clips(tmp_path)
    assert Counter(clip.label for clip in clips)[UNKNOWN] == 1
    assert "only 1 clips of unknown; 6 are a tenth of the words" in caplog.text


def test_a_word_whose_speakers_are_missing_in_one_part_is_reported(tree, tmp_path, caplog):
    own = shutil.copytree(tree, tmp_path / "own")
    for index in range(0, N_SPEAKERS, 10):  # of val
        for path in own.glob(f"no/{speaker(index)}_*.wav"):
            path.unlink()
    Keywords(SpeechCommands(own), WORDS, own / "_background_noise_").clips(tmp_path)
    assert "corpus keywords: the part 'val' has no no: recordings are missing" in caplog.text
    assert "the part 'train'" not in caplog.text and "the part 'test'" not in caplog.text


def test_the_shipped_yaml_holds_the_ten_words_and_its_cache_every_class(tree, tmp_path):
    shipped = yaml.safe_load((REPO / "configs/data/speech_commands.yaml").read_text())["corpus"]
    ten = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
    assert shipped["init_args"]["words"] == ten
    shipped["init_args"] |= {"words": WORDS, "noise": str(tree / "_background_noise_")}
    shipped["init_args"]["corpus"]["init_args"]["root"] = str(tree)
    parser = ArgumentParser()
    parser.add_argument("--corpus", type=Corpus)
    keywords = parser.instantiate_classes(parser.parse_object({"corpus": shipped})).corpus
    cache = FeatureCache(keywords, MFCC(), clip_s=1.2, folder=tmp_path)
    cache.build()
    assert cache.open().good.all() and {clip.label for clip in cache.clips} == set(keywords.class_names())


def test_an_archive_of_the_published_layout_is_unpacked_and_read(tree, tmp_path):
    with tarfile.open(tmp_path / "speech_commands_v0.02.tar.gz", "w:gz") as bundle:
        for path in ("validation_list.txt", "testing_list.txt", f"yes/{speaker(0)}_nohash_0.wav", "_background_noise_"):
            bundle.add(tree / path, f"./{path}")
    archive = ["--from", str(tmp_path / "speech_commands_v0.02.tar.gz"), "--to", str(tmp_path / "here")]
    with pytest.raises(UserError, match="sha256"):
        command("download", ["speech_commands", *archive])
    command("download", ["speech_commands", *archive, "--accept-unverified"])
    (clip,) = SpeechCommands(tmp_path / "here").clips()
    assert clip.columns["split"] == "val" and (tmp_path / "here" / "_background_noise_" / "running_tap.wav").is_file()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda root: (root / "testing_list.txt").unlink(), "not Speech Commands.*download speech_commands"),
        (lambda root: (root / "_background_noise_").rename(root / "noise"), "_background_noise_: no such folder"),
        (lambda root: [p.unlink() for p in root.glob("_b*/*.wav")], "_background_noise_: no recordings found"),
        (lambda root: [soundfile.write(p, sound(0, 4.9), RATE) for p in root.glob("_b*/*.wav")], "lasts 5 s"),
        (lambda root: (root / "_background_noise_/pink_noise.wav").write_bytes(b"RIFF"), r"pink_noise\.wav"),
        (lambda root: (root / "testing_list.txt").write_text("yes/1.wav\n"), "SPEAKER_nohash_NUMBER"),
        (lambda root: [p.unlink() for p in root.glob("no/*.wav")], "no no, only bed, cat, tree, yes"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(tmp_path, spoil, named):
    root = tmp_path / "speech_commands"
    for word in [*WORDS, *OTHERS]:
        (root / word).mkdir(parents=True)
        soundfile.write(root / word / f"{speaker(0)}_nohash_0.wav", sound(0), RATE)
    for name in ("validation_list.txt", "testing_list.txt"):
        (root / name).write_text("")
    (root / "_background_noise_").mkdir()
    for name in ("pink_noise.wav", "white_noise.wav"):
        soundfile.write(root / "_background_noise_" / name, sound(0, 5.0), RATE)
    keywords = Keywords(SpeechCommands(root), WORDS, root / "_background_noise_")
    assert keywords.clips(tmp_path)
    spoil(root)
    with pytest.raises(UserError, match=named) as error:
        keywords.clips(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_task_of_twelve_classes_is_learned_by_speakers_that_differ(tmp_path):
    """On a tree in the corpus's layout, of made words, by the paper's stage, shortened."""
    data = yaml.safe_load((REPO / "configs/papers/onu2019/data/keywords.yaml").read_text())
    spoken = SyntheticWords(n_speakers=30, n_takes=3, folder=str(tmp_path / "made"))
    spoken.prepare()
    names = dict(zip(spoken.words, [*data["corpus"]["init_args"]["words"], "bed", "cat"], strict=True))
    tree = tmp_path / "speech_commands"
    lists = {"validation_list.txt": [], "testing_list.txt": []}
    for number, clip in enumerate(spoken.clips()):
        person = hashlib.sha1(clip.subject.encode()).hexdigest()
        name = f"{names[clip.label]}/{person[:8]}_nohash_{number}.wav"
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(spoken.path_of(clip), tree / name)
        if int(person, 16) % 5 < 2:
            lists[("validation_list.txt", "testing_list.txt")[int(person, 16) % 5]].append(name)
    for name, paths in lists.items():
        (tree / name).write_text("".join(f"{path}\n" for path in paths))
    (tree / "_background_noise_").mkdir()
    for seed in range(4):
        soundfile.write(tree / "_background_noise_" / f"{seed}.wav", sound(seed, 20.0), RATE)

    noise = {"folder": str(tree / "_background_noise_"), "sample_rate": RATE, "share": 0.6}
    args = ["--config", str(REPO / "configs/papers/onu2019/pretrain.yaml"), "--runs", str(tmp_path / "runs")]
    args += [
        f"--data.corpus.init_args.corpus.init_args.root={tree}",
        f"--data.corpus.init_args.noise={noise['folder']}",
    ]
    background = {"class_path": "cry_lightning.tasks.augment.BackgroundNoise", "init_args": noise}
    args += ["--model.init_args.augment_waveform", json.dumps([background]), f"--data.cache.folder={tmp_path}"]
    args += ["--trainer.max_epochs=8", "--trainer.logger=null", "--trainer.enable_progress_bar=false"]
    run = cli.main(["fit", *args])
    cli.main(["test", "--config", str(run.run_folder.config)])
    tested = evaluate_run(read_run(str(run.run_folder.path), "test"), "test", None)
    assert len(tested.classes) == 12 and tested.leakage.status == "CLEAN"
    assert tested.result("clip", "uar")["value"] > 0.6  # chance: 0.083
