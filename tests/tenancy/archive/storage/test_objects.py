"""Object storage: a storage that hangs or refuses is given up in time, and no error shows a secret."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from tenancy.archive.storage import objects, open_storage
from tenancy.errors import (
    ArchiveError,
    BackupExistsError,
    ConfigurationError,
    StorageRefusedError,
    StorageUnavailableError,
)
from tests.support.object_storage import KEY, SECRET

pytest.importorskip("obstore")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(objects, "CONNECT_S", 0.5)
    monkeypatch.setattr(objects, "REQUEST_S", 0.5)
    monkeypatch.setattr(objects, "RETRIES_S", 1.0)


def url_of(port, **login):
    return f"s3://{KEY}:{SECRET.replace('/', '%2F')}@bucket/f?endpoint=http://127.0.0.1:{port}&region=us-east-1"


WAYS = {
    "create": lambda storage: storage.create("a.age", io.BytesIO(b"x")),
    "open": lambda storage: storage.open("a.age").read(),
    "list": lambda storage: list(storage.list()),
    "delete": lambda storage: storage.delete("a.age"),
}


@contextmanager
def answering(answer):
    """Listen, and answer each request with ``answer``; with None never."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    open_ones = []

    def serve():
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            open_ones.append(client)
            if answer is not None:
                client.settimeout(1)
                try:
                    client.recv(65536)
                    client.sendall(answer)
                    client.close()
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for client in open_ones:
        client.close()
    thread.join(10)


def head(status, body=b"", length=None):
    length = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, length, body)


HALF_A_LIST = b'<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><Contents><Key>f/a.age</Key>'
BROKEN = {
    "says nothing": None,
    "closes": b"",
    "says 500": head(b"500 Internal Server Error", b"<Error><Code>InternalError</Code></Error>"),
    "says 503": head(b"503 Slow Down"),
    "ends in the middle": head(b"200 OK", HALF_A_LIST, 4000),
    "talks nonsense": b"\x16\x03\x01 nonsense\r\n\r\n",
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("way", WAYS)
def test_a_broken_storage_is_given_up_in_time(impatient, how, way):
    with answering(BROKEN[how]) as port:
        storage, began = open_storage(url_of(port)), time.monotonic()
        if way == "create" and how == "ends in the middle":
            pytest.skip("a write needs no answer's body")
        with pytest.raises(StorageUnavailableError) as failed:
            WAYS[way](storage)
        assert time.monotonic() - began < 30
    tells_no_secret(failed.value)


def test_half_a_list_that_is_well_formed_is_what_it_says_and_no_more(impatient):
    """A storage may list less than it has: a backup is never taken for gone because of that."""
    body = b'<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>'
    with answering(head(b"200 OK", body)) as port:
        assert list(open_storage(url_of(port)).list()) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_storage_that_nobody_serves_is_given_up_at_once(impatient, way):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StorageUnavailableError) as failed:
        WAYS[way](open_storage(url_of(port)))
    tells_no_secret(failed.value)


@pytest.mark.parametrize("status", [b"403 Forbidden", b"401 Unauthorized"])
@pytest.mark.parametrize("way", WAYS)
def test_a_login_that_may_not_is_told_so(impatient, status, way):
    with answering(head(status)) as port, pytest.raises(StorageRefusedError) as refused:
        WAYS[way](open_storage(url_of(port)))
    tells_no_secret(refused.value)


def tells_no_secret(error):
    chain = error
    while chain is not None:
        shown = f"{chain!r} {chain} {getattr(chain, 'fields', '')}"
        assert KEY not in shown
        assert "secret" not in shown.lower()
        assert "%2F" not in shown
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_a_storage_that_froze_and_woke_is_written_to_once(s3_server, monkeypatch):
    """The answer to the first request is lost; the file that it wrote is found to be our own."""
    monkeypatch.setattr(objects, "REQUEST_S", 1.0)
    storage = open_storage(s3_server.bucket())
    storage.create("first.age", io.BytesIO(b"1"))
    s3_server.freeze()
    threading.Timer(1.5, s3_server.thaw).start()
    storage.create("second.age", io.BytesIO(b"2" * 5000))
    assert storage.open("second.age").read() == b"2" * 5000


def test_what_is_there_after_a_lost_answer_is_ours_only_if_it_is_equal(s3_server, monkeypatch):
    storage = open_storage(s3_server.bucket())
    import obstore

    real, calls = obstore.put, []

    def loses_the_answer(*args, **kwargs):
        calls.append(args)
        real(*args, **kwargs)
        if len(calls) == 1:
            raise obstore.exceptions.GenericError("timed out")

    monkeypatch.setattr(obstore, "put", loses_the_answer)
    storage.create("a.age", io.BytesIO(b"1" * 100))
    assert len(calls) == 2
    calls.clear()
    with pytest.raises(BackupExistsError):
        storage.create("a.age", io.BytesIO(b"2" * 100))


def test_a_bucket_that_is_not_there_is_named(s3_server):
    storage = open_storage(s3_server.url("nowhere"))
    with pytest.raises(StorageRefusedError, match="s3://nowhere/some/folder"):
        storage.create("a.age", io.BytesIO(b"1"))
    with pytest.raises(ArchiveError):
        list(storage.list())


def test_a_large_archive_needs_little_memory(s3_server):
    import resource

    class Zeros:
        left = 96 << 20

        def read(self, most, /):
            some = min(most, self.left)
            self.left -= some
            return bytes(some)

    storage = open_storage(s3_server.bucket())
    storage.create("warm.age", io.BytesIO(b"1" * (9 << 20)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    storage.create("large.age", Zeros())
    with storage.open("large.age") as stream:
        size = 0
        while data := stream.read(1 << 20):
            size += len(data)
    assert size == 96 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    storage.delete("large.age")


def test_deleting_may_use_another_login_for_the_same_place(s3_server, monkeypatch):
    url = s3_server.bucket()
    storage = open_storage(url, url.replace(KEY, "OTHERKEY"))
    storage.create("a.age", io.BytesIO(b"1"))
    storage.delete("a.age")
    assert list(storage.list()) == []
    with pytest.raises(ConfigurationError, match="same bucket and folder"):
        open_storage(url, url.replace("/some/folder", "/other"))


def test_a_login_that_may_not_delete_is_told_which_setting_helps(s3_server, monkeypatch):
    import obstore

    storage = open_storage(s3_server.bucket())
    storage.create("a.age", io.BytesIO(b"1"))

    def refuse(*args, **kwargs):
        raise obstore.exceptions.PermissionDeniedError("no")

    monkeypatch.setattr(obstore, "delete", refuse)
    assert storage.can_delete
    with pytest.raises(StorageRefusedError, match="BACKUP_DELETE_URL"):
        storage.delete("a.age")
    assert not storage.can_delete
    assert storage.open("a.age").read() == b"1"


def test_a_child_that_was_forked_is_refused_and_does_not_hang(s3_server):
    storage = open_storage(s3_server.bucket())
    storage.create("a.age", io.BytesIO(b"1"))
    child = os.fork()
    if not child:
        try:
            storage.open("a.age")
        except StorageRefusedError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://", "needs a bucket"),
        ("s3:///folder", "needs a bucket"),
        (f"s3://{KEY}:{SECRET}@bucket?secret=1", "knows endpoint and region"),
        ("gs://user:pass@bucket", "no login"),
        ("gs://bucket?endpoint=http://x", "knows service_account"),
        ("ftp://host/x", "must be a folder"),
        ("relative/folder", "whole path"),
        ("/", "whole path"),
    ],
)
def test_a_url_that_names_no_storage_is_refused_without_showing_it(url, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        open_storage(url)
    assert refused.value.field == "BACKUP_URL"
    assert "secret" not in str(refused.value).lower()


@pytest.mark.parametrize("url", ["gs://bucket/x", "az://box/x?account=a", "az://a:a2V5@box", "s3://bucket"])
def test_the_other_storages_are_made_without_asking_anybody(url):
    storage = open_storage(url)
    assert "a2V5" not in storage.place
