"""This process as a node of a pool: which API keys it has and until when, and what falls to it.

What moves the accounts stands in `cluster/pooling.py`.

Public face: `keeper.ClaimKeeper`, `terms.Terms`, `share.share_of`, `settling.Settling`.
May import: `placement`, `storage`, `gateway`, `config`, `clock`, `errors`, `log`.
"""
