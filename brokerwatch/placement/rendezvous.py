"""Weighted rendezvous hashing: how much each node wants a key, the same wherever it is computed.

Each pair of a key and a node has a hash, read as a number `u` between 0 and 1. The node with the largest
`capacity / -ln(u)` has the key. So each node wins in proportion to its capacity. The score of one node does
not depend on any other: a node that leaves moves only its own keys, and one that joins takes only those that
it wins. (C. Schindelhauer and G. Schomaker, "Weighted distributed hash tables", 2005.)

All nodes of a pool compute this for themselves and have to agree to the last bit, also across platforms and
versions of Python. So the hash is blake2b, and the logarithm is computed here, from operations that IEEE 754
rounds exactly: that of a platform's C library may differ in its last bit.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final

_BITS: Final = 52
"""Of a draw. With one bit more the half that is added to it would no longer be exact."""
_LN_2: Final = 0.6931471805599453
_SQRT_HALF: Final = 0.7071067811865476


def draw(subject: bytes, node: bytes) -> int:
    """The hash of a pair: from 0 to 2^52 − 1.

    Args:
        subject: what is placed. A byte 0 in it could make two pairs equal.
        node: the name of the node.
    """
    digest = blake2b(subject + b"\0" + node, digest_size=8, person=b"brokerwatch-node").digest()
    return int.from_bytes(digest, "big") >> (64 - _BITS)


def score(drawn: int, capacity: float) -> float:
    """How much a node wants what it drew this for; the largest has it. `capacity` is more than 0."""
    return capacity / -_ln((drawn + 0.5) / 2**_BITS)


def _ln(x: float) -> float:
    """The natural logarithm of `x` > 0, to ten digits; the same bits on every platform."""
    mantissa, exponent = math.frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s
    # 2 artanh(s). |s| is at most 0.172, so what follows the last term is below 1e-11 of the whole.
    series = 1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q / 13)))))
    return exponent * _LN_2 + 2.0 * s * series
