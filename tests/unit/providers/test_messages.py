import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.http1 import written
from providers.messages import Request, Response

HEADERS = {"Content-Type": "application/json", "Idempotency-Key": "key-1"}


@given(
    st.sampled_from(
        [
            "https://api.example.com/v1/refunds",
            "http://127.0.0.1:8080/v1/refunds",
            "https://api.example.com:8443/pay%20ments/ü?a=1&b=%C3%BC",
            "http://[::1]:8080/x",
            "https://bücher.example/refunds",
        ]
    ),
    st.binary(min_size=1, max_size=300),
)
def test_a_request_is_the_same_over_the_wire_to_the_byte(url, content):
    ours = Request("POST", url, HEADERS.items(), content)
    theirs = httpx.Request("POST", url, headers=HEADERS, content=content)

    assert written(ours) == written(theirs)
    assert (ours.content, ours.read(), ours.url, ours.method) == (content, content, theirs.url, "POST")


def test_what_is_signed_afterwards_goes_over_the_wire():
    request = Request("POST", "https://api.example.com/v1", [], b"{}")
    request.headers["X-Sign"] = "abc"

    assert b"\r\nX-Sign: abc\r\n" in written(request)


@pytest.mark.parametrize("kind", ["application/json", "text/html; charset=iso-8859-1", None])
def test_an_answer_is_read_as_httpx_reads_it(kind):
    headers = [(b"Content-Type", kind.encode())] if kind else []
    request = httpx.Request("GET", "https://api.example.com/")
    content = '{"name": "Müller"}'.encode("utf-8" if kind != "text/html; charset=iso-8859-1" else "latin-1")
    ours, theirs = Response(200, headers, content, request), httpx.Response(200, headers=headers, content=content)

    assert (ours.status_code, ours.content, ours.text) == (200, theirs.content, theirs.text)
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")
    assert ours.request is request
