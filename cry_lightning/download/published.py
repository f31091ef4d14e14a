"""The public archives that `download` fetches, and the published weights that `weights` does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

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
    "cryceleb": Source(
        "https://huggingface.co/datasets/Ubenwa/CryCeleb2023",
        None,
        ".",
        "CC BY-NC-ND 4.0",
        on_request="the folder audio and metadata.csv",
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


@dataclass(frozen=True)
class Weights:
    """A published file of weights, and what is known of it."""

    url: str
    about: str
    megabytes: int | None
    digest: str | None  # as SHA-256 in hexadecimal, or "md5:" and MD5; None: the publisher gives none
    licence: str
    publisher: str | None  # as `import-weights` calls it; None: timm, whose networks read the file as it is
    encoder: str | None = None  # the network, where it is not the usual one, or not called as these weights are
    sizes: Mapping[str, float] = field(default_factory=dict)  # of the network and its front end, by which it is known

    @property
    def checked_by(self) -> str:
        """How the file is verified: the hash that it must have."""
        if self.digest is None:
            return "sha256 not known: --accept-unverified"
        return self.digest.replace("md5:", "md5 ") if self.digest.startswith("md5:") else f"sha256 {self.digest}"

    def __str__(self) -> str:
        """What the list says of it."""
        size = "size not known" if self.megabytes is None else f"{self.megabytes} MB"
        return f"{self.about}; {size}; {self.checked_by}; {self.licence}"

    @property
    def suffix(self) -> str:
        """Of the file that encoders read."""
        return ".ckpt" if self.publisher else PurePosixPath(self.url).suffix


PANNS = "https://zenodo.org/records/3987831/files/{}.pth?download=1"
EFFICIENTAT = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/{}.pt"
UBENWA = "https://huggingface.co/Ubenwa/{}/embedding_model.ckpt"
WEIGHTS = {
    "vggish": Weights(
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "VGGish, AudioSet",
        289,
        "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
        "Apache 2.0",
        "vggish",
        sizes={"width": 64},
    ),
    "panns-cnn14": Weights(
        PANNS.format("Cnn14_mAP%3D0.431"),
        "CNN14 at 32 kHz, AudioSet",
        327,
        "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
        "CC BY 4.0",
        "panns",
        "cnn14",
        {"width": 64, "sample_rate": 32000},
    ),
    "panns-cnn14-16k": Weights(
        PANNS.format("Cnn14_16k_mAP%3D0.438"),
        "CNN14 at 16 kHz, AudioSet",
        359,
        "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
        "CC BY 4.0",
        "panns",
        "cnn14",
        {"width": 64, "sample_rate": 16000},
    ),
    "panns-cnn10": Weights(
        PANNS.format("Cnn10_mAP%3D0.380"),
        "CNN10 at 32 kHz, AudioSet",
        25,
        "md5:bfb1f1f9968938fa8ef4012b8471f5f6",
        "CC BY 4.0",
        "panns",
        "cnn10",
        {"width": 64, "sample_rate": 32000},
    ),
    "panns-cnn6": Weights(
        PANNS.format("Cnn6_mAP%3D0.343"),
        "CNN6 at 32 kHz, AudioSet",
        None,
        "md5:e25e26b84585b14c7754c91e48efc9be",
        "CC BY 4.0",
        "panns",
        "cnn6",
        {"width": 64, "sample_rate": 32000},
    ),
    "efficientat-mn04": Weights(
        EFFICIENTAT.format("mn04_as_mAP_432"),
        "EfficientAT of width 0.4, AudioSet",
        4,
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
        "MIT",
        "efficientat",
        sizes={"width_mult": 0.4},
    ),
    "efficientat-mn10": Weights(
        EFFICIENTAT.format("mn10_as_mAP_471"),
        "EfficientAT of width 1.0, AudioSet",
        20,
        "0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e",
        "MIT",
        "efficientat",
        sizes={"width_mult": 1.0},
    ),
    "ubenwa-simclr": Weights(
        UBENWA.format("sb-cssl-vgg-sclr/resolve/a57d74a49f3bad455aff64a3c6f0627f5057f644"),
        "CNN14 after SimCLR on VGGSound, of the group of Gorin et al. 2023",
        302,
        None,
        "licence not stated",
        "speechbrain",
        "cnn14",
        {"width": 64},
    ),
    "ubenwa-supervised": Weights(
        UBENWA.format("sb-cssl-vgg-sup/resolve/fbf1e1bfb2cbf666f6bc6a5895aff6f76a0ef9cc"),
        "CNN14 after supervised training on VGGSound, of the group of Gorin et al. 2023",
        302,
        None,
        "licence not stated",
        "speechbrain",
        "cnn14",
        {"width": 64},
    ),
    "resnet50": Weights(
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "ResNet50, ImageNet (timm's resnet50.tv_in1k)",
        103,
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        "BSD 3-Clause",
        None,
    ),
    "tf_efficientnet_lite0": Weights(
        "https://huggingface.co/timm/tf_efficientnet_lite0.in1k/resolve/main/model.safetensors",
        "EfficientNet-Lite0, ImageNet (timm's tf_efficientnet_lite0.in1k)",
        19,
        None,
        "Apache 2.0",
        None,
    ),
}
