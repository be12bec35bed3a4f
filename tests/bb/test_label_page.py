"""The server of `bb label`: who gets an answer, what is served, and that no answer is lost."""

import csv
import http.client
import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from hashlib import sha256
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bb.extract.pipeline.decode_memory import DECODING
from bb.labeller.app import listen, make_app, make_server, new_token
from bb.labeller.open_session import open_session
from bb.labeller.questions import _labelled_ones
from bb.probe.labelling.active_learning.choose_images import Strategy
from bb.store import Collection, Entry, Store
from bb.store.errors import BBError
from bb.store.files.descriptors import RESERVED
from bb.store.reporter import Silent
from tests.helpers.stores import fill, space

N = 60


class Heard(Silent):
    """Keeps notes."""

    def __init__(self):
        self.notes = []

    def info(self, text):
        self.notes.append(text)


@pytest.fixture
def served(tmp_path):
    """A server on a collection of N images, of which half are red and half green."""
    root = tmp_path / "photos"
    root.mkdir()
    rng, entries = np.random.default_rng(0), []
    for i in range(N):
        buffer = BytesIO()
        Image.new("RGB", (30, 20), (150 + i, 0, 0) if i % 2 else (0, 150 + i, 0)).save(buffer, "PNG")
        (root / f"{i:02}.png").write_bytes(buffer.getvalue())
        entries.append(Entry(f"{i:02}.png", sha256(buffer.getvalue()).digest(), 1, 30, 20))
    (tmp_path / "secret.png").write_bytes(b"secret")
    store = Store.create(tmp_path / "features.bb")
    pics = store.put_collection(Collection.from_entries("pics", entries))
    x = rng.normal(size=(N, 8)) + 2 * (np.arange(N) % 2)[:, None]
    fill(store, space(output={"kind": "img", "pooling": "cls", "dim": 8}), pics, x.astype(np.float16),
         {"backbone": "timm:toy/untrained"})  # fmt: skip
    table = tmp_path / "labels.csv"
    noise = rng.normal(size=(N, 8)).astype(np.float16)
    fill(store, space(output={"kind": "img", "pooling": "cls", "dim": 8}, weights="2" * 64), pics, noise,
         {"backbone": "lab:noise"})  # fmt: skip
    heard = Heard()

    def opened(path, **options):
        return open_session(store, path, "pics", root, strategy=Strategy("margin"), every=10, reporter=heard, **options)

    session, pictures = opened(table, ckpt=["timm:toy/untrained"])
    session.refit(wait=True)
    listening, token = listen(0), new_token()
    port = listening.getsockname()[1]
    server = make_server(make_app(session, pictures, "pics", token=token, port=port))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()

    def ask(method, path, body=None, *, raw=None, root=f"/{token}/", host=f"127.0.0.1:{port}", origin=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Host": host}
        if method == "POST" and origin is None:
            origin = f"http://{host}"
        if origin:
            headers["Origin"] = origin
        if body is not None or raw is not None:
            body, headers = raw or json.dumps(body), {"Content-Type": "application/json", **headers}
        connection.request(method, root + path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers

    def call(verb, window="a", **given):
        status, content, _ = ask("POST", f"call/{verb}", {"window": window, **given})
        assert status == 200, content
        return json.loads(content)

    yield SimpleNamespace(ask=ask, call=call, table=table, session=session, port=port, opened=opened, notes=heard.notes)
    server.should_exit = True
    thread.join()
    session.close()
    listening.close()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_has_its_parts_and_a_policy(served):
    for part in ("", "page.css", "page.js"):
        status, content, headers = served.ask("GET", part)
        assert status == 200 and content and "default-src 'none'" in headers["content-security-policy"]
    assert served.ask("GET", f"localhost:{served.port}"[:0], host=f"localhost:{served.port}")[0] == 200
    assert served.ask("GET", "app.py")[0] == 404


@pytest.mark.parametrize("root", ["/", "/wrong/", "/%C3%A9/", "//"])
def test_without_the_token_nothing_is_shown(served, root):
    assert served.ask("GET", "state", root=root)[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:80"])
def test_another_host_is_refused(served, host):
    assert served.ask("GET", "state", host=host)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
def test_another_origin_or_none_is_refused(served, origin):
    status, *_ = served.ask("POST", "call/answer", {"window": "a", "image": 0, "label": "x"}, origin=origin)
    assert status == 403 and rows(served.table) == []


@pytest.mark.parametrize(
    "path", ["image/../secret.png", "image/..%2Fsecret.png/large", "image/-1/large", f"image/{N}/large",
             "image/0/huge", "image/0/..%2F..%2Fsecret.png", "../secret.png", "..%2Flabeller%2Fapp.py"],
)  # fmt: skip
def test_nothing_outside_the_collection_is_served(served, path):
    status, content, _ = served.ask("GET", path)
    assert status in (403, 404) and b"secret" not in content


def test_an_image_is_served_by_its_row(served):
    status, content, headers = served.ask("GET", "image/3/small")
    assert status == 200 and headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(content)).size == (30, 20)


@pytest.mark.parametrize("label", ["=1+1", "", " x", "a\nb"])
def test_a_label_that_a_spreadsheet_would_run_is_refused(served, label):
    status, *_ = served.ask("POST", "call/answer", {"window": "a", "image": 0, "label": label})
    assert status == 409 and rows(served.table) == []


@pytest.mark.parametrize("given", [{"image": "0", "label": "x"}, {"image": True, "label": "x"}, {"image": 0}, {}])
def test_a_malformed_call_is_refused(served, given):
    assert served.ask("POST", "call/answer", {"window": "a", **given})[0] == 400
    assert served.ask("POST", "call/answer", {"window": "a", "label": "x" * 5000, "image": 0})[0] == 400


def test_json_too_deep_and_numbers_too_long_are_refused(served):
    assert served.ask("POST", "call/next", raw=b"[" * 4000)[0] == 400
    assert served.ask("GET", f"image/{'9' * 5000}/small")[0] == 403


def test_pictures_share_the_memory_for_decoding(served, monkeypatch):
    asked = []
    monkeypatch.setattr(DECODING, "hold", lambda n_bytes: asked.append(n_bytes) or nullcontext())
    assert served.ask("GET", "image/3/small")[0] == 200
    assert asked == [12 * 30 * 20]


def test_answer_skip_and_undo(served):
    first = served.call("next")["done"][0]
    served.call("answer", image=first["image"], label="red")
    assert [(row["image_id"], row["label"]) for row in rows(served.table)] == [(first["id"], "red")]
    second = served.call("next")["done"][0]
    assert second["image"] != first["image"]
    assert served.call("skip", image=second["image"])["state"]["skipped"] == 1
    assert served.call("undo")["done"]["image"] == second["image"]
    undone = served.call("undo")
    assert undone["done"]["image"] == first["image"] and undone["state"]["labelled"] == 0
    assert [row["label"] for row in rows(served.table)] == [""]
    assert served.ask("POST", "call/undo", {"window": "a"})[0] == 409


@pytest.mark.e2e
def test_two_windows_at_once_lose_no_answer(served):
    def work(window):
        given = {}
        while len(given) < 25:
            served.session.refit(wait=True)
            for question in served.call("next", window)["done"]:
                served.call("answer", window, image=question["image"], label="red" if len(given) % 2 else "green")
                given[question["id"]] = question
        return given

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(work, "ab")
    assert not one.keys() & two.keys()
    written = [row["image_id"] for row in rows(served.table)]
    assert sorted(written) == sorted([*one, *two])
    served.session.refit(wait=True)
    state = json.loads(served.ask("GET", "state")[1])
    assert state["labelled"] == 50 and state["curve"]
    assert state["further"] == 10 and state["forecast"][0]["labels"] == N  # no more than there are images
    question = served.call("next")["done"][0]
    assert question["guesses"] and len(question["neighbours"]) == 5


def test_the_curve_stays_when_the_last_image_is_labelled(served):
    while asked := served.call("next", n=16)["done"]:
        for question in asked:
            served.call("answer", image=question["image"], label="red" if question["image"] % 2 else "green")
        served.session.refit(wait=True)
    served.session.refit(wait=True)  # the one before may have begun before the last answer
    state = json.loads(served.ask("GET", "state")[1])
    assert state["labelled"] == N and state["curve"] and not state["forecast"] and state["further"] == 0


def test_images_of_a_window_that_was_closed_are_asked_for_when_no_other_is_left(served):
    closed = [question["image"] for question in served.call("next", "closed", n=12)["done"]]
    given = []
    while len(given) < N:
        for question in served.call("next", "open", n=16)["done"]:
            given.append(question["image"])
            served.call("answer", "open", image=given[-1], label="red")
        served.session.refit(wait=True)
    assert sorted(given[-12:]) == sorted(closed) and len(set(given)) == N
    last = served.call("next", "open")
    assert last["done"] == [] and not last["state"]["fitting"]


def test_a_window_gets_images_however_many_others_hold(served):
    held = [served.call("next", window, n=12)["done"] for window in "abc"]
    assert [len(each) for each in held] == [12, 12, 12]
    served.call("next", "d", n=12)
    served.session.refit(wait=True)
    assert len(served.call("next", "d", n=12)["done"]) == 12


def test_a_fifth_is_drawn_at_random_and_marked_whatever_happens_in_between(served):
    """The mark is that of when the image was shown: other questions after a fit, undo and a correction keep it."""
    by = {}
    for i in range(30):
        question = served.call("next")["done"][0]
        by[question["id"]] = question["by"]
        if i % 7 == 3:
            served.session.refit(wait=True)
        served.call("answer", image=question["image"], label="red" if i % 2 else "green")
        if i % 5 == 4:
            assert served.call("undo")["done"]["by"] == question["by"]
            served.call("answer", image=question["image"], label="green")
    marks = {row["image_id"]: row["suggested_by"] for row in rows(served.table)}
    assert marks == by and list(by.values()).count("random") == 6


def test_a_table_without_marks_gets_a_column_for_them(served, tmp_path):
    table = tmp_path / "old.csv"
    table.write_text("file,species\n00.png,red\n01.png,green\n")
    session, _ = served.opened(table)
    session.close()
    assert [row["suggested_by"] for row in rows(table)] == ["", ""]


def test_a_row_without_a_label_is_filled_in_however_it_names_its_image(served, tmp_path):
    table = tmp_path / "to_do.csv"
    table.write_bytes("Datei;Art\r\n00;\r\n.\\01.png;Kröte\r\n".encode())
    session, _ = served.opened(table, id="Datei", label="Art")
    session.answer("a", 0, "Molch")
    session.answer("a", 2, "Molch")
    session.close()
    assert table.read_bytes().decode().split("\r\n")[:4] == [
        "Datei;Art;suggested_by", "00;Molch;", ".\\01.png;Kröte;", "02.png;Molch;",
    ]  # fmt: skip
    again, _ = served.opened(table, id="Datei", label="Art")  # no image has two rows
    assert again.state()["labelled"] == 3
    again.close()


def test_a_table_that_is_taken_away_is_said_and_answers_go_on_when_it_is_back(served):
    served.call("answer", image=0, label="red")
    aside = served.table.rename(served.table.with_suffix(".aside"))
    status, content, _ = served.ask("POST", "call/answer", {"window": "a", "image": 1, "label": "green"})
    assert status == 409 and b"No such file" in content and b"Nothing was saved" in content
    os.mkfifo(served.table)  # a pipe in its place is not waited for
    status, content, _ = served.ask("POST", "call/answer", {"window": "a", "image": 1, "label": "green"})
    assert status == 409 and b"is a pipe, not a file" in content and b"Nothing was saved" in content
    served.table.unlink()
    served.table.symlink_to(aside)
    for image in (0, 1):  # a correction would replace the link, a new row follow it
        status, content, _ = served.ask("POST", "call/answer", {"window": "a", "image": image, "label": "green"})
        assert status == 409 and b"has become a link. Nothing was saved" in content
    served.table.unlink()
    aside.rename(served.table)
    served.call("answer", image=1, label="green")
    assert [row["label"] for row in rows(served.table)] == ["red", "green"]


def test_the_backbone_that_tells_the_labels_apart_is_used(served, tmp_path):
    table = tmp_path / "some.csv"
    table.write_text("image_id,label\n" + "".join(f"{i:02}.png,{'red' if i % 2 else 'green'}\n" for i in range(40)))
    session, _ = served.opened(table)
    session.close()
    assert any("of 2 backbones timm:toy/untrained is used, which gets" in note for note in served.notes)


def test_a_label_such_as_na_is_taken_where_it_is_said_to_be_one(served, tmp_path):
    status, content, _ = served.ask("POST", "call/answer", {"window": "a", "image": 0, "label": "NA"})
    assert status == 409 and b"'NA' stands for a missing label: type a name, or start with --not-missing NA" in content
    session, _ = served.opened(tmp_path / "na.csv", ckpt=["lab:noise"], not_missing=["NA"])
    session.answer("a", 0, "NA")
    session.refit(wait=True)
    assert session.state()["classes"] == [["NA", 1]]
    session.close()


def test_labels_that_look_alike_are_said(served, tmp_path):
    (tmp_path / "alike.csv").write_text("image_id,label\n00.png,heron\n01.png,Heron\n")
    served.opened(tmp_path / "alike.csv")[0].close()
    assert any("they differ only in upper and lower case" in note for note in served.notes)


def test_an_answer_during_a_fit_is_not_forgotten(served, tmp_path, monkeypatch):
    table = tmp_path / "during.csv"
    session, _ = served.opened(table, ckpt=["lab:noise"])
    session.refit(wait=True)
    read, answering = session.file.labels, []

    def answered_meanwhile():
        found = read()
        if not answering:
            answering.append(threading.Thread(target=session.answer, args=("a", 0, "heron")))
            answering[0].start()
            answering[0].join(0.5)  # as it is, the answer waits until the fit knows what was read
        return found

    monkeypatch.setattr(type(session.file), "labels", lambda file: answered_meanwhile())
    session.refit(wait=True)
    answering[0].join()
    assert session.state()["classes"] == [["heron", 1]]
    session.close()


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        (["", "", "margin"], "labelled ones"),
        (["random", "margin", "cluster"], "labelled ones, which are mostly chosen and harder than the rest"),
    ],
)
def test_labels_that_nothing_says_were_chosen_are_not_called_chosen(ways, said):
    assert _labelled_ones(ways) == said


def test_no_table_is_made_where_nothing_can_be_shown(served, tmp_path):
    for child in (tmp_path / "photos").iterdir():
        child.unlink()
    with pytest.raises(BBError):
        served.opened(tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_a_connection_that_takes_one_of_the_last_descriptors_is_closed(monkeypatch):
    """Of 60 at `ulimit -n 64` some are closed, and the others get answers."""
    with listen(0) as listening, socket.create_connection(listening.getsockname()) as served:
        accepted, _ = listening.accept()
        monkeypatch.setattr("bb.labeller.app.limit", lambda: accepted.fileno() + 1 + RESERVED)
        with socket.create_connection(listening.getsockname()) as refused:
            with pytest.raises(BlockingIOError):
                listening.accept()
            assert refused.recv(1) == b""
        accepted.sendall(b"x")
        assert served.recv(1) == b"x"
        accepted.close()
