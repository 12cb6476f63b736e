"""HTTP: the page, the API, the events, the probes and the metrics of a cluster.

A subscriber like any other: it reads the health topic and, where there is one, the store. It reaches no
exchange, no key and no actor.

Public face: `server.HttpServer`, `view.View` and `Operate`, `openapi.document`.
May import: `bus`, `storage`, `health`, `config`, `messages`, `money`, `errors`, `clock`, `log`; aiohttp's
server is imported here.
"""
