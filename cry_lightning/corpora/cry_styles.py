"""Acoustic parameters of the kinds of infant cry, each with its source."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class CryStyle:
    """Means over many cries of one kind; shares are of the expirations."""

    f0_hz: float
    expiration_s: float
    odd_melody: float  # share whose melody is rising, falling-rising or flat, not rising-falling or falling
    melody_arcs: float  # rising-falling arcs in one expiration
    vibrato: float  # share with a wavering pitch
    biphonation: float  # share with a second, unrelated oscillation
    dysphonation: float  # share of the voiced time that is noisy


# The sizes marked * are chosen here; the source gives the direction. Those marked + are quoted at second hand.
#   Michelsson 2002: Michelsson, Eklund, Leppanen & Lyytinen, Folia Phoniatr. Logop. 54, 172 healthy newborns.
#   Michelsson 1977: Michelsson, Sirvio & Wasz-Hockert, Acta Paediatr. Scand. 66, pain cries of 45 asphyxiated newborns
#     against those of 75 healthy ones.
#   Wasz-Hockert 1968: Wasz-Hockert et al., The Infant Cry, Clinics in Developmental Medicine 29.
#   Porter 1986: Porter, Miller & Marshall, Child Development 57, cries in painful procedures.
#   Wermke 2009: Wermke & Mende, Musicae Scientiae 13, melody of spontaneous cries.
#   Lee 2025: Lee, Robb, Wermke & Schluter, Folia Phoniatr. Logop., doi 10.1159/000546232, infants of 2 months.
NORMAL = CryStyle(
    f0_hz=496,  # Michelsson 2002
    expiration_s=1.4,  # Michelsson 2002
    odd_melody=0.15,  # Michelsson 2002: mainly rising-falling *
    melody_arcs=1,  # Michelsson 2002
    vibrato=0.1,  # *
    biphonation=0.04,  # *
    dysphonation=0.15,  # *
)
CRY_STYLES = {
    "normal": NORMAL,
    "asphyxia": CryStyle(
        f0_hz=650,  # Michelsson 1977: higher maximum and minimum *
        expiration_s=0.8,  # Michelsson 1977: shorter *
        odd_melody=0.6,  # Michelsson 1977: more rising, falling-rising and flat *
        melody_arcs=1,
        vibrato=0.4,  # Michelsson 1977: more often *
        biphonation=0.3,  # Michelsson 1977: more often *
        # As in normal cries: the sources disagree (Lenti Boero 2002, Bioacoustics 13, found less voiceless cry).
        dysphonation=NORMAL.dysphonation,
    ),
    "pain": CryStyle(
        f0_hz=530,  # Wasz-Hockert 1968 +
        expiration_s=2.6,  # Wasz-Hockert 1968 +, one prick; Porter 1986 found shorter ones as procedures hurt more
        odd_melody=NORMAL.odd_melody,
        melody_arcs=1,
        vibrato=0.3,  # Porter 1986: fundamental more variable *
        biphonation=NORMAL.biphonation,
        dysphonation=0.35,  # Porter 1986: fewer harmonics *
    ),
    "hunger": CryStyle(
        f0_hz=470,  # Wasz-Hockert 1968 +
        expiration_s=1.3,  # Wasz-Hockert 1968 +
        odd_melody=0.05,  # Wasz-Hockert 1968 +: rising-falling *
        melody_arcs=1,
        vibrato=NORMAL.vibrato,
        biphonation=NORMAL.biphonation,
        dysphonation=NORMAL.dysphonation,
    ),
    "discomfort": CryStyle(
        f0_hz=430,  # no source: chosen below hunger
        expiration_s=1.4,
        odd_melody=NORMAL.odd_melody,
        melody_arcs=2.5,  # Wermke 2009: several arcs; Lee 2025: fewer under distress *
        vibrato=NORMAL.vibrato,
        biphonation=NORMAL.biphonation,
        dysphonation=0.05,  # *
    ),
}
MELODY_RANGE = 0.37  # highest less lowest f0 over mean f0: (583 - 398) / 496 Hz, Michelsson 2002


def blend(style: CryStyle, neutral: list[CryStyle], strength: float) -> CryStyle:
    """`style` at strength 1, the mean of `neutral` at strength 0."""
    means = {f.name: float(np.mean([getattr(other, f.name) for other in neutral])) for f in fields(CryStyle)}
    return CryStyle(**{name: mean + strength * (getattr(style, name) - mean) for name, mean in means.items()})
