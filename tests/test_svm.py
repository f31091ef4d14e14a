"""The SVM: scikit-learn's numbers in tensors, subjects never on both sides, and a stage like any other."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.calibration import CalibratedClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cry_lightning.__main__ import main
from cry_lightning.console import UserError
from cry_lightning.encoders.small import Flatten, Statistics
from cry_lightning.evaluation import clinical
from cry_lightning.inference.model import TrainedStage
from cry_lightning.lineage import subject_fingerprint
from cry_lightning.tasks.heads import SupportVectors
from cry_lightning.tasks.svm import FEWEST, Embedded, SvmSettings, fit, grouped_folds

PLAIN = SvmSettings("rbf", [1.0], ["scale"], standardize=True, balanced=False)


def blobs(n_classes: int, n: int = 240, n_features: int = 12, apart: float = 0.4, n_subjects: int = 20) -> Embedded:
    rng = np.random.default_rng(n_classes)
    labels, subjects = rng.integers(0, n_classes, n), rng.integers(0, n_subjects, n).astype(str)
    vectors = 3 + 5 * (rng.standard_normal((n, n_features)) + apart * labels[:, None])
    return Embedded(vectors.astype(np.float32).astype(float), labels, subjects)


def machine(train: Embedded, n_classes: int, recipe: SvmSettings) -> SupportVectors:
    head = SupportVectors(train.embeddings.shape[1], n_classes, recipe.kernel)
    head.take(fit(train, None, n_classes, recipe)[0])
    return head


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(
    "recipe",
    [
        PLAIN,
        SvmSettings("rbf", [1000.0], [0.01], standardize=False, balanced=True),
        SvmSettings("linear", [0.1], ["scale"], standardize=True, balanced=True),
    ],
)
def test_decision_values_are_those_of_scikit_learn(n_classes, recipe):
    train, others = blobs(n_classes), torch.randn(50, 12) * 5 + 4
    weight = "balanced" if recipe.balanced else None
    svc = SVC(C=recipe.C[0], gamma=recipe.gamma[0], kernel=recipe.kernel, class_weight=weight)
    reference = make_pipeline(
        StandardScaler(with_mean=recipe.standardize, with_std=recipe.standardize),
        svc if n_classes == 2 else OneVsRestClassifier(svc),
    ).fit(train.embeddings, train.labels)
    wanted = torch.from_numpy(reference.decision_function(others.double().numpy())).reshape(50, -1)
    torch.testing.assert_close(machine(train, n_classes, recipe).decision(others), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_probabilities_are_those_of_scikit_learn_on_the_same_folds(n_classes):
    """Platt scaling of what grouped folds hold out, then normalised rows."""
    train, others = blobs(n_classes), torch.randn(50, 12) * 5 + 4
    recipe = SvmSettings("rbf", [1.0], [0.002], standardize=False, balanced=False)
    svc = SVC(C=1.0, gamma=0.002)
    folds = grouped_folds(train.labels, train.subjects)
    reference = CalibratedClassifierCV(
        svc if n_classes == 2 else OneVsRestClassifier(svc), method="sigmoid", cv=folds, ensemble=False
    ).fit(train.embeddings, train.labels)
    found = machine(train, n_classes, recipe)(others).exp().numpy()
    np.testing.assert_allclose(found, reference.predict_proba(others.double().numpy()), atol=1e-4)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("balanced", [False, True])
def test_probability_rises_with_the_decision_value_whatever_the_subjects_held_out_say(balanced, caplog):
    """Each place has two subjects who say the opposite, so that a machine is wrong about whom it has not heard."""
    places = np.random.default_rng(0).standard_normal((30, 6))
    said = np.stack([np.arange(30) < 24, np.arange(30) % 5 == 0], axis=1)  # by the two subjects of a place
    train = Embedded(np.repeat(places, 2, axis=0), said.ravel().astype(int), np.arange(60).astype(str))
    head = machine(train, 2, SvmSettings("rbf", [1.0], [1.0], standardize=False, balanced=balanced))
    assert "rank held-out subjects the wrong way" in caplog.text
    assert 0 < head.slope < 0.01  # it tells nothing: the answer is how frequent the class is, or what the balance makes
    frequent = 0.5 if balanced else said.mean()
    np.testing.assert_allclose(head(torch.from_numpy(places)).exp()[:, 1], frequent, atol=0.01)


def test_search_never_hears_a_subject_that_it_is_judged_by():
    train = blobs(3)
    folds = grouped_folds(train.labels, train.subjects)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(len(train.labels)))
    for heard, held in folds:
        assert not set(train.subjects[heard]) & set(train.subjects[held])
        assert set(heard) | set(held) == set(range(len(train.labels)))


def test_folds_are_as_few_as_the_rarest_class_has_subjects():
    labels, subjects = np.repeat([0, 1], [40, 4]), np.array([f"baby{i}" for i in [*np.arange(40) % 10, 0, 0, 1, 1]])
    folds = grouped_folds(labels, subjects)
    assert all((labels[heard] == 1).any() for heard, _ in folds)
    assert grouped_folds(labels, np.where(labels == 1, "baby0", subjects)) is None


def test_lone_subject_of_a_class_leaves_decision_values_uncalibrated(caplog):
    train = blobs(2)
    lone = Embedded(train.embeddings, train.labels, np.where(train.labels == 1, "only", train.subjects))
    head = machine(lone, 2, PLAIN)
    others = torch.randn(5, 12)
    assert not head.calibrated and "not calibrated" in caplog.text and len(caplog.records) == 1
    torch.testing.assert_close(head(others).exp()[:, 1], head.decision(others)[:, 0].sigmoid().float())
    with pytest.raises(UserError, match="nobody can be held out to choose by; give one C and one gamma"):
        machine(lone, 2, SvmSettings("rbf", [1.0, 10.0], ["scale"], True, False))


def test_two_subjects_of_a_class_calibrate_nothing(caplog):
    train = blobs(2)
    two = np.where(train.labels == 1, np.arange(len(train.labels)) % FEWEST, train.subjects.astype(int) + 10)
    fewer = np.where(two == 2, 1, two)
    enough, few = (machine(train._replace(subjects=each.astype(str)), 2, PLAIN) for each in (two, fewer))
    assert enough.calibrated and not few.calibrated and FEWEST == clinical.FEWEST
    assert "there are 2 training subjects: scores rank but are not calibrated" in caplog.text
    torch.testing.assert_close(few.decision(x := torch.randn(5, 12)), enough.decision(x))


def test_a_subject_s_voice_does_not_choose_the_setting():
    """Where only the subject shows in the sound, narrow kernels know clips by heart; held-out subjects tell."""
    rng = np.random.default_rng(0)
    voices, labels = rng.standard_normal((24, 6)), np.arange(24) % 2
    voices[:, 0] += 2.5 * labels
    rows = np.repeat(np.arange(24), 8)
    train = Embedded(voices[rows] + 0.05 * rng.standard_normal((192, 6)), labels[rows], rows.astype(str))
    told = fit(train, None, 2, SvmSettings("rbf", [1.0], [0.05, 20.0], True, False))[1]
    assert told["gamma"] == 0.05 and told["uar"] > 0.6
    fresh = Embedded(train.embeddings + 0.05 * rng.standard_normal((192, 6)), train.labels, train.subjects)
    assert fit(train, fresh, 2, SvmSettings("rbf", [1.0], [0.05, 20.0], True, False))[1]["gamma"] == 20.0


def test_encoders_without_weights_tell_the_number_that_they_want():
    features = torch.randn(3, 1, 4, 5)
    assert torch.equal(Flatten(20)(features), features.reshape(3, 20))
    statistics = Statistics(4)(features)
    assert statistics.shape == (3, Statistics(4).num_features)
    np.testing.assert_allclose(statistics[:, 4:], features.numpy()[:, 0].std(-1), rtol=1e-5)
    with pytest.raises(UserError, match=r"num_features is 7, but features of shape \(1, 4, 5\) are 20 numbers"):
        Flatten(7)(features)
    with pytest.raises(UserError, match=r"n_bands is 7, but features of shape \(1, 4, 5\) have 4"):
        Statistics(7)(features)


@pytest.fixture
def svm(stage, tmp_path):
    """Writes an SVM's YAML on the tones and returns the command that runs it, by way of the command line's door."""

    def write(name="svm", **model):
        config = yaml.safe_load(stage(name).read_text())
        encoder = {"class_path": "cry_lightning.encoders.Statistics", "init_args": {"n_bands": 40}}
        config["model"] = {"class_path": "cry_lightning.tasks.SVM", "init_args": {"encoder": encoder, **model}}
        config["data"] |= {"clip_s": 0.5, "shift_s": 0.0}
        config["trainer"]["max_epochs"] = 1
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        return partial(run, "--config", str(tmp_path / f"{name}.yaml"))

    return write


def run(*args, command="fit") -> int:
    return main([command, *map(str, args)])


@pytest.mark.slow
def test_fit_test_evaluate_predict(svm, tones, tmp_path, capsys):
    assert svm(C=[0.1, 1.0], gamma=["scale", 0.1])("--data.sampling.balanced=true") == 0
    folder = tmp_path / "runs/tones/svm"
    assert run("--config", folder / "config.yaml", command="test") == 0
    assert run(folder, command="evaluate") == 0
    assert "CLEAN" in capsys.readouterr().out
    tested = pd.read_csv(folder / "predictions.csv")
    scores = tested.set_index("recording")[["score_high", "score_low"]]
    assert (scores.idxmax(1).to_numpy() == "score_" + tested["label"]).mean() > 0.8
    ckpt, out = folder / "best.ckpt", tmp_path / "said.csv"
    assert run("--ckpt", ckpt, tones.parent / "low_03_0.wav", "--out", out, command="predict") == 0
    np.testing.assert_allclose(pd.read_csv(out)[scores.columns].iloc[0], scores.loc["low_03_0.wav"], atol=1e-5)

    saved = torch.load(ckpt, weights_only=True)["state_dict"]
    assert torch.equal(TrainedStage(ckpt).stage.head.vectors, saved["head.vectors"]) and len(saved["head.vectors"]) > 0
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage["uncalibrated"] is False
    heard = set(lineage["stages"][0]["subjects"])
    assert len(heard) == 5 and not heard & {subject_fingerprint(s, "given") for s in tested["subject"]}


@pytest.mark.slow
def test_hears_every_training_clip_once_and_unshifted(svm, tmp_path, monkeypatch):
    heard = {}

    def spy(train, validation, *args):
        heard.update(train=train, validation=validation)
        return fit(train, validation, *args)

    monkeypatch.setattr("cry_lightning.tasks.svm.fit", spy)
    fitted = svm(C=[1.0, 10.0], choose="validation")
    assert fitted("--data.sampling.balanced=true", "--data.shift_s=0.05") == 0
    first = heard["train"]
    assert len(first.labels) == len(np.unique(first.embeddings, axis=0)) == 40
    assert not set(first.subjects) & set(heard["validation"].subjects)
    assert fitted("--data.seed=1", "--data.shift_s=0.05", "--overwrite=true") == 0
    assert np.array_equal(heard["train"].embeddings, first.embeddings)


@pytest.mark.slow
def test_resumed_after_its_end_it_is_the_same(svm, tmp_path):
    fitted = svm()
    assert fitted() == 0
    before = torch.load(tmp_path / "runs/tones/svm/best.ckpt", weights_only=True)["state_dict"]
    assert fitted("--ckpt_path", tmp_path / "runs/tones/svm/last.ckpt") == 0
    after = torch.load(tmp_path / "runs/tones/svm/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_on_the_embeddings_of_a_network(svm, pretrained, tmp_path):
    network = {"class_path": "cry_lightning.encoders.Res8", "init_args": {"n_maps": 4}}
    assert svm(encoder=network, weights=str(pretrained))() == 0
    before = torch.load(pretrained, weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "runs/tones/svm/best.ckpt", weights_only=True)
    assert all(torch.equal(v, after["state_dict"][k]) for k, v in before.items() if k.startswith("encoder."))
    assert [stage["stage"] for stage in after["lineage"]["stages"]] == ["pretrain", "svm"]


@pytest.mark.slow
def test_cross_validation_takes_it(svm, tmp_path):
    assert svm()("--folds", 2, "--out", tmp_path / "cv", command="cross-validate") == 0
    assert len(pd.read_csv(tmp_path / "cv/predictions.csv").query("split == 'test'")) == 96


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        ({"C": [1.0, 0.0]}, [], "SVM: C must be above 0, not 1.0, 0.0"),
        ({"gamma": -1.0}, [], "SVM: gamma must be above 0"),
        ({}, ["--trainer.max_epochs=3"], "set trainer.max_epochs to 1"),
        ({"choose": "validation"}, ["--trainer.limit_val_batches=0"], "set model.init_args.choose to groups"),
        ({}, ["--data.corpus.init_args.classes={low: [low]}"], "there is one class alone (low)"),
        (
            {"normalize": {"class_path": "torch.nn.Threshold", "init_args": {"threshold": 1e9, "value": float("nan")}}},
            [],
            "40 train embeddings contain NaN or inf (first: low_04_0.wav",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(svm, capsys, model, args, message):
    assert svm(**model)(*args) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("cry_lightning: error: ") and message in error


def test_several_processes_are_refused(svm, capsys, monkeypatch):
    monkeypatch.setattr("lightning.Trainer.world_size", 2)
    assert svm()() == 2
    assert "SVM: fitted by one process; set trainer.devices and trainer.num_nodes to 1" in capsys.readouterr().err


def test_training_part_without_a_class_is_refused(svm, tones, tmp_path, capsys):
    table = pd.read_csv(tones)
    table["part"] = np.where(table["subject"] < "baby06", "train", np.where(table["subject"] < "baby09", "val", "test"))
    table["path"] = [str(tones.parent / path) for path in table["path"]]
    table[(table["part"] != "train") | (table["label"] == "low")].to_csv(tmp_path / "manifest.csv", index=False)
    corpus = f"--data.corpus.init_args.root={tmp_path / 'manifest.csv'}"
    assert svm()(corpus, "--data.split.column=part") == 2
    assert "SVM: the training part has no clip of high; see data.split" in capsys.readouterr().err
