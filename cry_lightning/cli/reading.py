"""What reads a stage and fits nothing: `prepare` builds caches; `picture` shows what a network sees of recordings."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.image import imsave

from cry_lightning.cli.process import quiet
from cry_lightning.cli.stage import ReadCLI, StageCLI
from cry_lightning.console import UserError, counted, printable, progress_bar
from cry_lightning.corpora import Clip, Corpus
from cry_lightning.data.building import ClipBatches
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.files import replacing
from cry_lightning.inference.windows import Recordings, report_left_out

MAX_TOLD = 100  # faults in the terminal
BATCH_SIZE = 64  # of clips that are drawn


def build(args: list[str], verify: bool, share: tuple[int, int] = (1, 1)) -> None:
    """Build the cache of one stage, given as `fit` takes it, or one of several shares of it."""

    class PrepareCLI(ReadCLI):
        """Parses as `fit` does, then prepares the data and stops."""

        def fit(self, datamodule: CryDataModule, **_: object) -> None:
            """Build the caches, or check those that there are."""
            data = [one for one in (datamodule, datamodule.probe) if one is not None]
            for one in data:
                one.corpus.prepare()
            if share[1] > 1 and not all([built_in_full(one.feature_cache(), share, one.cache.workers) for one in data]):
                return
            if not (verify and all(os.path.lexists(one.feature_cache().path) for one in data)):
                datamodule.prepare_data()
            for one in data:
                report(one.feature_cache(), verify)

    PrepareCLI(["fit", *args])


def built_in_full(cache: FeatureCache, share: tuple[int, int], workers: int) -> bool:
    """Build one share of a cache; says what others still have to do, if anything."""
    if missing := cache.build_shard(*share, workers):
        built = f"{cache.path}: shard {share[0]}/{share[1]} is built"
        print(f"{built}; {missing:,} of {len(cache.clips):,} rows, of other shards, are missing")
    return not missing


def report(cache: FeatureCache, verify: bool) -> None:
    """Print what is in a cache, and verify it first if asked to.

    Raises:
        UserError: it is damaged, or its audio is not what it was made of.
    """
    if verify and (faults := cache.verify()):
        for fault in faults[:MAX_TOLD]:
            print(printable(fault))
        more = f" (the first {MAX_TOLD} are above)" if len(faults) > MAX_TOLD else ""
        raise UserError(
            f"{cache.path}: {len(faults)} faults{more}; the same command without --verify computes damaged rows again,"
            " and builds another cache where audio has changed"
        )
    features = cache.open()
    for row, reason in features.bad.items():
        print(printable(f"left out: {cache.clips[row].name}: {reason}"))
    if verify:
        print(f"{cache.path}: {len(features.good)} rows and their audio were read, and are sound")
    print(f"{cache.path}: {counted(len(features.good), 'clip')}, {len(features.bad):,} left out")


def write_pictures(recordings: Sequence[str], config: str, out: Path, overrides: Sequence[str]) -> list[Path]:
    """Write the pictures of recordings as PNG files, as a stage's network sees them; returns their paths."""
    with quiet():
        stage = ReadCLI(["fit", "--config", config, *overrides, "--trainer.logger=false"])
    own = stage.datamodule.corpus
    corpus = Recordings(recordings, window_s=own.window_s, hop_s=own.hop_s, min_active_db=own.min_active_db)
    with TemporaryDirectory() as folder:  # for the levels of windows, which are of no use later
        clips = corpus.clips(Path(folder))
    if not clips:
        raise UserError(f"no recording is anywhere above {own.min_active_db} dB, as the stage's windows must be")
    written, drawn, bad = list[Path](), [], defaultdict(list)
    bar = progress_bar(names(clips), unit="picture")
    for clip, name, (picture, reason) in zip(clips, bar, pictures(stage, corpus, clips), strict=True):
        if reason:
            bad[clip.path].append(reason)
            continue
        with replacing(out / name) as part:
            imsave(part, picture, format="png")
        written.append(out / name)
        drawn.append(clip)
    report_left_out(bad, nothing_else=not drawn)
    print(f"{out}: {len(drawn)} pictures of {'x'.join(map(str, picture.shape[:2]))}")
    return written


def pictures(stage: StageCLI, corpus: Corpus, clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, str]]:
    """Each clip's picture (F, T, 3) in 8 bits, as in the stage's validation, and why there is none ("": there is)."""
    data, network = stage.datamodule, stage.model.eval()
    n_frames = data.feature.n_frames(data.clip_s)
    length_s = data.clip_s + 2 * data.shift_s  # the margins reach the front end in training, too
    dataset = ClipBatches(corpus, list(clips), data.feature, length_s, data.fit, data.cache.dtype)
    for first in range(0, len(clips), BATCH_SIZE):
        _, features, reasons, _ = dataset[range(first, min(first + BATCH_SIZE, len(clips)))]
        spare = features.shape[-1] - n_frames
        centre = torch.from_numpy(features[..., spare // 2 : spare // 2 + n_frames]).float()
        with torch.inference_mode():
            seen = network.view(centre, augmented=False)
        if seen.shape[1] != 3:
            raise UserError(
                f"the network sees features of shape {tuple(seen.shape[1:])}, no pictures of three colours; give"
                " a stage on pictures by --config, such as configs/papers/le2020/resnet50.yaml"
            )
        yield from zip((seen.movedim(1, -1).numpy() * 255).round().astype(np.uint8), reasons, strict=True)


def names(clips: Sequence[Clip]) -> list[str]:
    """A PNG's name for each clip: the recording's path below the folder that holds all, and where a window begins."""
    common = os.path.commonpath([Path(clip.path).absolute().parent for clip in clips])
    starts = [f"@{clip.start_s:.3f}" if clip.duration_s is not None else "" for clip in clips]
    paths = [Path(clip.path).absolute().relative_to(common) for clip in clips]
    return [f"{path}{start}.png" for path, start in zip(paths, starts, strict=True)]
