"""What an answer depends on."""

from collections.abc import Sequence

import numpy as np
import torch

from cry_lightning.annotations.spans import Span
from cry_lightning.audio import fit_to_length
from cry_lightning.inference.model import TrainedStage
from cry_lightning.tasks import Classifier

WINDOWS_AT_ONCE = 16


def saliency(trained: TrainedStage, waveform: np.ndarray, spans: Sequence[Span], index: int) -> np.ndarray | None:
    """The gradient of the log-odds of a class with respect to each sample of a waveform (N,), summed over windows.

    It is taken through the front end, which need not be a spectrogram of any kind. It shows what a small change would
    change, and not why the class was chosen. Times the waveform it sums to gradient x input, which a spectrogram of
    both divides among times and frequencies (Parseval's theorem).

    Source: Simonyan et al. 2014, "Deep inside convolutional networks: visualising image classification models and
    saliency maps", section 3.

    Args:
        trained: a classifier.
        waveform: at its rate.
        spans: begin and end of its windows or cries in it, s; what lies behind its end is passed over.
        index: of the class.

    Returns: None where there is no gradient, as in pictures by a table of colours; where no span lies in the waveform;
    or where the front end wants recordings at their own rates.
    """
    rate, fitting, stage = trained.feature.sample_rate, trained.fitting, trained.stage
    assert isinstance(stage, Classifier)
    window_s = trained.cutting["window_s"] or trained.clip_s
    pieces = [
        (round(start * rate), min(round(min(start + window_s, end) * rate), waveform.size))
        for begin, end in spans
        for start in np.arange(begin, max(begin, end - window_s) + 1e-6, window_s)
        if start * rate < waveform.size
    ]
    n_samples = round(fitting["clip_s"] * rate)
    if not pieces or trained.feature.own_rate:
        return None
    # Which sample of the waveform comes where in a clip; 0: what a short one is filled up with.
    places = np.stack([fit_to_length(np.arange(begin, end) + 1, n_samples, fitting["fit"]) for begin, end in pieces])
    samples = torch.from_numpy(np.append(np.float32(0), waveform))
    gradient = np.zeros(waveform.size + 1, np.float32)
    for some in np.array_split(places, -(-len(places) // WINDOWS_AT_ONCE)):
        clips = samples[some].requires_grad_()
        logits = stage(trained.seen(trained.feature(clips))).float()
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], 1)
        odds = logits[:, index] - others.logsumexp(1) if others.shape[1] else logits[:, index]
        (of_clips,) = torch.autograd.grad(odds.sum(), clips, allow_unused=True) if odds.requires_grad else (None,)
        if of_clips is None:
            return None
        np.add.at(gradient, some, of_clips.numpy())
    return gradient[1:]
