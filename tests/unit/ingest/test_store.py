"""Documents by content: what is stored is what came in, once."""

import hashlib
from pathlib import Path

import pytest

from ntro_dagster.ingest.store import DocumentDamagedError, DocumentStore, FileUnreadableError
from ntro_dagster.ingest.submission import period_of

CONTENT = b"Date,Amount\n01/10/2026,12.00\n"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "return.csv"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def store(tmp_path: Path) -> DocumentStore:
    return DocumentStore(tmp_path / "store")


def kept(store: DocumentStore) -> list[Path]:
    return [path for path in store.directory.rglob("*") if path.is_file()]


def test_kept_under_its_digest_and_read_only(store: DocumentStore, document: Path) -> None:
    with store.receive(document) as incoming:
        store.keep(incoming)
    assert incoming.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert store.verify(incoming.sha256).read_bytes() == CONTENT
    assert kept(store)[0].stat().st_mode & 0o777 == 0o400


def test_same_bytes_twice_are_one_file(store: DocumentStore, document: Path) -> None:
    for _ in range(2):
        with store.receive(document) as incoming:
            store.keep(incoming)
    assert len(kept(store)) == 1


def test_what_is_not_kept_leaves_nothing(store: DocumentStore, document: Path) -> None:
    with pytest.raises(RuntimeError), store.receive(document):
        raise RuntimeError
    assert kept(store) == []


def test_a_changed_file_is_noticed(store: DocumentStore, document: Path) -> None:
    with store.receive(document) as incoming:
        store.keep(incoming)
    stored = store.path(incoming.sha256)
    stored.chmod(0o600)
    stored.write_bytes(CONTENT + b"x")
    with pytest.raises(DocumentDamagedError):
        store.verify(incoming.sha256)


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_the_same_content_again_mends_what_is_damaged(store: DocumentStore, document: Path, damage: str) -> None:
    with store.receive(document) as incoming:
        store.keep(incoming)
    stored = store.path(incoming.sha256)
    stored.unlink()
    if damage == "changed":
        stored.write_bytes(CONTENT + b"x")
    with store.receive(document) as incoming:
        store.keep(incoming)
    assert store.verify(incoming.sha256).read_bytes() == CONTENT


def test_a_source_that_breaks_off_is_named(store: DocumentStore) -> None:
    with pytest.raises(FileUnreadableError), store.receive(Path("/proc/self/mem")):
        pass
    assert not any(store.directory.iterdir())


def test_a_missing_source_is_named(store: DocumentStore, tmp_path: Path) -> None:
    with pytest.raises(FileUnreadableError) as caught, store.receive(tmp_path / "nothing.csv"):
        pass
    assert "nothing.csv" in caught.value.explain()
    assert "nothing.csv" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "period"),
    [
        ("/in/acme/2026-10/return.csv", "2026-10"),
        ("/in/2026-09/late/2026-10/return.csv", None),
        ("/in/2026-10/late/2026-10/return.csv", "2026-10"),
        ("/in/payments-2026-10.csv", None),
        ("/in/2011-12-returns/x.csv", None),
        ("/in/2026-10/payments-2026-09.csv", "2026-10"),
        ("/in/2026-13/return.csv", None),
        ("/in/2026-10.csv", "2026-10"),
        ("/in/2026-09/2026-10.csv", None),
        ("/in/2026-10.csv.gz", None),
        ("/in/return.csv", None),
    ],
)
def test_month_from_the_path(path: str, period: str | None) -> None:
    assert period_of(Path(path)) == period


def test_uploads_lie_apart_and_are_found(store: DocumentStore, document: Path, tmp_path: Path) -> None:
    """Of who may read the others and not write among them."""
    with store.receive(document) as incoming:
        store.keep(incoming)
    desk = DocumentStore(store.directory, tmp_path / "uploads")
    with document.open("rb") as content, desk.receive_stream(content, "again") as incoming:
        desk.keep(incoming)
    assert not kept(desk), "there already"
    with (tmp_path / "other").open("wb+") as content:
        content.write(b"other")
        content.seek(0)
        with desk.receive_stream(content, "other") as incoming:
            assert incoming.path.parent == tmp_path / "uploads"
            desk.keep(incoming)
    assert desk.verify(incoming.sha256).is_relative_to(tmp_path / "uploads")
    with pytest.raises(DocumentDamagedError):
        store.verify(incoming.sha256)
