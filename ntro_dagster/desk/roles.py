"""What members are."""

from __future__ import annotations

from enum import StrEnum

OPERATOR = "ops"
"""Label of a key whose holder may use the direct endpoints, ask for runs and hand things in:
`ntro member key create LOGIN --label ops`."""


class MemberRole(StrEnum):
    """What each may file says `system.may_file` of the database (migrations/013_members.sql)."""

    PREPARER = "preparer"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"
    AGENT = "agent"


def full_login(name: str, role: MemberRole | None = None) -> str:
    """`user:ann` for `ann`, `agent:reader` for an agent `reader`; what is whole already stays."""
    kind = "agent" if role is MemberRole.AGENT else "user"
    return name if name.startswith(("user:", "agent:")) else f"{kind}:{name.strip().lower()}"
