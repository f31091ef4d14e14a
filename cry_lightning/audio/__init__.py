"""Recordings to mono float32 arrays: any container, any part of it, at any sample rate, fitted to a length."""

from cry_lightning.audio.containers import (
    EXTENSIONS,
    NO_SOUND,
    SAMPLE_RATES,
    SHORTEST_S,
    SILENT,
    SLACK_S,
    AudioError,
    kind_of_fault,
    warn_once,
    what_it_is,
)
from cry_lightning.audio.decoders import fault_of_system
from cry_lightning.audio.loading import (
    DECODING_VERSION,
    FRONT_END_VERSION,
    AudioInfo,
    blocks,
    info,
    load,
    load_fitted,
)
from cry_lightning.audio.recording import Fit, Recording, fault_of, fit_to_length

__all__ = [
    "DECODING_VERSION",
    "EXTENSIONS",
    "FRONT_END_VERSION",
    "NO_SOUND",
    "SAMPLE_RATES",
    "SHORTEST_S",
    "SILENT",
    "SLACK_S",
    "AudioError",
    "AudioInfo",
    "Fit",
    "Recording",
    "blocks",
    "fault_of",
    "fault_of_system",
    "fit_to_length",
    "info",
    "kind_of_fault",
    "load",
    "load_fitted",
    "warn_once",
    "what_it_is",
]
