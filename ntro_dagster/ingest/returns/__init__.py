"""Reads published spending returns: a document into records, a record into an expense.

    document = open_return(path, name="return.csv")
    for record in document.records():
        reading = read_expense(record.raw, document.layout, currency="GBP")

The two steps run at different times: what the second needs of the document is in `document.layout`.
"""

from ntro_dagster.ingest.finding import Finding, FindingCode
from ntro_dagster.ingest.returns.dates import plausible
from ntro_dagster.ingest.returns.document import ReturnRecord, SpendReturn, open_return
from ntro_dagster.ingest.returns.errors import DocumentRefusedError
from ntro_dagster.ingest.returns.expense import Reading, read_expense
from ntro_dagster.ingest.returns.layout import DateOrder, Layout

__all__ = [
    "DateOrder",
    "DocumentRefusedError",
    "Finding",
    "FindingCode",
    "Layout",
    "Reading",
    "ReturnRecord",
    "SpendReturn",
    "open_return",
    "plausible",
    "read_expense",
]
