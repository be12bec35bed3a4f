"""What a person reads when a place can't be had, and what is waited out before: servers that misbehave."""

import os
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bb.store.errors import BBError, UsageError
from bb.store.storage.http import Web
from bb.store.storage.index_json import HEAD, TAIL, build, parse, write_index
from bb.store.storage.object_store import Bucket
from bb.store.storage.retry import RetryPolicy
from bb.store.storage.url import is_url, open_place
from tests.helpers.places import collection, files_of, segment
from tests.helpers.servers import Fault, free_port, serving, static

QUICK = RetryPolicy(failures=4, connecting=2, wait=0.001)


def error(code, status=403):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>\x1b[31mthe server's words</Message></Error>"
    return Fault(status=status, body=body.encode())


@pytest.fixture
def place(s3):
    return Bucket.open("s3", s3.name, "a.bb", QUICK)


def ways(place):
    """Each way to ask a place something."""
    return {
        "list": lambda: list(place.list()),
        "read": lambda: place.read("zarr.json", 100),
        "stream": lambda: list(place.stream("zarr.json")),
        "publish": lambda: place.publish([collection()]),
        "replace": lambda: place.replace("index.json", b"{}"),
    }


def said(work):
    with pytest.raises(BBError) as caught:
        work()
    assert "the server's words" not in str(caught.value) and "testing-" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("way", ["list", "read", "stream", "publish", "replace"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (error("RequestTimeTooSkewed"), "this machine's clock is wrong, says the server. Set the clock and run again."),
        (
            error("SignatureDoesNotMatch"),
            "does not accept the credentials (SignatureDoesNotMatch). Correct AWS_ACC",
        ),
        (
            error("InvalidAccessKeyId"),
            "does not accept the credentials (InvalidAccessKeyId). Correct AWS_ACCESS_KEY",
        ),
        (error("ExpiredToken", 400), "does not accept the credentials (ExpiredToken)"),
        (error("AccessDenied"), "access is denied"),
        (Fault(status=301), "the bucket is in another region. Set AWS_REGION to it."),
        (error("NoSuchBucket", 404), "there is no such bucket. Create it, or correct its name or AWS_ENDPOINT_URL."),
        (Fault(status=418), "the server answers 418."),
    ],
)
def test_what_a_person_can_mend_is_said_at_once(place, faults, way, fault, message):
    # To HEAD, with which `publish` begins, the server can't say why: such an answer has no body.
    faults.rule = lambda request, number: None if request.method == "HEAD" else fault
    text = said(ways(place)[way])
    assert text.startswith(place.url) and message in text
    assert len(faults.asked) <= 2


@pytest.mark.parametrize("way", ["list", "read", "stream", "publish", "replace"])
@pytest.mark.parametrize("fault", [*(Fault(status=n) for n in (429, 500, 502, 503, 504)), Fault(refuse=True)])
def test_what_may_pass_is_tried_again_and_then_said(place, faults, way, fault):
    faults.rule = lambda request, number: fault
    text = said(ways(place)[way])
    if fault.status:
        assert f"the server answers {fault.status}, 4 times in a row. Run the same command again later" in text
    else:
        assert "the connection broke, 4 times in a row. Run the same command again later" in text
    assert text.startswith(place.url)
    faults.asked.clear()
    faults.rule = lambda request, number: fault if number < 3 else None
    try:
        ways(place)[way]()
    except FileNotFoundError:
        assert way in ("read", "stream")
    assert len(faults.asked) > 3


def test_a_body_cut_on_the_way_is_taken_up_where_it_broke(place, faults):
    data = os.urandom(5 * 2**20)
    place.replace("big", data)
    faults.asked.clear()
    faults.rule = lambda request, number: Fault(cut=2**21 + 7) if number < 2 else None
    assert b"".join(place.stream("big")) == data
    ranges = [request.range for request in faults.asked]
    assert ranges[0] is None and len(ranges) == 3
    starts = [int(asked.removeprefix("bytes=").partition("-")[0]) for asked in ranges[1:]]
    assert 0 < starts[0] < starts[1] < len(data)


def test_a_server_that_falls_silent_is_left(s3, place, faults):
    place.replace("a", b"abc")
    place = Bucket.open("s3", s3.name, "a.bb", replace(QUICK, failures=20, silence=1.0))
    faults.asked.clear()
    faults.rule = lambda request, number: Fault(stall=2.5) if number == 0 else None
    assert place.read("a", 3) == b"abc"
    assert len(faults.asked) >= 2


def test_a_listing_goes_on_behind_what_came(place, faults):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: place.replace(f"heads/{number:064d}.safetensors", b""), range(1001)))
    faults.asked.clear()
    faults.rule = lambda request, number: Fault(status=503) if number in range(1, 5) else None
    assert len({item.path for item in place.list()}) == 1001
    assert len(faults.asked) >= 6


def test_a_name_that_is_no_path_is_said(place, faults):
    listing = (
        "<ListBucketResult><Contents><Key>a.bb/../../x</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        "<Size>5</Size></Contents></ListBucketResult>"
    )
    faults.rule = lambda request, number: Fault(status=200, body=listing.encode())
    text = said(lambda: list(place.list()))
    assert (
        "can't be listed, since it holds an object whose name is not a path" in text and "Remove that object." in text
    )


def test_nobody_there(monkeypatch, s3):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    place = Bucket.open("s3", "lab", "", QUICK)
    text = said(lambda: place.read("zarr.json", 10))
    assert text.startswith("s3://lab: nobody answers there, 2 times in a row. See that this machine is online")
    assert text.endswith("AWS_ENDPOINT_URL names a server other than Amazon's.")


def test_no_such_host(monkeypatch, s3):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://nowhere.invalid")
    place = Bucket.open("s3", "lab", "", QUICK)
    assert "s3://lab: no address is found for it, 2 times in a row" in said(lambda: place.read("zarr.json", 10))


def test_no_credentials(monkeypatch, s3):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    place = Bucket.open("s3", s3.name, "", QUICK)
    text = said(lambda: place.read("zarr.json", 10))
    assert "no credentials are found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in text
    assert "or AWS_SKIP_SIGNATURE=true where anybody may read" in text


def test_plain_http_to_another_machine_is_refused(monkeypatch, s3):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.org")
    place = Bucket.open("s3", "lab", "", QUICK)
    text = said(lambda: place.read("zarr.json", 10))
    assert "its endpoint is plain http. Give an https one, or set AWS_ALLOW_HTTP=true" in text


def test_a_certificate_that_nobody_vouches_for(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -days 2"
    names = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=CA:FALSE",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    try:
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl's command line to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    (tmp_path / "zarr.json").write_bytes(b"root")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with serving(static(tmp_path), context) as url:
        text = said(lambda: Web.open(url, QUICK).read("zarr.json", 10))
        assert text.startswith(f"{url}: no trusted TLS connection.") and "set SSL_CERT_FILE to a PEM file" in text
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Web.open(url, QUICK).read("zarr.json", 10) == b"root"


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://host", "https://"])
def test_an_endpoint_that_is_none(monkeypatch, s3, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(
        UsageError, match="AWS_ENDPOINT_URL is .* which is not a URL: set it to https://HOST, or unset it"
    ):
        open_place("s3://lab")


def test_certificates_that_can_not_be_read(monkeypatch, s3, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match="SSL_CERT_FILE names .*none.pem, which can't be read"):
        open_place(s3.url)
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(UsageError, match="can't be used as the environment has it: No certificates found"):
        open_place(s3.url)


# URLs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://host/x", "no store can be at ftp://: give a folder, or s3://BUCKET"),
        ("s3://key:secret@bucket/x", "a s3:// URL with a user or password in it is not taken.*docs/sharing.md"),
        ("https://me:secret@host/x", "a https:// URL with a user or password in it is not taken"),
        ("https://host/x?token=secret", r"a https:// URL of a store has neither \? nor #: https://HOST/FOLDER"),
        ("s3://", "s3:// names no bucket: s3://BUCKET"),
        ("s3://bucket/../x", "has the folder '..': use letters, digits, spaces and"),
        ("s3://bucket/a//b", "has the folder '': use letters"),
        ("http://", "names no host: http://HOST/FOLDER"),
        ("http://host:99999/x", "names no host"),
        ("http://[::1/x", "names no host"),
        ("hf://models/a/b", "names no data set: hf://datasets/OWNER/NAME"),
        ("hf://datasets/a", "names no data set"),
        ("hf://datasets/a/b/../c", "has the folder '..'"),
        ("file://host/x", "names a host: write file:///FOLDER, or a plain path"),
    ],
)
def test_urls_that_are_none(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        open_place(text)
    assert "secret" not in str(caught.value)


def test_urls_and_paths_are_told_apart(tmp_path, s3):
    assert open_place(tmp_path).url == open_place(f"file://{tmp_path}").url == str(tmp_path)
    assert open_place("s3://bucket/a/b/").url == "s3://bucket/a/b"
    assert open_place("http://host:80/a/").url == "http://host:80/a"
    assert open_place("hf://datasets/lab/x@refs%2Fpr%2F1/y").url == "hf://datasets/lab/x@refs%2Fpr%2F1/y"
    assert open_place("hf://datasets/lab/x").url == "hf://datasets/lab/x"
    assert [is_url(text) for text in ("s3://b", "https://h/x", "file:///x", "a/b", "C:/x", "s3:/b")] == [True] * 2 + [
        False
    ] * 4


def test_a_missing_package_is_named_by_its_extra():
    """In a process of its own, where the client can't be imported."""
    script = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from bb.store.storage.url import open_place\nfrom bb.store.errors import UsageError\n"
        "try: open_place('hf://datasets/aa/bb')\nexcept UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'backbone-bench[hf]'" in done.stdout, done.stderr


def test_google_and_azure_can_be_named(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "lab")
    assert open_place("gs://bucket/x").url == "gs://bucket/x"
    assert open_place("az://container/x").url == "az://container/x"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(UsageError, match="az://container can't be used as the environment has it: .*Account must be"):
        open_place("az://container/x")


# The web, and index.json


def test_a_web_server_without_index(tmp_path):
    with serving(static(tmp_path)) as url:
        text = said(lambda: list(Web.open(url, QUICK).list()))
    assert f"{url} has no index.json" in text and "`bb store index`" in text


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"[]", b"null", HEAD + TAIL[:-1], HEAD + b'"a":1', HEAD + b'"a":-1' + TAIL,
        HEAD + b'"a":1.5' + TAIL,
        HEAD + b'"a":"1"' + TAIL, HEAD + b'"a":1,' + TAIL, HEAD + b'"a":1,,"b":1' + TAIL, HEAD + b"[" * 10**6 + TAIL,
        HEAD.replace(b"1", b"2") + TAIL, HEAD + b'"a":' + b"9" * 400 + TAIL, HEAD + b'"' + b"a" * 10**6 + b'":1' + TAIL,
    ],
)  # fmt: skip
def test_an_index_that_is_none(raw):
    with pytest.raises(
        BBError, match="x is not an index that this bb reads. It is only a cache: `bb store index` writes"
    ):
        list(parse(raw, "x"))


def test_names_that_no_store_has_are_passed_over():
    names = ["../x", "/etc/passwd", "con", "zarr.json", "a" * 900, "spaces/..", "index.json"]
    raw = HEAD + b",".join(b'"%s":7' % name.encode() for name in names) + TAIL
    assert list(parse(raw, "x")) == [("zarr.json", 7)]


def test_the_index_follows_what_is_pushed_meanwhile(tmp_path):
    """Two pushes race: what the second laid while the first wrote its index is in it all the same."""
    folder = open_place(tmp_path)
    folder.publish([segment()])
    late = [collection()]

    class Racing:
        url, writable, at_once = "racing", True, 1
        list, read, stream, publish = folder.list, folder.read, folder.stream, folder.publish

        def replace(self, path, data):
            if late:
                folder.publish([late.pop()])
            folder.replace(path, data)

    write_index(Racing())
    assert folder.read("index.json", 10**6) == build(folder)
    assert len(list(parse(build(folder), "x"))) == len(files_of(segment(), collection()))
