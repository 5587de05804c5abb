"""The bytes of a document: are they text, in which encoding, and within bounds? Read in blocks, never as a whole."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from ntro_dagster.ingest.returns.errors import (
    DocumentBinaryError,
    DocumentEmptyError,
    DocumentLineTooLongError,
    DocumentPackedError,
    DocumentTooLargeError,
    DocumentUnreadableError,
)

MAX_BYTES = 256 * 1024 * 1024
"""Largest document taken in."""
MAX_LINE_BYTES = 1024 * 1024
"""Longest line of a delimited document. The longest published one known here has some 2,000 bytes."""

_BLOCK = 64 * 1024
_OPENING = 8

_PACKED: Mapping[bytes, str] = MappingProxyType(
    {
        b"PK\x03\x04": "zip archive or workbook",
        b"PK\x05\x06": "zip archive",
        b"\x1f\x8b": "gzip archive",
        b"BZh": "bzip2 archive",
        b"\xfd7zXZ": "xz archive",
        b"7z\xbc\xaf": "7-Zip archive",
        b"Rar!": "RAR archive",
        b"\x28\xb5\x2f\xfd": "zstd archive",
    }
)
_BINARY: Mapping[bytes, str] = MappingProxyType(
    {
        b"%PDF": "PDF",
        b"\xd0\xcf\x11\xe0": "Excel or Word file of the old format",
        b"\x89PNG": "picture",
        b"\xff\xd8\xff": "picture",
        b"{\\rtf": "rich text",
    }
)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")
"""Bytes that no text holds, save for tabs, line and page ends, and the end mark of DOS."""
_UTF_8 = re.compile(rb"[\xc2\xc3][\x80-\xbf]|\xe2\x80[\x90-\xbf]|\xef\xbb\xbf")
"""Letters and quotation marks in UTF-8. The same bytes are writing that nobody writes in Windows-1252."""

DOUBTFUL_ENCODING = "latin-1"
"""What a text is read in whose encoding nobody can tell: every byte comes through as one character, none is lost, and only
ASCII can be trusted."""


def encoding_of(content: Path, *, name: str, max_line: int | None = MAX_LINE_BYTES) -> str:
    """Encoding of a text document: `utf-8-sig`, `utf-8`, `cp1252`, or `DOUBTFUL_ENCODING`.

    Windows-1252 is taken only when every byte has a meaning in it and none of them make up UTF-8; otherwise texts of several
    origins (old Macintosh, DOS, a half converted file) are mixed, and all letters outside ASCII are in doubt. That is still
    text: its rows are read, and those with such letters go to a person. With control bytes as well it is none.

    Args:
        content: the file.
        name: what it is called in messages.
        max_line: longest line allowed, in bytes; None for formats that have no lines.

    Raises:
        DocumentRefusedError: empty, too large, binary, packed, undecodable, or with an endless line.
    """
    _refuse_by_size(content, name)
    _refuse_by_opening(content, name)
    utf_8 = codecs.getincrementaldecoder("utf-8")()
    is_utf_8 = True
    has_text = False
    is_cp1252, mixed, tail = True, False, b""
    line, run, control = 1, 0, 0
    for block in _blocks(content):
        if b"\0" in block:
            raise DocumentBinaryError(name=name, kind="it holds zero bytes")
        has_text = has_text or bool(block.removeprefix(codecs.BOM_UTF8).strip())
        run = _run_after(block, run)
        if max_line is not None and run > max_line:
            raise DocumentLineTooLongError(name=name, line=line + block.count(b"\n"), limit=max_line)
        if is_utf_8:
            try:
                utf_8.decode(block)
            except UnicodeDecodeError:
                is_utf_8 = False
        is_cp1252 = is_cp1252 and _is_cp1252(block)
        mixed = mixed or _UTF_8.search(tail + block) is not None
        tail = block[-2:]
        if not control and (found := _CONTROL.search(block)):
            control = line + block.count(b"\n", 0, found.start())
        line += block.count(b"\n")
    if not has_text:
        raise DocumentEmptyError(name=name)
    if is_utf_8:
        try:
            utf_8.decode(b"", final=True)
        except UnicodeDecodeError:
            is_utf_8 = False
    if is_utf_8:
        return "utf-8-sig" if _opening(content).startswith(codecs.BOM_UTF8) else "utf-8"
    if is_cp1252 and not mixed:
        return "cp1252"
    if control:
        raise DocumentUnreadableError(name=name, line=control, reason="bytes of no known encoding beside control bytes")
    return DOUBTFUL_ENCODING


def is_json(content: Path) -> bool:
    """Does the document open like JSON, with a brace or a bracket?"""
    with content.open("rb") as stream:
        opening = stream.read(_BLOCK).removeprefix(codecs.BOM_UTF8).lstrip()
    return opening[:1] in (b"{", b"[") and not opening.startswith(b"{\\rtf")


def _refuse_by_size(content: Path, name: str) -> None:
    size = content.stat().st_size
    if size == 0:
        raise DocumentEmptyError(name=name)
    if size > MAX_BYTES:
        raise DocumentTooLargeError(name=name, size=size, limit=MAX_BYTES)


def _refuse_by_opening(content: Path, name: str) -> None:
    opening = _opening(content)
    for magic, kind in _PACKED.items():
        if opening.startswith(magic):
            raise DocumentPackedError(name=name, kind=kind)
    for magic, kind in _BINARY.items():
        if opening.startswith(magic):
            raise DocumentBinaryError(name=name, kind=kind)
    if opening.startswith(_UTF_16):
        raise DocumentUnreadableError(name=name, line=1, reason="the text is UTF-16")


def _opening(content: Path) -> bytes:
    with content.open("rb") as stream:
        return stream.read(_OPENING)


def _blocks(content: Path) -> Iterator[bytes]:
    with content.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


def _run_after(block: bytes, run: int) -> int:
    """Bytes since the last line end after `block`, given `run` such bytes before it.

    Blocks are shorter than any limit, so a line that begins and ends within one needs no look.
    """
    last = max(block.rfind(b"\n"), block.rfind(b"\r"))
    return run + len(block) if last < 0 else len(block) - last - 1


def _is_cp1252(block: bytes) -> bool:
    """Has every byte a meaning in Windows-1252?"""
    try:
        block.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return True
