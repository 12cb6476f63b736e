"""The one place that touches ccxt and HTTP: connections, API keys in turn, answers as values.

Public face: `gateway.Gateway` and `Access`, `catalogue.Catalogue`, `async_source.AsyncSource`,
`lane_turn.LaneTurn`, `loop.LoopThread`.
May import: `storage`, `exchanges`, `health`, `config`, `messages`, `money`, `errors`, `clock`; ccxt and
aiohttp are imported here.
"""
