"""The public archives that `download` fetches."""

from dataclasses import dataclass

MOST_FILES, MOST_BYTES = 500_000, 100 * 10**9  # of an archive, unpacked; the largest here has 106,000 and 4 GB


@dataclass(frozen=True)
class Source:
    """A public archive and what is known of it."""

    url: str
    sha256: str | None  # None: its publisher names none and the archive is made anew on request
    recordings: str  # folder in the archive that holds the recordings
    licence: str
    without_hash: str = ""  # why there is none
    on_request: str | None = None  # what the archive holds, of a corpus that its owners hand out themselves

    def __str__(self) -> str:
        """What the help tells of it."""
        if self.on_request is not None:
            return f"{self.licence}; no sha256: its owners hand it out on request"
        unknown = f"no sha256: {self.without_hash}; --sha256 or --accept-unverified"
        return f"{self.licence}; {'sha256 known' if self.sha256 else unknown}"


SOURCES = {
    "chillanto": Source(
        "https://ccc.inaoep.mx/~kargaxxi/",
        None,
        ".",
        "as agreed with INAOE, Mexico",
        on_request="the folders 1s_asphyxia, 1s_deaf, 1s_hunger, 1s_normal and 1s_pain",
    ),
    "donateacry": Source(
        "https://github.com/gveres/donateacry-corpus/archive/refs/heads/master.zip",
        None,
        "donateacry_corpus_cleaned_and_updated_data",
        "ODbL 1.0",
        without_hash="GitHub packs the newest state of the repository anew at each request",
    ),
    "esc50": Source(
        "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
        "661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
        "audio",
        "CC BY-NC 3.0",
    ),
    "fsdd": Source(
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
        None,
        "recordings",
        "CC BY-SA 4.0",
        without_hash="its publisher names none, and GitHub packs the release anew at each request",
    ),
    "speech_commands": Source(
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ".",
        "CC BY 4.0",
    ),
    "speech_commands_v0.01": Source(
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ".",
        "CC BY 4.0",
    ),
}
