"""Whether a key that looks like PEM can be used. The only file that imports cryptography.

ccxt would raise a bare ValueError for a broken one, at the first fetch and without saying which.
"""

from __future__ import annotations


def unreadable_pem(value: str) -> str:
    """What is wrong with a PEM private key; empty when nothing is, or when it is no PEM at all."""
    if "-----BEGIN" not in value:
        return ""
    # Imported here: a process that only listens never meets a key, and this costs it 3 MB.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(value.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return (
            "expected a PEM private key without a passphrase, and this one cannot be read; "
            "copy it whole, from -----BEGIN to -----END, with its line ends (or \\n for each)"
        )
    return ""
