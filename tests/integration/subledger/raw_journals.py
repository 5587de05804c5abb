"""Journals in raw SQL, as the app role writes them: heads, lines, and the code with which the database refuses them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
from ledger_tenant import PERIOD, Connection, code_of

JOURNAL = (
    "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id{more}) VALUES "
)
HEAD = "(%(id)s, %(entity)s, %(period)s, %(id)s, %(date)s, 'x', %(currency)s, gen_random_uuid(){values})"
LINE = (
    "INSERT INTO ledgers.journal_lines "
    "(journal_id, line_no, account_code, debit, credit, functional_debit, functional_credit, party, dimensions) VALUES "
)


def head(**columns: str) -> str:
    return (JOURNAL + HEAD).format(
        more="".join(f", {name}" for name in columns), values="".join(f", {value}" for value in columns.values())
    )


def lines(*each: tuple[Any, ...]) -> str:
    """Each: debit, credit, functional debit, functional credit, account, party, dimensions; the last ones may be left out."""
    filled = [line + (None, None, "2000", None, "{}")[len(line) - 2 :] for line in each]
    values = ", ".join(
        f"(%(id)s, {number}, '{account}', {debit}, {credit}, {'NULL' if fd is None else fd}, {'NULL' if fc is None else fc}, "
        f"{'NULL' if party is None else repr(party)}, '{dimensions}')"
        for number, (debit, credit, fd, fc, account, party, dimensions) in enumerate(filled, 1)
    )
    return LINE + values


def attempt(connection: Connection, entity: UUID, *statements: str, **values: Any) -> str | None:
    """The code that refuses the statements or their commit, None where they are let through."""
    parameters = {"id": uuid4(), "entity": entity, "period": PERIOD, "date": f"{PERIOD}-15", "currency": "GBP"} | values
    try:
        for statement in statements:
            connection.execute(statement, parameters)
        connection.commit()
    except psycopg.Error as error:
        connection.rollback()
        return code_of(error)
    return None


BALANCED = lines((10, 0), (0, 10))
TRANSLATED = {"functional_currency": "'GBP'", "rate": "0.8", "rate_source": "'bank'"}
