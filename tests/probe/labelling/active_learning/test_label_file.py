"""The table that answers go to: two processes lose none, other tables keep their form, and what is refused."""

import multiprocessing
import os
import resource
from contextlib import contextmanager

import polars as pl
import pytest

from bb.probe.labelling.active_learning.label_file import LabelFile, check_label, counts
from bb.probe.tasks.task_table import read_task_table
from bb.store.errors import BBError, UsageError


def answer_many(path, who, n):
    file = LabelFile.open(path)
    for i in range(n):
        file.answer(f"{who}{i}", f"class {i % 3}")
        if i % 5 == 4:
            file.answer(f"{who}{i}", "corrected")


def test_two_processes_lose_none_of_each_others_answers(tmp_path):
    path = tmp_path / "l.csv"
    spawn = multiprocessing.get_context("spawn")
    windows = [spawn.Process(target=answer_many, args=(path, who, 60)) for who in "ab"]
    for each in windows:
        each.start()
    for each in windows:
        each.join()
    assert [each.exitcode for each in windows] == [0, 0]
    labels = LabelFile.open(path).labels()
    assert labels.keys() == {f"{who}{i}" for who in "ab" for i in range(60)}
    assert all(label == ("corrected" if int(name[1:]) % 5 == 4 else f"class {int(name[1:]) % 3}")
               for name, (label, _) in labels.items())  # fmt: skip
    assert len(pl.read_csv(path)) == 120


def test_answers_are_appended_corrected_and_taken_back(tmp_path):
    file = LabelFile.open(tmp_path / "l.csv")
    assert file.answer("a", "owl", "margin") is None and file.answer("b", 'crow, "black"') is None
    assert file.path.read_text() == 'image_id,label,suggested_by\na,owl,margin\nb,"crow, ""black""",\n'
    assert file.answer("a", "crow") == "owl" and file.labels()["a"] == ("crow", "margin")
    assert file.answer("b", None) == 'crow, "black"' and file.labels().keys() == {"a"}
    assert read_task_table(file.path, unfinished=True).frame["label"].to_list() == ["crow", None]
    assert counts({"a": ("x", ""), "b": ("y", ""), "c": ("y", "")}) == {"y": 2, "x": 1}


def test_another_table_keeps_its_form(tmp_path):
    """It gets a column for how images are chosen and keeps its own, separator, line ends, byte order mark and cells."""
    path = tmp_path / "l.csv"
    path.write_bytes('\ufeffdatei;art;note\r\n1.jpg;;"a;b"\r\n2.jpg;Bär;x'.encode())
    file = LabelFile.open(path)
    file.answer("3.jpg", "Dachs", "random")
    file.answer("1.jpg", "Luchs", "margin")
    assert path.read_bytes().decode() == (
        '\ufeffdatei;art;note;suggested_by\r\n1.jpg;Luchs;"a;b";margin\r\n2.jpg;Bär;x;\r\n3.jpg;Dachs;;random\r\n'
    )


@pytest.mark.parametrize("label", ["", "NA", "a\nb", " a", "x" * 201, "=1+1", "@x", "-"])
def test_what_is_not_a_class_is_refused(label):
    with pytest.raises(BBError, match="missing label|printable characters|formula"):
        check_label(label)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("l.parquet", None, UsageError, "must end in .csv"),
        ("nowhere/l.csv", None, UsageError, "Make it first"),
        ("l.csv", b"image_id,label\n\xff,a\n", BBError, "is not UTF-8"),
        ("l.csv", b'image_id,label\n"a,b\n', BBError, "Fix its quotation marks"),
        ("l.csv", b"image_id,label\na\n", BBError, "other numbers of cells"),
        ("l.csv", b"image_id,label:big\na,1\n", UsageError, "has traits; bb label takes one column"),
    ],
)
def test_tables_that_can_not_be_filled(tmp_path, name, content, error, message):
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        LabelFile.open(tmp_path / name)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_never_opened(tmp_path, make):
    """Of a pipe that nobody writes to, reading would never end."""
    make(tmp_path / "l.csv")
    with pytest.raises(UsageError, match="is not a file: answers are appended to one"):
        LabelFile.open(tmp_path / "l.csv")


def test_a_table_that_became_another_is_said(tmp_path):
    file = LabelFile.open(tmp_path / "l.csv")
    file.path.write_text("a,b\n")
    with pytest.raises(BBError, match="does not have the columns image_id and label any more"):
        file.answer("x", "y")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_did(tmp_path, end):
    path = tmp_path / "l.csv"
    path.write_bytes(f"image_id,label,suggested_by{end}a,x,{end}".encode())
    file = LabelFile.open(path)
    file.answer("b", "y")
    assert path.read_bytes() == f"image_id,label,suggested_by{end}a,x,{end}b,y,{end}".encode()
    file.answer("a", "z")
    assert path.read_bytes() == f"image_id,label,suggested_by{end}a,z,{end}b,y,{end}".encode()


def test_a_link_to_a_table_stays_one(tmp_path):
    """Else a correction would replace the link, and the table that it leads to would get no more answers."""
    (tmp_path / "shared").mkdir()
    real, link = tmp_path / "shared" / "l.csv", tmp_path / "l.csv"
    link.symlink_to(real)
    file = LabelFile.open(link)
    file.answer("a", "x")
    file.answer("a", "y")
    file.answer("b", "z")
    assert link.is_symlink() and pl.read_csv(real)["label"].to_list() == ["y", "z"]


def test_the_lock_is_never_a_link_or_a_pipe(tmp_path):
    lock, outside = tmp_path / ".l.csv.lock", tmp_path / "outside"
    lock.symlink_to(outside)
    with pytest.raises(BBError, match=r"\.l\.csv\.lock can't be opened \(it is a link\)"):
        LabelFile.open(tmp_path / "l.csv")
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(BBError, match=r"\.l\.csv\.lock is a pipe, not a file"):
        LabelFile.open(tmp_path / "l.csv")
    assert not outside.exists() and not (tmp_path / "l.csv").exists()


@contextmanager
def little_room():
    """No file may grow beyond 120 bytes, as on a full disk; nor may that which pytest writes to."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (120, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_answer_is_saved_whole_or_not_at_all(tmp_path):
    file = LabelFile.open(tmp_path / "l.csv")
    saved = 0
    with little_room():
        with pytest.raises(BBError, match=r"l\.csv can't be written .*: the answer is not saved"):
            for i in range(9):
                file.answer(f"image-{i}", "an owl or another")
                saved += 1
        with pytest.raises(BBError, match=r"l\.csv can't be written"):
            file.answer("image-0", "a" * 100)
    assert saved == 3 and file.labels().keys() == {"image-0", "image-1", "image-2"}
    assert sorted(each.name for each in tmp_path.iterdir()) == [".l.csv.lock", "l.csv"]
