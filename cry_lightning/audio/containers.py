"""What the bytes of a file tell of its length where its decoder does not: WAV, Ogg and MP3."""

import mmap
from dataclasses import dataclass
from pathlib import Path

RIFF_HEADER = 12
OGG_HEADER = 27
OGG_FIRST, OGG_LAST = 2, 4  # flags of a page
FRAME_COUNTS = (b"Xing", b"Info", b"VBRI")  # one of them stands in the first frame of an MP3 that tells its length
MP3_LOOKED_AT = 1 << 12  # bytes behind the tag: more than the longest frame
TAG_ID3V1, TAG_APE = 128, 32  # bytes, of the whole tag and of an APE tag's footer
LOOKED_AT = 1 << 20


def bytes_behind_wav(path: Path) -> int:
    """How many bytes behind a WAV's data belong to no chunk, 0 if they are zeros: sound, if nobody closed the file."""
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(RIFF_HEADER)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0
        position, end_of_data = RIFF_HEADER, length
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            after = position + 8 + size
            is_chunk = header[:4].isascii() and header[:4].decode().isprintable() and after <= length
            if end_of_data < length and not is_chunk:
                file.seek(end_of_data)
                return length - end_of_data if file.read(LOOKED_AT).strip(b"\0") else 0
            if header[:4] == b"data":
                end_of_data = after
            position = after + size % 2
            file.seek(position)
    return 0


@dataclass(frozen=True)
class OggPages:
    """What the pages of an Ogg file are, without decoding them."""

    n_links: int  # streams that follow each other, each with a beginning of its own
    is_cut: bool  # the last page is not whole
    is_closed: bool  # the last page says that it is the last


def ogg_pages(path: Path) -> OggPages:
    """Walk through the pages of an Ogg file."""
    n_links, flags, is_cut, began = 0, 0, False, False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        position = content.find(b"OggS")
        while position >= 0:
            end = position + OGG_HEADER
            if end > len(content):
                is_cut = True
                break
            end += content[end - 1]
            after = end + sum(content[position + OGG_HEADER : end])
            if is_cut := after > len(content):
                break
            flags = content[position + 5]
            n_links += bool(flags & OGG_FIRST) and not began  # several tracks of one link begin side by side
            began = bool(flags & OGG_FIRST)
            position = content.find(b"OggS", after)
    return OggPages(n_links, is_cut, bool(flags & OGG_LAST))


def mp3_tells_length(path: Path) -> bool:
    """Whether the first frame of an MP3 holds the number of frames; else any length is a guess from the bit rate."""
    with path.open("rb") as file:
        tag = file.read(10)
        if tag[:3] == b"ID3":
            file.seek(10 + int("".join(f"{byte & 0x7F:07b}" for byte in tag[6:]) or "0", 2))
        else:
            file.seek(0)
        head = file.read(MP3_LOOKED_AT)
    return any(name in head for name in FRAME_COUNTS)


def bytes_of_sound_from(path: Path, position: int) -> int:
    """How many bytes from a position on may be sound: zeros at the end, and ID3v1 and APE tags, are none."""
    with path.open("rb") as file:
        file.seek(position)
        tail = file.read(LOOKED_AT)
    if tail[-TAG_ID3V1:].startswith(b"TAG"):
        tail = tail[:-TAG_ID3V1]
    if tail[-TAG_APE:].startswith(b"APETAGEX"):
        size = int.from_bytes(tail[-TAG_APE:][12:16], "little") + TAG_APE
        tail = tail[: max(0, len(tail) - size)]
    return len(tail.strip(b"\0"))
