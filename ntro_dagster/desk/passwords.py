"""Passwords as argon2id hashes, with the library's own parameters (RFC 9106, the low-memory choice)."""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST = 12
"""Characters. NIST SP 800-63B asks for no more than length: neither signs nor capitals."""


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


def hash_password(password: str) -> str:
    return _hasher().hash(password)


def matches(known: str | None, password: str) -> bool:
    """Whether it is the password of the hash `known`. Takes as long for a member that is not there or has none."""
    try:
        return _hasher().verify(known or _nobody(), password) and known is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobody() -> str:
    return hash_password("nobody has this password, and it is never compared with success")
