"""What fits into an SMS: GSM-7 and UCS-2, counted."""

from __future__ import annotations

import random

import pytest

from core.notify.sms_text import fit, is_gsm, segments, simple


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),  # two places each
        ("€" * 81, 2),
        ("é" * 160, 1),
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("ж" * 134, 2),
        ("ж" * 135, 3),
        ("a" * 70 + "→", 2),  # one sign makes the whole of it UCS-2
        ("🤖" * 35, 1),  # two places each
        ("🤖" * 36, 2),
        ("🤖" * 66, 2),  # 33 a segment: none is cut in two
        ("🤖" * 67, 3),
        ("a" * 152 + "€" + "a" * 151, 2),  # the € goes into the next segment whole
        ("a" * 152 + "€" + "a" * 152, 3),
    ],
)
def test_segments_are_counted_as_a_phone_company_does(text: str, count: int) -> None:
    assert segments(text) == count


def test_text_becomes_plain_without_losing_what_it_says() -> None:
    assert simple("🟢 OPENED — “BTC Bot” −1.20 % …\n→ go × 2") == 'OPENED - "BTC Bot" -1.20 % ... -> go x 2'
    assert simple("Žižka São Łódź") == "Zizka Sao Łodz"
    assert simple("机器人 Бот") == "机器人 Бот" and is_gsm(simple("Möwe ñ € [x]"))


def test_what_is_too_long_is_cut_to_the_last_place_and_says_so() -> None:
    for seed in range(200):
        r = random.Random(seed)
        text = "".join(r.choice("abc €[{ж🤖é—") for _ in range(r.randrange(1, 700)))
        most = r.randrange(1, 4)
        made = fit(text, most, " #abcdef")
        assert made.endswith(" #abcdef") and segments(made) <= most
    assert segments(fit("a" * 1000, 2, " #abcdef")) == 2 and len(fit("a" * 1000, 2, " #abcdef")) == 306
    assert fit("short", 1, " #x") == "short #x"
