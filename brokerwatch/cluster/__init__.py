"""Puts the parts together: the cluster, and the handle that a trader holds.

Public face: `cluster.Cluster`, `broker.Broker`.
May import: `actors`, `orders`, `web`, `notify`, `pool`, `bus`, `gateway`, `routing`, `storage`,
`verification`, `exchanges`, `health`, `config`, `messages`, `money`, `errors`, `clock`.
"""
