"""What well-known symbols look like: assets, price and lot figures, and how they behave in the synthetic market.

Prices' and lots' figures are those of Binance's exchangeInfo of 2021-10-12, typed anew;
key order, filter names and all other limits follow the captures of 2026 (BINANCE.md §3.1),
so the smallest notional is 5 and not the 10 of 2021. Owns no files.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

E8 = Decimal("0.00000001")


class Figures(NamedTuple):
    """A symbol's figures. The smallest price is the tick, the smallest quantity the step.

    `anchor` (quote asset), `volume` (quote asset a minute) and `wildness` (standard
    deviation of a 5m return, in 1/100 %) shape the synthetic market alone.
    """

    symbol: str
    base: str
    quote: str
    tick: Decimal
    max_price: Decimal
    step: Decimal
    max_quantity: Decimal
    market_max_quantity: Decimal
    anchor: Decimal
    volume: int
    wildness: int


# base quote tick max_price step max_quantity market_max_quantity anchor volume wildness
_ROWS = """
BTC USDT 0.01 1000000 0.00001 9000 100.05381873 48000 1500000 16
ETH USDT 0.01 1000000 0.0001 9000 1600.51202668 3400 1000000 19
BNB USDT 0.1 100000 0.001 900000 28160.593369 410 350000 20
SOL USDT 0.01 10000 0.01 90000 52005.8128492 150 300000 25
XRP USDT 0.0001 10000 1 9222449 9222449 1.1 250000 22
ADA USDT 0.001 1000 0.1 900000 8234643.04711605 2.1 180000 23
DOGE USDT 0.0001 1000 1 9000000 32613681.7095205 0.22 200000 26
DOT USDT 0.01 10000 0.01 90000 330921.34450312 33 90000 24
LTC USDT 0.1 100000 0.001 90000 25570.86240733 175 80000 22
LINK USDT 0.01 10000 0.01 90000 183978.65296038 26 70000 24
BCH USDT 0.1 100000 0.001 90000 3443.76049548 590 40000 23
AVAX USDT 0.01 10000 0.01 90000 78926.34145934 56 90000 26
TRX USDT 0.00001 1000 0.1 9000000 23834141.4829861 0.095 60000 21
MATIC USDT 0.001 1000 0.1 9000000 2714771.79444058 1.3 90000 26
UNI USDT 0.01 10000 0.01 90000 84499.66246699 24 40000 25
ATOM USDT 0.01 10000 0.01 90000 80272.47415566 34 60000 26
XLM USDT 0.0001 1000 1 9000000 3842781.70604586 0.33 40000 22
ETC USDT 0.01 10000 0.01 90000 44651.79617095 53 45000 25
FIL USDT 0.01 10000 0.01 9222449 86892.86058333 64 40000 24
ICP USDT 0.01 100000 0.01 922327 44277.18900625 46 25000 25
NEAR USDT 0.001 1000 0.1 900000 309731.40041695 7.5 30000 28
ALGO USDT 0.0001 100000 1 922327 750106.61084086 1.8 40000 26
VET USDT 0.00001 1000 0.1 9000000 18632397.5151494 0.11 35000 25
EOS USDT 0.001 1000 0.1 900000 523177.08742182 4.4 40000 22
XTZ USDT 0.001 1000 0.1 900000 290647.78033356 6.9 25000 25
AAVE USDT 0.1 100000 0.001 900000 4346.80063238 290 20000 25
THETA USDT 0.001 10000 0.1 90000 268956.62696316 5.8 20000 25
FTM USDT 0.0001 1000 1 9000000 1350167.27936066 1.9 50000 30
SAND USDT 0.0001 1000 1 9000000 922782.95691452 0.78 25000 28
MANA USDT 0.0001 1000 1 900000 586174.79540277 0.74 15000 27
AXS USDT 0.01 1000 0.01 900000 27392.07580264 118 30000 29
SHIB USDT 0.00000001 1 1 46116860414 46116860414 0.000027 150000 32
LUNA USDT 0.01 10000 0.01 90000 88775.1099722 39 60000 27
GRT USDT 0.0001 1000 1 900000 1453298.34765114 0.75 15000 26
COCOS USDT 0.0001 1000 1 900000 283365.10979847 1.6 2500 30
CAKE USDT 0.01 10000 0.01 90000 136737.90255733 19 12000 25
CHZ USDT 0.0001 1000 1 9000000 3252910.63377345 0.29 15000 26
ENJ USDT 0.001 1000 0.1 900000 284461.43405142 1.7 9000 26
ZEC USDT 0.1 100000 0.001 90000 8246.34071458 118 10000 23
DASH USDT 0.1 100000 0.001 90000 5162.74939749 170 8000 23
XMR USDT 0.1 100000 0.001 90000 4141.47831202 260 8000 20
NEO USDT 0.01 10000 0.01 90000 16147.28800555 42 12000 23
IOTA USDT 0.0001 1000 1 900000 786854.92425295 1.3 10000 24
WAVES USDT 0.01 10000 0.01 90000 18025.12832638 27 9000 25
KSM USDT 0.1 100000 0.001 900000 2623.11291938 340 10000 25
COMP USDT 0.1 100000 0.001 90000 3515.48940426 315 8000 25
SNX USDT 0.001 10000 0.1 90000 87464.40924739 10.5 8000 26
MKR USDT 1 100000 0.0001 90000 146.2977535 2500 5000 23
YFI USDT 0.01 1000000 0.00001 9000 32.8071359 32000 7000 24
SUSHI USDT 0.001 10000 0.1 90000 115034.20013888 10.5 14000 27
CRV USDT 0.001 10000 0.1 922327 316198.95149409 2.7 14000 28
1INCH USDT 0.001 1000 0.1 900000 242172.60674079 3.3 9000 27
BAT USDT 0.0001 1000 1 900000 577148.72272411 0.68 7000 24
ZIL USDT 0.00001 1000 0.1 9000000 5297302.00361362 0.09 8000 25
HOT USDT 0.000001 1000 1 92141578 92141578 0.0108 7000 26
RUNE USDT 0.001 10000 0.1 90000 90830.17185545 8.3 9000 27
EGLD USDT 0.01 100000 0.01 900000 7114.49232105 235 12000 25
HBAR USDT 0.0001 1000 1 9000000 3051336.99027102 0.36 12000 25
ONE USDT 0.00001 1000 0.1 9000000 4950369.45003474 0.21 20000 29
KAVA USDT 0.001 1000 0.1 900000 88648.17206393 5.5 6000 26
QTUM USDT 0.001 10000 0.1 90000 45126.50479499 12 7000 24
OMG USDT 0.001 1000 0.1 900000 170676.87658095 14 12000 26
GALA USDT 0.00001 1000 1 92141578 16738978.07783182 0.09 14000 32
DYDX USDT 0.001 10000 0.01 9222449 104092.30229325 21 20000 29
AR USDT 0.01 100000 0.01 100000 15766.05097222 53 7000 27
FLOW USDT 0.01 100000 0.01 922327 41814.91629603 14 5000 25
LRC USDT 0.0001 1000 1 9000000 753237.03347222 0.41 5000 27
"""


@cache
def known() -> dict[str, Figures]:
    """Every symbol of the table, by name, in its order."""
    table: dict[str, Figures] = {}
    for line in _ROWS.split("\n"):
        if line:
            base, quote, *numbers, volume, wildness = line.split()
            tick, max_price, step, max_quantity, market_max, anchor = map(Decimal, numbers)
            table[base + quote] = Figures(base + quote, base, quote, tick, max_price, step, max_quantity, market_max, anchor, int(volume), int(wildness))
    return table


def eight(value: Decimal) -> str:
    """Plain digits with the 8 decimals that Binance prints."""
    return format(value.quantize(E8), "f")


def entry(f: Figures) -> dict[str, Any]:
    """A symbol as exchangeInfo tells it. What the engine can't do yet is not offered."""
    precision = 8
    return {
        "symbol": f.symbol,
        "status": "TRADING",
        "baseAsset": f.base,
        "baseAssetPrecision": precision,
        "quoteAsset": f.quote,
        "quotePrecision": precision,
        "quoteAssetPrecision": precision,
        "baseCommissionPrecision": precision,
        "quoteCommissionPrecision": precision,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": False,
        "ocoAllowed": True,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters(f),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT", "TRANSFER"],
    }


def filters(f: Figures) -> list[dict[str, Any]]:
    """A symbol's filters, in the order and spelling of 2026. Multipliers are unpadded, all else has 8 decimals."""
    return [
        {"filterType": "PRICE_FILTER", "minPrice": eight(f.tick), "maxPrice": eight(f.max_price), "tickSize": eight(f.tick)},
        {"filterType": "LOT_SIZE", "minQty": eight(f.step), "maxQty": eight(f.max_quantity), "stepSize": eight(f.step)},
        {"filterType": "ICEBERG_PARTS", "limit": 100},
        {"filterType": "MARKET_LOT_SIZE", "minQty": eight(Decimal(0)), "maxQty": eight(f.market_max_quantity), "stepSize": eight(Decimal(0))},
        {
            "filterType": "TRAILING_DELTA",
            "minTrailingAboveDelta": 10,
            "maxTrailingAboveDelta": 2000,
            "minTrailingBelowDelta": 10,
            "maxTrailingBelowDelta": 2000,
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "2",
            "bidMultiplierDown": "0.5",
            "askMultiplierUp": "2",
            "askMultiplierDown": "0.5",
            "avgPriceMins": 5,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": "5.00000000",
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": 20},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
        {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": 10},
    ]


def figures_from_data(symbol: str, base: str, quote: str, tick: Decimal, step: Decimal) -> Figures:
    """Figures of a symbol that the table doesn't know (or whose data lie off the table's grid), from its data's decimals."""
    most = Decimal(1_000_000)
    lots = Decimal(9_000_000) if step >= 1 else Decimal(9_000_000) * step.scaleb(2)
    return Figures(symbol, base, quote, tick, most, step, max(lots, Decimal(9000)), max(lots, Decimal(9000)), Decimal(1), 0, 0)
