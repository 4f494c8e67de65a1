"""SMS text: what fits into how many segments. Pure.

A message of GSM-7 characters holds 160 of them, or 153 a segment when it needs several;
one single character outside of GSM-7 (an emoji, a dash, Cyrillic) makes the whole message
UCS-2: 70, or 67 a segment. Source: 3GPP TS 23.038 (alphabet and its extension table) and
TS 23.040 (the header of 6 octets that concatenated segments carry).
"""

from __future__ import annotations

import unicodedata

BASIC = frozenset("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà")
EXTENDED = frozenset("\f^{}\\[~]|€")  # two places each
_PLAIN = str.maketrans(
    {
        **{"–": "-", "—": "-", "−": "-", "‑": "-", "…": "...", "’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "·": "-", "×": "x"},
        **{"→": "->", "±": "+/-", "≥": ">=", "≤": "<=", "\u00a0": " ", "\u202f": " ", "\t": " "},
    }
)


def is_gsm(text: str) -> bool:
    return all(c in BASIC or c in EXTENDED for c in text)


def segments(text: str) -> int:
    """How many SMS this text is sent as; 0 for none."""
    if not text:
        return 0
    if is_gsm(text):
        return _parts([2 if c in EXTENDED else 1 for c in text], 160, 153)
    return _parts([2 if ord(c) > 0xFFFF else 1 for c in text], 70, 67)


def _parts(widths: list[int], alone: int, each: int) -> int:
    """A character of two places is never cut in two: it goes into the next segment whole."""
    if sum(widths) <= alone:
        return 1
    count, used = 1, 0
    for w in widths:
        if used + w > each:
            count, used = count + 1, 0
        used += w
    return count


def simple(text: str) -> str:
    """The same text in characters that SMS carry cheaply: typographic signs become plain ones,
    emoji and control characters go, accents that GSM-7 lacks go. Other scripts stay as they are."""
    found = []
    for c in text.translate(_PLAIN):
        if c in BASIC or c in EXTENDED:
            found.append(c)
        elif unicodedata.category(c) in ("So", "Sk", "Cc", "Cf", "Cs", "Co", "Cn", "Mn", "Me"):
            continue
        else:
            bare = "".join(x for x in unicodedata.normalize("NFKD", c) if not unicodedata.combining(x))
            found.append(bare if bare and is_gsm(bare) else c)
    return " ".join("".join(found).split())


def fit(text: str, most: int, tail: str = "") -> str:
    """`simple(text)` + tail in at most `most` segments; what is too long is cut, and `...` says so."""
    body = simple(text)
    if segments(body + tail) <= most:
        return body + tail
    low, high = 0, len(body)
    while low < high:
        middle = (low + high + 1) // 2
        if segments(body[:middle] + "..." + tail) <= most:
            low = middle
        else:
            high = middle - 1
    return body[:low].rstrip() + "..." + tail
