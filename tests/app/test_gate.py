"""What the gate of the app lets through, without Gradio."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from bayes_pfl.app.gate import Gate, visitor_of
from bayes_pfl.app.inspection import AppSettings
from bayes_pfl.app.question import JOIN, UPLOAD, check_address, read_body
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.errors import DataError
from bayes_pfl.support.asgi import Refused

ME, OTHER = "0" * 32, "1" * 32


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path.resolve(), max_bytes=1000)


@pytest.fixture
def own(uploads):
    path = uploads.folder / "a" / "own.png"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    uploads.add(path, ME)
    return path


def test_uploads_belong_to_their_visitor(uploads, own):
    assert uploads.check(str(own), ME) == own
    for path, visitor in ((own, OTHER), (own, ""), (own.parent, ME), (f"{own}/../own.png", ME)):
        with pytest.raises(DataError, match="not a file that was dropped here"):
            uploads.check(str(path), visitor)
    uploads.add(own, OTHER)
    assert uploads.check(str(own), OTHER) == uploads.check(str(own), ME)


def test_a_known_path_must_still_be_a_file_of_the_folder(uploads, own, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "own.png"
    outside.write_bytes(b"theirs")
    uploads.add(outside, ME)  # whoever says that it was uploaded
    with pytest.raises(DataError):
        uploads.check(str(outside), ME)
    own.unlink()
    for make in (lambda: own.symlink_to(outside), lambda: os.mkfifo(own), own.mkdir):
        make()
        with pytest.raises(DataError):
            uploads.check(str(own), ME)
        own.rmdir() if own.is_dir() else own.unlink()
    own.parent.rmdir()
    own.parent.symlink_to(outside.parent)
    with pytest.raises(DataError):
        uploads.check(str(own), ME)


def test_room(uploads, own):
    assert uploads.room() == 996
    os.symlink("/dev/zero", own.with_name("link"))
    assert 900 < uploads.room() < 996


def test_deleted_uploads_are_forgotten(uploads, own, monkeypatch):
    monkeypatch.setattr("bayes_pfl.app.uploads._MOST", 1)
    other = own.with_name("other.png")
    other.touch()
    uploads.add(other, ME)
    with pytest.raises(DataError):
        uploads.check(str(other), ME)
    own.unlink()
    uploads.add(other, ME)
    assert uploads.check(str(other), ME) == other


def question(*files, **changes):
    values = {
        "data": [list(files), "part", "", "tiny", 1, "none"],
        "session_hash": "abc",
        "fn_index": 0,
    }
    return json.dumps(values | changes).encode()


def test_a_body_is_written_again(uploads, own):
    entry = {"path": str(own), "url": "http://evil", "is_stream": True, "meta": {}}
    sent = question(entry, event_data=[1], oauth_token="x", simple_format=True, trigger_id=3)
    kept = json.loads(read_body(JOIN, sent, lambda path: uploads.check(path, ME), 64))
    meta = {"_type": "gradio.FileData"}
    assert kept == {
        "data": [[{"path": str(own), "meta": meta}], "part", "", "tiny", 1, "none"],
        "session_hash": "abc",
        "fn_index": 0,
        "trigger_id": 3,
    }
    empty = json.loads(
        read_body(JOIN, question(data=[None, "", "", "", 0, ""]), lambda path: own, 64)
    )
    assert empty["data"][0] is None
    chosen = json.loads(read_body(JOIN, question(data=["a profile"]), lambda path: own, 64))
    assert chosen["data"] == ["a profile"]


def test_bodies_that_are_refused(uploads, own):
    def status(body, path=JOIN, files=2):
        with pytest.raises(Refused) as refused:
            read_body(path, body, lambda path: uploads.check(path, ME), files)
        assert "\n" not in str(refused.value)
        return refused.value.status

    mine = {"path": str(own)}
    assert status(question({"path": "/etc/passwd"})) == 403
    assert status(question(mine, mine, mine)) == 413
    for entry in ({}, {"path": None}, str(own), [mine], 1, None):
        assert status(question(mine, entry)) == 400
    for body in (b"", b"[]", b"{", b"\xff", question(session_hash="../a"), question(data=[])):
        assert status(body) == 400
    assert status(question(data=[None, "\ud800", "", "", 1, ""])) == 400
    assert status(question(data=[None, "", "", "", float("nan"), ""])) == 400
    assert status(question(fn_index=[0])) == 400
    assert status(b'{"session_hash": {"a": 1}}', "/gradio_api/cancel") == 400


def test_addresses():
    for path in ("/", "/config", "/assets/a-1_b.js", "/static/img/a.svg", "/gradio_api/queue/data"):
        check_address("GET", path)
    check_address("POST", UPLOAD)
    check_address("POST", JOIN)
    for method, path in (
        ("POST", "/"),
        ("GET", UPLOAD),
        ("POST", "/gradio_api/run/answer"),
        ("GET", "/assets/../a"),
        ("GET", "/assets/a/.b"),
        ("GET", "/static/a\\b"),
        ("GET", "/static//a"),
        ("GET", "/config\n"),
    ):
        with pytest.raises(Refused, match="not part of this page"):
            check_address(method, path)


@pytest.mark.parametrize(
    ("cookies", "visitor"),
    [
        (f"bayes-pfl-visitor={ME}", ME),
        (f"a=b; bayes-pfl-visitor={ME}; c=d", ME),
        (f"bayes-pfl-visitor={ME}0", ""),
        (f"not-bayes-pfl-visitor={ME}", ""),
        ("bayes-pfl-visitor=../../a", ""),
        ("", ""),
    ],
)
def test_the_cookie(cookies, visitor):
    assert visitor_of(cookies) == visitor


def passed(uploads, method, path, *messages, headers=(), answer=b"[]", token=None):
    """Status and body that a client gets, and the body that the application behind gets."""
    reached, sent = [], []

    async def behind(scope, receive, send):
        message = await receive()
        reached.append(message.get("body", b""))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    async def receive():
        return queue.pop(0)

    async def send(message):
        sent.append(message)

    queue = list(messages) or [{"type": "http.request", "body": b""}]
    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(Gate(behind, uploads, AppSettings(("tiny",), token=token))(scope, receive, send))
    return sent[0]["status"], sent[-1]["body"], reached


def test_requests_pass_or_are_answered_by_the_gate(uploads, own):
    cookie = (b"cookie", f"bayes-pfl-visitor={ME}".encode())
    assert passed(uploads, "GET", "/")[0] == 200
    assert passed(uploads, "GET", f"/gradio_api/file={own}", headers=[cookie])[0] == 200
    status, body, reached = passed(uploads, "GET", f"/gradio_api/file={own}")
    assert status == 403 and b"dropped here" in body and not reached
    asked = question({"path": str(own)})
    length = (b"content-length", str(len(asked)).encode())
    halves = [
        {"type": "http.request", "body": asked[:9], "more_body": True},
        {"type": "http.request", "body": asked[9:]},
    ]
    status, _, (body,) = passed(uploads, "POST", JOIN, *halves, headers=[cookie, length])
    assert status == 200 and json.loads(body)["data"][0][0]["path"] == str(own)
    for headers, code in (
        ([length], 403),
        ([cookie], 411),
        ([cookie, length, length], 411),
        ([cookie, length, (b"transfer-encoding", b"chunked")], 411),
        ([cookie, (b"content-length", b"9" * 400)], 413),
    ):
        status, _, reached = passed(uploads, "POST", JOIN, *halves, headers=headers)
        assert (status, reached) == (code, [])


def test_a_token_is_asked_for_before_all_else(uploads, own):
    cookie, token = (b"cookie", f"bayes-pfl-visitor={ME}".encode()), "0123456789abcdef"
    brought = (b"authorization", f"Bearer {token}".encode())
    for method, path in (
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", f"/gradio_api/file={own}"),
        ("POST", UPLOAD),
        ("POST", JOIN),
        ("GET", "/elsewhere"),
    ):
        status, body, reached = passed(uploads, method, path, headers=[cookie], token=token)
        assert (status, reached) == (401, []) and token.encode() not in body
    status, _, reached = passed(uploads, "GET", "/", headers=[cookie, brought], token=token)
    assert status == 200 and reached


def test_what_the_app_made_is_for_its_visitor_alone(uploads):
    own = uploads.own_folder(ME)
    assert own != uploads.own_folder(OTHER) and ME not in str(own)
    own.mkdir()
    page = own / "report.html"
    page.write_text("page")
    path, cookies = f"/gradio_api/file={page}", "bayes-pfl-visitor={}"
    for visitor, status in ((ME, 403), (OTHER, 403)):
        headers = [(b"cookie", cookies.format(visitor).encode())]
        assert passed(uploads, "GET", path, headers=headers)[0] == status
    uploads.add_made(page, ME)
    for visitor, status in ((ME, 200), (OTHER, 403)):
        headers = [(b"cookie", cookies.format(visitor).encode())]
        assert passed(uploads, "GET", path, headers=headers)[0] == status


def test_an_upload_is_noted_before_it_is_answered(uploads, own):
    new = own.with_name("new.png")
    new.touch()
    headers = [(b"cookie", f"bayes-pfl-visitor={OTHER}".encode()), (b"content-length", b"3")]
    answer = json.dumps([str(new)]).encode()
    assert passed(uploads, "POST", UPLOAD, headers=headers, answer=answer)[0] == 200
    assert uploads.check(str(new), OTHER) == new
    too_much = [headers[0], (b"content-length", b"997")]
    assert passed(uploads, "POST", UPLOAD, headers=too_much)[0] == 507
