"""Recordings to mono float32 arrays: any container, any part of it, at any sample rate, fitted to a length."""

from cry_lightning.audio.containers import (
    EXTENSIONS as EXTENSIONS,
    NO_SOUND as NO_SOUND,
    SAMPLE_RATES as SAMPLE_RATES,
    SHORTEST_S as SHORTEST_S,
    SILENT as SILENT,
    SLACK_S as SLACK_S,
    AudioError as AudioError,
    kind_of_fault as kind_of_fault,
    warn_once as warn_once,
    what_it_is as what_it_is,
)
from cry_lightning.audio.decoders import fault_of_system as fault_of_system
from cry_lightning.audio.listening import as_mp3 as as_mp3
from cry_lightning.audio.loading import (
    DECODING_VERSION as DECODING_VERSION,
    FRONT_END_VERSION as FRONT_END_VERSION,
    AudioInfo as AudioInfo,
    blocks as blocks,
    info as info,
    load as load,
    load_fitted as load_fitted,
)
from cry_lightning.audio.recording import (
    Fit as Fit,
    Recording as Recording,
    fault_of as fault_of,
    fit_to_length as fit_to_length,
)
