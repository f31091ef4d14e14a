"""`picture`: what a stage's network sees of recordings, as PNG files."""

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
from cry_lightning.console import UserError, progress_bar
from cry_lightning.corpora import Clip, Corpus
from cry_lightning.data.building import ClipBatches
from cry_lightning.files import replacing
from cry_lightning.inference.windows import Recordings, report_left_out

BATCH_SIZE = 64


def run(recordings: Sequence[str], config: str, out: Path, overrides: Sequence[str]) -> list[Path]:
    """Run the command; returns the pictures' paths."""
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
