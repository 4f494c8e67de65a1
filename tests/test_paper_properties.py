"""Whatever orders come and however the price goes: no coin appears, none is lost, fills lie inside candles."""

from __future__ import annotations

from decimal import Decimal as D

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.paper.exchange import TABLE
from paper_fixed import MINUTE, START, FixedMarket, Hands

prices = st.integers(80, 120)


@st.composite
def candles(draw):
    rows = []
    for _ in range(draw(st.integers(2, 12))):
        if rows and draw(st.integers(0, 7)) == 0:
            rows.append(None)
            continue
        four = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
        low, high = four[0], four[3]
        o, c = draw(st.permutations(four[1:3]))
        rows.append(tuple(f"{D(v) + D('0.37')}" for v in (o, high, low, c)))
    if rows[-1] is None:
        rows[-1] = rows[0]
    return rows


sides = st.sampled_from(["BUY", "SELL"])
actions = st.lists(
    st.one_of(
        st.tuples(st.just("market"), sides, st.integers(1, 300_000)),
        st.tuples(st.just("quote"), sides, st.integers(1, 900_000)),
        st.tuples(st.just("limit"), sides, st.integers(1, 300_000), st.integers(7000, 13000), st.sampled_from(["GTC", "GTC", "IOC", "FOK"])),
        st.tuples(st.just("cancel")),
        st.tuples(st.just("partial"), st.integers(0, 100)),
        st.tuples(st.just("step"), st.integers(1, 3 * MINUTE)),
    ),
    max_size=25,
)


def act(hands, action):
    kind, *rest = action
    if kind == "market":
        hands.order(rest[0], quantity=str(D(rest[1]) / 10_000))
    elif kind == "quote":
        hands.order(rest[0], quoteOrderQty=str(D(rest[1]) / 100))
    elif kind == "limit":
        hands.order(rest[0], "LIMIT", quantity=str(D(rest[1]) / 10_000), price=str(D(rest[2]) / 100), timeInForce=rest[3])
    elif kind == "cancel":
        hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    elif kind == "partial":
        hands.paper("POST", "faults", {"method": "POST", "path": "/api/v3/order", "fault": "partial_fill", "times": 1, "params": {"fraction": rest[0] / 100}})
    else:
        hands.step(rest[0])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=candles(), todo=actions)
def test_money_is_conserved_and_fills_lie_inside_candles(rows, todo):
    market = FixedMarket(rows)
    hands = Hands(market)
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 50})
    for action in todo:
        act(hands, action)
        usdt, btc = D(10000), D(50)
        for t in hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=1000):
            sign = 1 if t["isBuyer"] else -1
            btc += sign * D(t["qty"]) - (D(t["commission"]) if t["commissionAsset"] == "BTC" else 0)
            usdt -= sign * D(t["quoteQty"]) + (D(t["commission"]) if t["commissionAsset"] == "USDT" else 0)
            n = (t["time"] - START) // MINUTE
            bar = market._bar(n)
            assert bar is not None, "a fill inside a gap"
            assert bar[4] <= D(t["price"]) <= bar[3]
            assert D(t["commission"]) == ((D(t["qty"]) if t["isBuyer"] else D(t["quoteQty"])) * D("0.001")).quantize(D("1e-8"), "ROUND_DOWN")
        owned = hands.owns()
        for free, locked in owned.values():
            assert free >= 0 and locked >= 0
        assert sum(owned.get("USDT", (D(0), D(0)))) == usdt
        assert sum(owned.get("BTC", (D(0), D(0)))) == btc
        still = hands.ask("GET", "/api/v3/openOrders")
        locked_btc = sum((D(o["origQty"]) - D(o["executedQty"]) for o in still if o["side"] == "SELL"), D(0))
        assert owned.get("BTC", (D(0), D(0)))[1] == locked_btc
        for o in hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT", limit=1000):
            done = D(o["executedQty"])
            assert 0 <= done <= D(o["origQty"])
            assert (o["status"] == "FILLED") == (done == D(o["origQty"]))
            if o["type"] == "LIMIT" and done:
                paid = D(o["cummulativeQuoteQty"]) / done
                assert paid <= D(o["price"]) if o["side"] == "BUY" else paid >= D(o["price"])
    hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert all(locked == 0 for _, locked in hands.owns().values())


texts = st.text(max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
    path=st.sampled_from(["/api/v3/order", "/api/v3/klines", "/api/v3/exchangeInfo", "/api/v3/account", "/paper/clock", "/paper/faults", "/paper/accounts"]),
    query=st.one_of(texts, st.lists(st.tuples(st.sampled_from(["symbol", "limit", "startTime", "interval", "symbols", "permissions"]), texts)).map(
        lambda pairs: "&".join(f"{k}={v}" for k, v in pairs))),
    body=st.binary(max_size=60),
)  # fmt: skip
def test_no_request_however_odd_is_answered_with_a_failure_of_ours(method, path, query, body):
    hands = Hands(FixedMarket([("100", "101", "99", "100")]))
    response = hands.raw(method, path, query, body, x_mbx_apikey="paper")
    assert response.status < 500


_values = st.one_of(
    st.sampled_from(["BTCUSDT", "ETHBTC", "BUY", "SELL", "GTC", "IOC", "FOK", "LIMIT", "MARKET", "true", "RESULT", "STOP_ON_FAILURE", "ALLOW_FAILURE"]),
    st.sampled_from(["LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT", "CANCEL_ONLY", "ONLY_NEW", "a", "0", "9" * 20]),
    st.integers(0, 120).map(str),
    texts,
)
_LISTS = [
    ("POST", "/api/v3/orderList/oco"), ("POST", "/api/v3/order/oco"), ("POST", "/api/v3/order/cancelReplace"), ("POST", "/api/v3/order"),
    ("DELETE", "/api/v3/orderList"), ("GET", "/api/v3/orderList"), ("GET", "/api/v3/allOrderList"), ("GET", "/api/v3/openOrderList"),
    ("POST", "/sapi/v1/bnbBurn"), ("DELETE", "/api/v3/order"), ("DELETE", "/api/v3/openOrders"),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(data=st.data(), where=st.sampled_from(_LISTS))
def test_no_signed_request_about_orders_and_lists_is_answered_with_a_failure_of_ours(data, where):
    """Parameters that the path takes, mostly those it needs, with values of every kind."""
    hands = Hands(FixedMarket([("100", "101", "99", "100")]))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 5})
    oco = {"side": "SELL", "quantity": "1", "aboveType": "LIMIT_MAKER", "abovePrice": "104", "belowType": "STOP_LOSS", "belowStopPrice": "97"}
    hands.ask("POST", "/api/v3/orderList/oco", symbol="BTCUSDT", **oco)
    endpoint = TABLE[where]
    chosen = set(data.draw(st.lists(st.sampled_from(sorted(endpoint.takes)), max_size=8))) if endpoint.takes else set()
    params = {name: data.draw(_values) for name in sorted(chosen | set(endpoint.needs))}
    if data.draw(st.booleans()):
        known = oco if "oco" in where[1] else {"side": "SELL", "type": "STOP_LOSS", "quantity": "1", "stopPrice": "97", "cancelReplaceMode": "ALLOW_FAILURE"}
        params |= {k: v for k, v in {"symbol": "BTCUSDT", **known}.items() if k in endpoint.takes}
    assert hands.signed(*where, **params).status < 500
    owned = hands.owns()
    assert all(free >= 0 and locked >= 0 for free, locked in owned.values())
