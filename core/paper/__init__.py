"""The paper exchange: Binance's spot REST on loopback, with nothing at stake.

`exchange.PaperExchange` is the whole of it without sockets, `server` puts it on one,
`adapter` into a requests session, `python3 -m core.paper` runs it as a process. Prices come
from core/paper/markets. Owns data/paper/ in BOTYARD_HOME.
"""
