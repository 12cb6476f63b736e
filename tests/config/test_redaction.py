"""Secrets in texts: what is taken out, and what stays."""

from __future__ import annotations

from brokerwatch.config.redaction import (
    credential_spellings,
    password_spellings,
    redacted,
    redacted_answer,
    without_passwords,
)

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="


def test_the_longest_secret_is_taken_out_first_since_one_may_be_a_part_of_another() -> None:
    secrets = credential_spellings(["key-abc", "key-abc-and-more"])
    assert redacted("key-abc-and-more, key-abc", secrets) == "[redacted], [redacted]"


def test_each_line_of_a_pem_key_is_a_secret_and_its_frame_is_none() -> None:
    pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"
    spellings = credential_spellings([pem])
    assert redacted("the line MHcCAQEE", spellings) == "the line [redacted]"
    assert redacted("-----BEGIN EC PRIVATE KEY-----", spellings) == "-----BEGIN EC PRIVATE KEY-----"


def test_a_password_is_taken_out_as_it_is_and_as_an_address_has_it() -> None:
    secrets = password_spellings(["p@ss/word", None, ""])
    assert redacted("p@ss/word or p%40ss%2Fword", secrets, mark="***") == "*** or ***"


def test_a_text_from_outside_keeps_neither_half_a_secret_nor_a_signature() -> None:
    said = f"…{SECRET[:15]}' signature=abcdef0123456789abcdef"
    assert redacted_answer(said, [SECRET]) == "…[redacted]' signature=[redacted]"
    assert redacted_answer(f"only {SECRET[:11]}", [SECRET]) == f"only {SECRET[:11]}"


def test_an_address_is_shown_without_its_password() -> None:
    shown = without_passwords("postgresql://user:secret@host/database")
    assert shown == "postgresql://user:***@host/database"
