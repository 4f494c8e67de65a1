"""Stops, targets and lists on paths of chance: each fill is the one that the path rule asks for, print by print, and money is conserved.

`Told` is the rule of DESIGN §5 written a second time, in the plainest way: the price is
moved along the straight walk to each print, and whatever it meets first happens first.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal as D

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paper_fixed import FILTERS, MINUTE, START, FixedMarket, Hands

UNLIMITED = [f for f in FILTERS if not f["filterType"].startswith("MAX_")]
LIMITS = ("LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT")


@dataclass
class Told:
    """What a test knows of an order that was taken."""

    id: int
    side: str
    kind: str
    stop: D
    limit: D
    life: str
    placed: int
    other: int | None = None  # the other order of its list
    waiting: bool = False
    open: bool = True

    def below(self) -> bool:
        """Whether the price must fall to meet it."""
        if self.waiting:
            return (self.side == "SELL") == self.kind.startswith("STOP_LOSS")
        return self.side == "BUY"

    def level(self) -> D:
        return self.stop if self.waiting else self.limit

    def lies_at(self, price: D) -> bool:
        return price <= self.level() if self.below() else price >= self.level()


def expected(prints, orders):
    """The fills, as (order, price, ms), that follow from the rule."""
    fills, came = [], None
    for p in prints:
        at = p.price if came is None else came
        came = p.price
        lay = [o for o in orders if o.open and o.placed < p.ms]
        while True:
            met = [o for o in lay if o.open and (o.lies_at(p.price) or o.lies_at(at))]
            if not met:
                break
            order = min(met, key=lambda o, at=at: (0 if o.lies_at(at) else abs(o.level() - at), o.id))
            jumped = p.opens and order.lies_at(p.price)
            price = p.price if jumped else at if order.lies_at(at) and order.level() != at else order.level()
            if not p.opens:
                at = price
            for other in orders:
                if other.id == order.other:
                    other.open = False
            if order.waiting:
                order.waiting = False
                if order.kind in LIMITS and not order.lies_at(price) and order.limit != price:
                    # Its limit bars the price at which it triggered.
                    if order.life != "GTC":
                        order.open = False
                    elif p.opens:
                        lay.remove(order)  # it rests from this print on
                    continue
            order.open = False
            fills.append((order.id, price, p.ms))
    return fills


prices = st.integers(85, 115)
away = st.integers(1, 900)  # cents from the last price, on the side where the order can wait
beside = st.integers(-250, 250)  # cents from a stop to its limit


@st.composite
def candles(draw):
    rows = [("100", "100", "100", "100")]
    for _ in range(draw(st.integers(4, 10))):
        if draw(st.integers(0, 8)) == 0:
            rows.append(None)
            continue
        four = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
        o, c = draw(st.permutations(four[1:3]))
        rows.append(tuple(str(v) for v in (o, four[3], four[0], c)))
    if rows[-1] is None:
        rows[-1] = rows[0]
    return rows


sides = st.sampled_from(["BUY", "SELL"])
kinds = st.sampled_from(["LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"])
lives = st.sampled_from(["GTC", "GTC", "GTC", "IOC", "FOK"])
firsts = st.sampled_from(["LIMIT_MAKER", "LIMIT_MAKER", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"])
stops = st.sampled_from(["STOP_LOSS", "STOP_LOSS_LIMIT"])
single = st.tuples(st.just("single"), sides, kinds, away, beside, lives)
double = st.tuples(st.just("oco"), sides, firsts, stops, away, away, beside, lives)
step = st.tuples(st.just("step"), st.integers(1, 3 * MINUTE))
limit = st.tuples(st.just("limit"), sides, st.integers(-300, 300))
other = st.one_of(st.tuples(st.just("market"), sides), limit, st.tuples(st.just("cancel")), st.tuples(st.just("partial")))


def last_price(hands):
    return D(hands.get("/api/v3/ticker/price", symbol="BTCUSDT")["price"])


def part(side, kind, last, distance, offset, life):
    """The parameters of an order that waits so many cents from the last price, under plain names."""
    above = (side == "BUY") == kind.startswith("STOP_LOSS")
    level = last + D(distance if above else -distance) / 100
    if kind == "LIMIT_MAKER":
        return {"price": str(level)}
    found = {"stopPrice": str(level)}
    if kind.endswith("_LIMIT"):
        found |= {"price": str(level + D(offset) / 100), "timeInForce": life}
    return found


def place(hands, action, quantity="1"):
    """Ask for a single stop or a list; the orders that were taken."""
    now, last = hands.paper("GET", "clock")["market_ms"], last_price(hands)
    if action[0] == "single":
        _, side, kind, distance, offset, life = action
        told = hands.order(side, kind, quantity=quantity, newOrderRespType="RESULT", **part(side, kind, last, distance, offset, life))
        taken = [told] if isinstance(told, dict) else []
    else:
        _, side, first, behind, distance, distance_behind, offset, life = action
        above, below = (first, behind) if side == "SELL" else (behind, first)
        params = {"symbol": "BTCUSDT", "side": side, "quantity": quantity, "aboveType": above, "belowType": below}
        for leg, kind in (("above", above), ("below", below)):
            chosen = part(side, kind, last, distance if kind == first else distance_behind, offset, life)
            params |= {leg + name[0].upper() + name[1:]: value for name, value in chosen.items()}
        told = hands.ask("POST", "/api/v3/orderList/oco", **params)
        taken = told["orderReports"] if isinstance(told, dict) else []
    orders = []
    for r in taken:
        stop, limit = D(r.get("stopPrice", 0)), D(r["price"])
        orders.append(Told(r["orderId"], r["side"], r["type"], stop, limit, r["timeInForce"], now, waiting="stopPrice" in r))
    if len(orders) == 2:
        orders[0].other, orders[1].other = orders[1].id, orders[0].id
    return orders


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(rows=candles(), todo=st.lists(st.one_of(single, double, double, step), min_size=4, max_size=16))
def test_every_fill_is_the_one_that_the_rule_asks_for(rows, todo):
    market = FixedMarket(rows, filters=UNLIMITED)
    hands = Hands(market, PAPER_BALANCE_USDT="1000000")
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10000})
    orders = []
    for action in todo:
        if action[0] == "step":
            hands.step(action[1])
        else:
            orders += place(hands, action)
    hands.step(20 * MINUTE)
    end = hands.paper("GET", "clock")["market_ms"]
    should = expected(list(market.prints("BTCUSDT", START - 1, end)), orders)
    trades = hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=1000)
    assert [(t["orderId"], D(t["price"]), t["time"]) for t in trades] == should
    assert all(D(t["qty"]) == 1 for t in trades)
    told = {o["orderId"]: o for o in hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT", limit=1000)}
    for o in orders:
        row = told[o.id]
        assert (row["status"] in ("NEW", "PARTIALLY_FILLED")) == o.open
        assert row["isWorking"] == (row["workingTime"] >= 0) == (o.stop == 0 or not o.waiting)


def check_money(hands, deposits, market):
    """Free and locked are what the fills and fees left, and what is locked is what the open orders need."""
    wallet = dict(deposits)
    for t in hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=1000):
        sign = 1 if t["isBuyer"] else -1
        wallet["BTC"] += sign * D(t["qty"])
        wallet["USDT"] -= sign * D(t["quoteQty"])
        wallet[t["commissionAsset"]] -= D(t["commission"])
        bar = market._bar((t["time"] - START) // MINUTE)
        assert bar is not None and bar[4] <= D(t["price"]) <= bar[3]
        if t["commissionAsset"] == "BNB":
            assert D(t["commission"]) == (D(t["price"]) * D(t["qty"]) * D("0.00075") / 500).quantize(D("1e-8"), "ROUND_DOWN")
    owned = hands.owns()
    assert all(free >= 0 and locked >= 0 for free, locked in owned.values())
    assert {asset: sum(owned.get(asset, (D(0), D(0)))) for asset in wallet} == wallet
    need: dict[tuple[str, int], D] = {}
    for o in hands.ask("GET", "/api/v3/openOrders"):
        left, asset = D(o["origQty"]) - D(o["executedQty"]), "USDT" if o["side"] == "BUY" else "BTC"
        amount = left if o["side"] == "SELL" else ((D(o["price"]) or D(o["stopPrice"])) * left).quantize(D("1e-8"), "ROUND_UP")
        which = (asset, o["orderListId"] if o["orderListId"] >= 0 else -1 - o["orderId"])
        need[which] = max(need.get(which, D(0)), amount)
    for asset in ("USDT", "BTC"):
        assert owned.get(asset, (D(0), D(0)))[1] == sum((v for (a, _), v in need.items() if a == asset), D(0))
    executed: dict[int, int] = {}
    for o in hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT", limit=1000):
        if o["orderListId"] >= 0 and D(o["executedQty"]):
            executed[o["orderListId"]] = executed.get(o["orderListId"], 0) + 1
    assert all(count == 1 for count in executed.values()), "both orders of a list traded"
    open_ids = {o["orderId"] for o in hands.ask("GET", "/api/v3/openOrders")}
    for found in hands.ask("GET", "/api/v3/allOrderList"):
        assert (found["listOrderStatus"] == "EXECUTING") == any(o["orderId"] in open_ids for o in found["orders"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(rows=candles(), todo=st.lists(st.one_of(single, double, double, step, step, other), min_size=4, max_size=16), bnb=st.sampled_from([None, "0.001", "1"]))
def test_money_is_conserved_whatever_comes_fees_in_bnb_and_partial_fills_included(rows, todo, bnb):
    market = FixedMarket(rows, filters=UNLIMITED, bnb="500")
    hands = Hands(market, PAPER_BALANCE_USDT="1000")
    deposits = {"USDT": D(1000), "BTC": D(8), "BNB": D(bnb or 0)}
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 8})
    if bnb:
        hands.paper("POST", "accounts/paper/deposit", {"asset": "BNB", "amount": bnb})
        hands.paper("POST", "accounts/paper/bnb_fees", {"enabled": True})
    for action in todo:
        kind, *rest = action
        if kind == "step":
            hands.step(rest[0])
        elif kind in ("single", "oco"):
            place(hands, action, "2.5")
        elif kind == "market":
            hands.order(rest[0], quantity="1.5")
        elif kind == "limit":
            hands.order(rest[0], "LIMIT", quantity="1.5", price=str(last_price(hands) + D(rest[1]) / 100))
        elif kind == "cancel":
            there = hands.ask("GET", "/api/v3/openOrders")
            if there:
                hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=there[-1]["orderId"])
        else:
            for path in ("/api/v3/order", "/api/v3/orderList/oco"):
                fault = {"method": "POST", "path": path, "fault": "partial_fill", "times": 1, "params": {"fraction": 0.3}}
                hands.paper("POST", "faults", fault)
        check_money(hands, deposits, market)
    hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    check_money(hands, deposits, market)
    assert all(locked == 0 for _, locked in hands.owns().values())
    assert hands.ask("GET", "/api/v3/openOrderList") == []
