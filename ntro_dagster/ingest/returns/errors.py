"""Why a document is refused as a whole. Nothing of it is stored then.

A refusal is for what cannot be read as rows at all; whatever can is a row with findings instead.
"""

from __future__ import annotations

from ntro_dagster.errors import UsageError


class DocumentRefusedError(UsageError):
    """The document is not taken in. `values["name"]` is the name it was handed in under."""

    code = "DOCUMENT_REFUSED"
    summary = "the document was refused"


class DocumentEmptyError(DocumentRefusedError):
    code = "DOCUMENT_EMPTY"
    summary = "the document holds no text"
    detail = "{name} holds no text"
    mend = "hand in the return itself; a month without payments is a return with a header and no rows"


class DocumentTooLargeError(DocumentRefusedError):
    code = "DOCUMENT_TOO_LARGE"
    summary = "the document is larger than any return"
    detail = "{name} has {size} bytes; the limit is {limit}"
    mend = "split it by month and hand in the parts"


class DocumentBinaryError(DocumentRefusedError):
    code = "DOCUMENT_BINARY"
    summary = "the document is not text"
    detail = "{name} is not text: {kind}"
    mend = "open it where it was made and save it as CSV"


class DocumentPackedError(DocumentBinaryError):
    """An archive, or a workbook that is one inside. It is never opened here, so it cannot grow."""

    summary = "the document is packed"
    mend = "a workbook: save it as CSV; an archive: unpack it first"


class DocumentUnreadableError(DocumentRefusedError):
    code = "DOCUMENT_UNREADABLE"
    summary = "the bytes of the document are not text of a known encoding"
    detail = "{name} line {line}: {reason}"
    mend = "open it where it was made and save it as CSV UTF-8"


class DocumentLineTooLongError(DocumentRefusedError):
    code = "DOCUMENT_LINE_TOO_LONG"
    summary = "the document has a line longer than any row"
    detail = "{name} line {line} is longer than {limit} bytes"
    mend = "check that the file is a CSV with one row per line"


class DocumentQuotingError(DocumentRefusedError):
    """A quote that is not closed would swallow the rows after it, so nothing is read."""

    code = "DOCUMENT_QUOTING"
    summary = "a quotation mark in the document is not closed"
    detail = "{name}: the quotes do not match in the row that starts on line {line}"
    mend = "correct the quotation marks on that line, or save the file as CSV again"


class NotAReturnError(DocumentRefusedError):
    code = "DOCUMENT_NOT_A_RETURN"
    summary = "the document is not a spending return"
    detail = "{name} has no header that names an amount and a supplier or a date"
    mend = "hand in the return itself; if it is one, add its headings to ntro_dagster/ingest/returns/columns.yaml"
