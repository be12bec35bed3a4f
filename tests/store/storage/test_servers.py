"""The servers that other tests lean on do what they say."""

from http.client import HTTPConnection, IncompleteRead
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.helpers.servers import GUARD, Fault, serving, static

# Moto wants any signature at all; without a type, urllib's would make the body a form.
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=me/20260101/us-east-1/s3/aws4_request",
    "Content-Type": "application/octet-stream",
}


def put(bucket, path, data):
    request = Request(f"{bucket.endpoint}/{bucket.name}/{path}", data=data, headers=SIGNED, method="PUT")
    urlopen(request, timeout=GUARD).close()


def get(bucket, path, **headers):
    with urlopen(Request(f"{bucket.endpoint}/{bucket.name}/{path}", headers=SIGNED | headers), timeout=GUARD) as answer:
        return answer.read()


def test_the_proxy_hands_on_logs_and_breaks(s3, faults):
    put(s3, "a/b", b"0123456789")
    assert get(s3, "a/b") == b"0123456789"
    assert get(s3, "a/b", Range="bytes=4-") == b"456789"
    assert [(r.method, r.path, r.range) for r in faults.asked[-2:]] == [
        ("GET", f"/{s3.name}/a/b", None),
        ("GET", f"/{s3.name}/a/b", "bytes=4-"),
    ]
    faults.rule = lambda request, number: Fault(status=503, headers=(("Retry-After", "1"),))
    with pytest.raises(HTTPError, match="503"):
        get(s3, "a/b")
    faults.rule = lambda request, number: Fault(cut=4)
    with pytest.raises(IncompleteRead):
        get(s3, "a/b")
    faults.rule = lambda request, number: Fault(refuse=True)
    with pytest.raises(OSError):
        get(s3, "a/b")
    faults.rule = lambda request, number: Fault(flip=3)
    assert get(s3, "a/b") == b"0122456789"


def test_now_and_then_is_every_so_many_requests(faults):
    faults.now_and_then(Fault(status=500), Fault(status=503), every=2)
    assert [getattr(faults.rule(None, n), "status", None) for n in range(6)] == [None, 500, None, 503, None, 500]


@pytest.mark.parametrize("ranges", [True, False])
def test_the_static_server_is_a_plain_one(tmp_path, ranges):
    (tmp_path / "a").write_bytes(b"0123456789")
    with serving(static(tmp_path, ranges=ranges)) as url:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=GUARD)
        connection.request("GET", "/a", headers={"Range": "bytes=7-"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == ((206, b"789") if ranges else (200, b"0123456789"))
        connection.request("GET", "/none")
        assert connection.getresponse().status == 404
        connection.close()


def test_rclone_checks_signatures(s3_rclone):
    with pytest.raises(HTTPError, match="40[03]"):
        get(s3_rclone, "a")
