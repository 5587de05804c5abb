"""Archives and folders that are no bundle: each is refused with the file and the reason, before anything is written."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntro_dagster.bundles import RunbookInvalidError
from ntro_dagster.bundles.archive import LARGEST_FILE, BundleRefusedError, pack, read_folder, unpack
from ntro_dagster.errors import NtroError

HEAD = (
    b"---\nslug: sample\nname: Sample\ndescription: A sample.\nversion: 1.0.0\njurisdictions: [UK]\nstart: '2020-01'\n"
    b"schedule: '0 8 5 * *'\ntimezone: UTC\n---\n"
)


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in (("runbook.md", HEAD), *members):
            made.writestr(name, content)
    return path


def linked(target: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo("assets.py")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member, target


def lying(path: Path) -> Path:
    """Whose directory says less than there is, in both places where it says so."""
    content = archive(path, ("assets.py", b"x" * 1_000)).read_bytes()
    assert content.count((1_000).to_bytes(4, "little")) == 4  # two sizes in each of two headers
    path.write_bytes(content.replace((1_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    return path


def sparse(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(2**30)
    return path


def twice(path: Path) -> Path:
    with pytest.warns(UserWarning, match="Duplicate"):
        return archive(path, ("assets.py", b"1"), ("assets.py", b"2"))


def text(path: Path) -> Path:
    path.write_text("no archive")
    return path


def nameless(path: Path) -> Path:
    """Of a member whose name the directory of the archive has lost: zipfile writes none like it, and reads it."""
    content = bytearray(archive(path, ("x", b"")).read_bytes())
    entry, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    length = content[entry + 28]
    content[entry + 28] = 0
    content[end + 12] -= length
    del content[entry + 46 : entry + 46 + length]
    path.write_bytes(content)
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "traversal": (lambda p: archive(p, ("../assets.py", b"")), "../assets.py", "not a path within"),
    "deep traversal": (lambda p: archive(p, ("subledgers/../../x.py", b"")), "../../x.py", "not a path within"),
    "absolute": (lambda p: archive(p, ("/etc/cron.d/x", b"")), "/etc/cron.d/x", "not a path within"),
    "backslashes": (lambda p: archive(p, ("..\\x.py", b"")), "x.py", "not a path within"),
    "drive": (lambda p: archive(p, ("C:/x.py", b"")), "C:/x.py", "not a path within"),
    "control characters": (lambda p: archive(p, ("a\nb.py", b"")), "a\\nb.py", "not a path within"),
    "long": (lambda p: archive(p, ("x" * 300, b"")), "xxx", "not a path within"),
    "link": (lambda p: archive(p, linked(b"/etc/passwd")), "assets.py", "is a link"),
    "twice": (twice, "assets.py", "is there twice"),
    "differs in case": (lambda p: archive(p, ("assets.py", b""), ("Assets.py", b"")), "Assets.py", "is there twice"),
    "file and folder": (lambda p: archive(p, ("a", b""), ("a/b", b"")), "bad.zip", ""),
    "bomb": (lambda p: archive(p, ("a", bytes(LARGEST_FILE * 16)), method=zipfile.ZIP_DEFLATED), "bad.zip", "unpacks to more"),
    "bomb of many": (
        lambda p: archive(p, *((f"f{n}", b"") for n in range(2_001))),
        "bad.zip",
        "unpacks to more",
    ),
    "large file": (lambda p: archive(p, ("a", bytes(LARGEST_FILE + 1))), "a", f"{LARGEST_FILE + 1:,} bytes"),
    "a gigabyte": (sparse, "bad.zip", "1,073,741,824 bytes"),
    "lying": (lying, "bad.zip", "BadZipFile"),
    "no name": (nameless, "''", "not a path within"),
    "no archive": (text, "bad.zip", "BadZipFile"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_refused_with_file_and_reason(name: str, tmp_path: Path) -> None:
    make, file, reason = BAD[name]
    made = make(tmp_path / "bad.zip")
    place = tmp_path / "place"
    with pytest.raises(BundleRefusedError) as refused:
        unpack(made, place / "bundle")
    assert file in refused.value.explain()
    assert reason in refused.value.explain()
    assert [*place.iterdir()] == []
    assert {path.name for path in tmp_path.iterdir()} == {"bad.zip", "place"}


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_broken_archive_is_refused_or_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes changed anywhere: the right error, never another, and nothing half unpacked."""
    folder = tmp_path_factory.mktemp("fuzz")
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    content = bytearray(archive(folder / "a.zip", ("assets.py", b"code" * 50), method=method).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.zip").write_bytes(content[: data.draw(st.integers(0, len(content))) or len(content)])
    try:
        unpack(folder / "a.zip", folder / "into" / "bundle")
    except BundleRefusedError:
        assert [*(folder / "into").iterdir()] == []
    else:
        assert (folder / "into" / "bundle").is_dir()


def folder(root: Path, **files: bytes) -> Path:
    root.mkdir()
    for name, content in {"runbook.md": HEAD, **{name.replace("__", "."): content for name, content in files.items()}}.items():
        (root / name).write_bytes(content)
    return root


def test_a_folder_may_hold_no_link_pipe_or_names_that_differ_in_case_only(tmp_path: Path) -> None:
    root = folder(tmp_path / "sample", assets__py=b"")
    read_folder(root)
    (root / "link.py").symlink_to("/etc/passwd")
    with pytest.raises(BundleRefusedError, match="BUNDLE_REFUSED") as link:
        read_folder(root)
    assert link.value.explain() == "link.py: is a link"
    (root / "link.py").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(BundleRefusedError) as pipe:
        read_folder(root)
    assert pipe.value.explain() == "pipe: is not a file"
    (root / "pipe").unlink()
    (root / "Assets.py").touch()
    with pytest.raises(BundleRefusedError) as case:
        read_folder(root)
    assert "upper and lower case" in case.value.explain()


def test_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    root = folder(tmp_path / "sample")
    sparse(root / "data.csv")
    with pytest.raises(BundleRefusedError) as refused:
        read_folder(root)
    assert refused.value.explain().startswith("data.csv: has 1,073,741,824 bytes")


@pytest.mark.parametrize("head", [b"slug: ../../evil", b"slug: Sample", b"slug: a/b", b"version: words of a client"])
def test_a_slug_is_no_path_and_a_label_no_text(tmp_path: Path, head: bytes) -> None:
    root = folder(tmp_path / "sample")
    name = head.split(b":")[0]
    lines = [head if line.startswith(name) else line for line in HEAD.split(b"\n")]
    (root / "runbook.md").write_bytes(b"\n".join(lines))
    with pytest.raises((BundleRefusedError, RunbookInvalidError)) as refused:
        read_folder(root)
    assert "runbook.md" in refused.value.explain()


def test_a_head_that_is_no_text_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "sample")
    (root / "runbook.md").write_bytes(b"---\nslug: \xff\xfe\n---\n")
    with pytest.raises(NtroError) as refused:
        read_folder(root)
    assert refused.value.code == "RUNBOOK_INVALID"


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        root = folder(tmp_path / name, assets__py=b"x = 1\n")
        os.utime(root / "assets.py", (1, 1 if name == "one" else 10**9))
        pack(root, read_folder(root), tmp_path / f"{name}.zip")
        made.append((tmp_path / f"{name}.zip").read_bytes())
    assert made[0] == made[1]
    assert zipfile.ZipFile(io.BytesIO(made[0])).testzip() is None
