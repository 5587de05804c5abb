"""What is refused as a whole, and that refusing is cheap."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ntro_dagster.ingest.returns import DocumentRefusedError, content, open_return, structured
from ntro_dagster.ingest.returns.errors import (
    DocumentBinaryError,
    DocumentEmptyError,
    DocumentLineTooLongError,
    DocumentPackedError,
    DocumentQuotingError,
    DocumentTooLargeError,
    DocumentUnreadableError,
    NotAReturnError,
)

HEADER = "Entity,Date,Expense Type,Supplier,Amount,Description\n"
ROW = 'Body,01/04/2013,Rent,Acme,"1,000.00",paid\n'

Refused = Callable[[bytes, type[DocumentRefusedError]], DocumentRefusedError]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    def check(data: bytes, kind: type[DocumentRefusedError]) -> DocumentRefusedError:
        path = tmp_path / "document"
        path.write_bytes(data)
        with pytest.raises(DocumentRefusedError) as caught:
            open_return(path, name="april.csv")
        assert type(caught.value) is kind
        assert "april.csv" not in str(caught.value), "values stay out of the text that travels"
        assert "april.csv" in caught.value.explain()
        assert caught.value.advice()
        return caught.value

    return check


def workbook() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"0" * 50_000_000)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"\n\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_empty(refused: Refused, data: bytes) -> None:
    assert refused(data, DocumentEmptyError).code == "DOCUMENT_EMPTY"


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x89PNG\r\n", b"{\\rtf1 x}",
                                  b"Entity,Date\n\0\0\0"])  # fmt: skip
def test_binary(refused: Refused, data: bytes) -> None:
    assert refused(data, DocumentBinaryError).code == "DOCUMENT_BINARY"


@pytest.mark.parametrize(
    "data",
    [workbook(), gzip.compress(HEADER.encode(), mtime=0), b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"],
    ids=["zip", "gzip", "7z", "rar"],
)
def test_packed_is_never_opened(refused: Refused, data: bytes) -> None:
    tracemalloc.start()
    error = refused(data, DocumentPackedError)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.code == "DOCUMENT_BINARY"
    assert "unpack it first" in error.advice()
    assert peak < 2_000_000, "a zip bomb stays folded"


@pytest.mark.parametrize("before", [b"", b"\xa3" * content._BLOCK])
def test_undecodable_with_control_bytes_is_no_text(refused: Refused, before: bytes) -> None:
    data = HEADER.encode() + before + b"\nBody,01/04/2013,Fa\x8dade\x02,Acme,5.00,\n"
    error = refused(data, DocumentUnreadableError)
    assert error.code == "DOCUMENT_UNREADABLE"
    assert error.values["line"] == 3


def test_noise_is_not_a_return(refused: Refused) -> None:
    refused(bytes(range(0x80, 0x100)) * 200, NotAReturnError)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le"])
def test_utf_16(refused: Refused, codec: str) -> None:
    kind = DocumentUnreadableError if codec == "utf-16" else DocumentBinaryError
    refused(HEADER.encode(codec), kind)


def test_a_character_cut_off_at_the_end_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes((HEADER + ROW).encode().rstrip(b"\n") + "é".encode()[:1])
    assert open_return(path, name="r").layout.encoding == "cp1252"


@pytest.mark.parametrize(
    "text",
    [
        "Package name,Title,Notes,Date released,Licence\nspend,Spend over 25k,List,30/10/2010,OGL\n",
        "just some words\nand more\n",
        "<html><body>404</body></html>\n",
        "Entity,Date,Supplier\nBody,01/04/2013,Acme\n",
        "Amount\n5.00\n",
    ],
)
def test_not_a_return(refused: Refused, text: str) -> None:
    assert refused(text.encode(), NotAReturnError).code == "DOCUMENT_NOT_A_RETURN"


def test_an_endless_line_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    with path.open("wb") as stream:
        for _ in range(100):
            stream.write(b"a" * 1_000_000)
    tracemalloc.start()
    with pytest.raises(DocumentLineTooLongError) as caught:
        open_return(path, name="long.csv")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert caught.value.code == "DOCUMENT_LINE_TOO_LONG"
    assert caught.value.values["line"] == 1


def test_a_long_line_further_down_is_found_by_its_line(refused: Refused) -> None:
    data = (HEADER + ROW).encode() + b"x" * (content.MAX_LINE_BYTES + content._BLOCK) + b"\n"
    assert refused(data, DocumentLineTooLongError).values["line"] == 3


def test_too_large(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_BYTES", 100)
    assert refused(b"x" * 101, DocumentTooLargeError).values == {"name": "april.csv", "size": 101, "limit": 100}


def test_json_has_its_own_limit(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured, "MAX_JSON_BYTES", 10)
    refused(b'[{"date": "2013-04-01"}]', DocumentTooLargeError)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEADER + ROW + 'Body,01/04/2013,Rent,"Acme,5.00,\n' + ROW * 50, 3),
        (HEADER + ROW + 'Body,01/04/2013,Rent,"Acme,5.00,\n', 3),
        (HEADER + ROW + 'Body,01/04/2013,Rent,"Acme,5.00,\n' + "Body,01/04/2013,Rent,Acme,5.00,x\n" * 9000, 3),
        (HEADER + 'Body,01/04/2013,Rent,Acme,5.00,"open\n' + "Body,01/04/2013,Rent,Acme,5.00,x\n" * 3
         + 'Body,01/04/2013,Rent,Acme,5.00,19"\n', 2),
        (HEADER + 'Body,01/04/2013,Rent,"Acme" Ltd,5.00,\n', 2),
    ],
)  # fmt: skip
def test_a_quote_left_open_never_merges_rows(refused: Refused, text: str, line: int) -> None:
    error = refused(text.encode(), DocumentQuotingError)
    assert error.code == "DOCUMENT_QUOTING"
    assert error.values["line"] == line


@pytest.mark.parametrize(
    "text", ['{"data": [', "[" * 100_000, '{"data": {}}', "[]", "[1, 2]", '[{"title": "x"}]',
             '[{"date": "x", "supplier": "a\\u0000b", "amount": "5"}]',
             '[{"date": "x", "supplier": "\\ud800", "amount": "5"}]']
)  # fmt: skip
def test_json_that_is_no_return(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises((DocumentUnreadableError, NotAReturnError)):
        open_return(path, name="r.json")


def test_json_that_is_not_utf_8(refused: Refused) -> None:
    rows = [{"date": "2013-04-01", "supplier": "Café", "amount": 5}]
    refused(json.dumps(rows, ensure_ascii=False).encode("cp1252"), DocumentUnreadableError)
    refused(json.dumps(rows, ensure_ascii=False).replace("é", "\x8d").encode("latin-1"), DocumentUnreadableError)
