"""Encrypt archives to a passphrase, in the age format (age-encryption.org/v1, "The scrypt recipient type").

pyrage works on a passphrase's files as a whole, in memory. So this file makes the header and the payload itself, from
the primitives of ``cryptography``, piece by piece; ``age -d`` and pyrage read the result.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenancy.errors import ArchiveDamagedError, ArchiveHostileError, ArchiveKeyError

COST = 15
"""The logarithm of scrypt's cost: 32 MiB of memory for a moment. Each step more doubles memory and time."""

COST_MOST = 16
CHUNK = 64 * 1024

_VERSION = b"age-encryption.org/v1\n"
_TAG = 16
_FILE_KEY = 16
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9]\d?)\n([A-Za-z0-9+/]{43})\n--- ([A-Za-z0-9+/]{43})\n"
)
_HEADER_MOST = 256


def encrypted(pieces: Iterable[bytes], passphrase: str) -> Iterator[bytes]:
    """Encrypt pieces as they come."""
    file_key, salt, nonce = os.urandom(_FILE_KEY), os.urandom(16), os.urandom(16)
    wrapped = ChaCha20Poly1305(_wrapping_key(passphrase, salt, COST)).encrypt(bytes(12), file_key, None)
    header = _VERSION + b"-> scrypt %b %d\n%b\n---" % (_b64(salt), COST, _b64(wrapped))
    yield b"%b %b\n%b" % (header, _b64(_mac(file_key, header)), nonce)
    cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    number, pending = 0, bytearray()
    for piece in pieces:
        pending += piece
        while len(pending) > CHUNK:  # the last chunk is marked as such, so one is always kept back
            yield cipher.encrypt(_nonce(number, last=False), bytes(pending[:CHUNK]), None)
            number += 1
            del pending[:CHUNK]
    yield cipher.encrypt(_nonce(number, last=True), bytes(pending), None)


def decrypted(source: BinaryIO, passphrase: str) -> Iterator[bytes]:
    """Decrypt a stream; the iterator ends only if the stream is whole and nothing follows it."""
    start = _read(source, _HEADER_MOST + 16)
    found = _HEADER.match(start)
    if found is None:
        if start.startswith(_VERSION):
            raise ArchiveKeyError("the archive was encrypted to public keys: a passphrase does not open it.")
        raise ArchiveDamagedError("the archive is damaged or cut off, or is none.")
    salt, wrapped, mac = (_unb64(found[place]) for place in (1, 3, 4))
    if int(found[2]) > COST_MOST:
        raise ArchiveHostileError("the archive asks for more memory than archives do.")
    file_key = _unwrapped(passphrase, salt, int(found[2]), wrapped)
    if not hmac.compare_digest(mac, _mac(file_key, start[: found.start(4) - 1])):
        raise ArchiveDamagedError("the archive's header is damaged.")
    rest = start[found.end() :]
    rest += _read(source, 16 - len(rest)) if len(rest) < 16 else b""
    yield from _chunks(source, rest[16:], ChaCha20Poly1305(_derived(file_key, rest[:16], b"payload")))


def _chunks(source: BinaryIO, pending: bytes, cipher: ChaCha20Poly1305) -> Iterator[bytes]:
    number, whole = 0, CHUNK + _TAG
    pending += _read(source, whole - len(pending))
    while True:
        following = _read(source, whole)
        last = not following
        try:
            plain = cipher.decrypt(_nonce(number, last=last), pending, None)
        except InvalidTag as error:
            raise ArchiveDamagedError("the archive is damaged or cut off.") from error
        if last and not plain and number:
            raise ArchiveHostileError("the archive ends in a way that exports do not use.")
        yield plain
        if last:
            return
        number, pending = number + 1, following


def _read(source: BinaryIO, most: int) -> bytes:
    """Read as many bytes as are asked for, unless the source ends."""
    parts: list[bytes] = []
    while most > 0 and (part := source.read(most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _unwrapped(passphrase: str, salt: bytes, cost: int, wrapped: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(_wrapping_key(passphrase, salt, cost)).decrypt(bytes(12), wrapped, None)
    except InvalidTag as error:
        raise ArchiveKeyError("the passphrase does not open the archive.") from error


def _wrapping_key(passphrase: str, salt: bytes, cost: int) -> bytes:
    label, memory = b"age-encryption.org/v1/scrypt", 2 ** (cost + 11)
    return hashlib.scrypt(passphrase.encode(), salt=label + salt, n=2**cost, r=8, p=1, maxmem=memory, dklen=32)


def _mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")


def _derived(file_key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt or None, purpose).derive(file_key)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _b64(value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=")


def _unb64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))
