"""Kerberos through the system's own GSSAPI library (RFC 2743, 2744), by ctypes: no compiler, no package.

The library is where curl, git or ssh are. Every call may block for as long as a KDC is silent (25 s were
measured), so all of this runs in worker threads; ctypes releases the GIL. An `Initiator` frees what it
holds when the last reference goes, never before, because an abandoned thread may still be inside the
library.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from typing import Any

_LIBRARIES = (
    "libgssapi_krb5.so.2",  # MIT
    "libgssapi.so.3",  # Heimdal
    "/System/Library/Frameworks/GSS.framework/GSS",
)

MUTUAL, SEQUENCE, INTEGRITY = 0x2, 0x8, 0x20
_CONTINUE_NEEDED = 1
_INITIATE = 1
_ERROR_MASK = 0xFFFF0000
_INDEFINITE = c_uint32(0xFFFFFFFF)


class GSSError(Exception):
    """What the library says, in its own (good) words; also when there is no library."""


class _OID(ctypes.Structure):
    _fields_ = (("length", c_uint32), ("elements", c_char_p))


class _Buffer(ctypes.Structure):
    _fields_ = (("length", c_size_t), ("value", c_void_p))


class _OIDs(ctypes.Structure):
    _fields_ = (("count", c_size_t), ("elements", POINTER(_OID)))


class _Pair(ctypes.Structure):
    _fields_ = (("key", c_char_p), ("value", c_char_p))


class _Store(ctypes.Structure):
    _fields_ = (("count", c_uint32), ("pairs", POINTER(_Pair)))


def _oid(encoded: bytes) -> _OID:
    return _OID(len(encoded), encoded)


SPNEGO = _oid(b"\x2b\x06\x01\x05\x05\x02")  # 1.3.6.1.5.5.2
KERBEROS = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")  # 1.2.840.113554.1.2.2
_HOST_BASED = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04")
_USER_NAME = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x01")
_PRINCIPAL = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01")


@functools.cache
def _library() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for function in ("gss_init_sec_context", "gss_import_name", "gss_wrap", "gss_unwrap"):
            getattr(library, function).restype = c_uint32
        return library
    raise GSSError("no Kerberos library on this machine (Debian: libgssapi-krb5-2)")


def _buffer(data: bytes) -> _Buffer:
    return _Buffer(len(data), ctypes.cast(ctypes.c_char_p(data), c_void_p))


def _take(buffer: _Buffer) -> bytes:
    """Copy what the library allocated, and give it back."""
    data = ctypes.string_at(buffer.value, buffer.length) if buffer.value else b""
    _library().gss_release_buffer(byref(c_uint32()), byref(buffer))
    return data


def _check(major: int, minor: c_uint32, mechanism: _OID) -> int:
    if not major & _ERROR_MASK:
        return major
    texts = []
    for status, kind in ((minor.value, 2), (major, 1)):  # the mechanism's words say more than GSSAPI's
        text, more = _Buffer(), c_uint32()
        if status:
            _library().gss_display_status(
                byref(c_uint32()), c_uint32(status), kind, byref(mechanism), byref(more), byref(text)
            )
            texts.append(_take(text).decode("utf-8", "replace").strip("\x00 "))
    # SPNEGO hides the reason of the mechanism behind "unknown mech-code 0".
    words = [text for text in texts if text and "nknown mech-code" not in text and text != "Success"]
    raise GSSError(words[0] if words else f"GSSAPI error {major:#x}")


class Initiator:
    """Our side of one security context with a service.

    `service` is `HTTP@host` (the library may canonicalise the host by DNS) or a principal `HTTP/host`,
    `HTTP/host@REALM`. Credentials: the ticket cache or client keytab of the moment, or `keytab` (a file),
    or `user` and `password`, for which the KDC is asked. All methods block and raise GSSError.
    """

    def __init__(
        self,
        service: str,
        *,
        mechanism: _OID = SPNEGO,
        flags: int = MUTUAL,
        user: str | None = None,
        password: str | None = None,
        keytab: str | None = None,
    ) -> None:
        self._context, self._name, self._credential = c_void_p(), c_void_p(), c_void_p()
        self._mechanism, self._flags = mechanism, flags
        self.complete = False
        self.mutual = False  # whether the other side has proved itself, too
        self._library = _library()
        self._name = self._import(service, _PRINCIPAL if "/" in service else _HOST_BASED)
        if password is not None and user is not None:
            name = self._import(user, _USER_NAME)
            self._acquire("gss_acquire_cred_with_password", name, byref(_buffer(password.encode())))
        elif keytab is not None:
            pairs = (_Pair * 2)(_Pair(b"client_keytab", keytab.encode()), _Pair(b"ccache", b"MEMORY:trioduct"))
            store = _Store(2, pairs)
            name = self._import(user, _USER_NAME) if user else c_void_p()
            self._acquire("gss_acquire_cred_from", name, store=store)

    def _import(self, text: str, kind: _OID) -> c_void_p:
        name, minor = c_void_p(), c_uint32()
        major = self._library.gss_import_name(byref(minor), byref(_buffer(text.encode())), byref(kind), byref(name))
        _check(major, minor, KERBEROS)
        return name

    def _acquire(
        self,
        function: str,
        name: c_void_p,
        *password: Any,
        store: _Store | None = None,
        mechanism: _OID | None = None,
    ) -> None:
        # The mechanism must be named: SPNEGO finds nothing to negotiate in a credential for "all of them".
        minor, mechanisms = c_uint32(), _OIDs(1, ctypes.pointer(mechanism or self._mechanism))
        middle = (c_int(_INITIATE), byref(store)) if store is not None else (c_int(_INITIATE),)
        call = getattr(self._library, function)
        call.restype = c_uint32
        major = call(
            byref(minor),
            name,
            *password,
            _INDEFINITE,
            byref(mechanisms),
            *middle,
            byref(self._credential),
            None,
            None,
        )
        if name:
            self._library.gss_release_name(byref(c_uint32()), byref(name))
        _check(major, minor, KERBEROS)

    def step(self, token: bytes) -> bytes:
        """The next token to send (b"": none), given the other side's last one (b"" to begin)."""
        if self._context and not token:
            raise GSSError("the other side's token is empty")  # which MIT's SPNEGO does not survive
        minor, out, granted = c_uint32(), _Buffer(), c_uint32()
        heard = _buffer(token)
        major = self._library.gss_init_sec_context(
            byref(minor),
            self._credential,
            byref(self._context),
            self._name,
            byref(self._mechanism),
            c_uint32(self._flags),
            c_uint32(0),
            None,
            byref(heard) if token else None,
            None,
            byref(out),
            byref(granted),
            None,
        )
        said = _take(out)
        if major & _ERROR_MASK and not token and not self._credential:
            self._check_default_credential()  # SPNEGO only says that no mechanism is left, this says why
        self.complete = _check(major, minor, KERBEROS) != _CONTINUE_NEEDED
        self.mutual = self.complete and bool(granted.value & MUTUAL)
        return said

    def _check_default_credential(self) -> None:
        self._acquire("gss_acquire_cred", c_void_p(), mechanism=KERBEROS)

    def wrap(self, data: bytes, *, confidential: bool) -> bytes:
        minor, out = c_uint32(), _Buffer()
        major = self._library.gss_wrap(
            byref(minor), self._context, c_int(confidential), c_uint32(0), byref(_buffer(data)), None, byref(out)
        )
        wrapped = _take(out)
        _check(major, minor, KERBEROS)
        return wrapped

    def unwrap(self, data: bytes) -> bytes:
        minor, out = c_uint32(), _Buffer()
        major = self._library.gss_unwrap(byref(minor), self._context, byref(_buffer(data)), byref(out), None, None)
        plain = _take(out)
        _check(major, minor, KERBEROS)
        return plain

    def __del__(self) -> None:
        if hasattr(self, "_library"):
            ignored = byref(c_uint32())
            if self._context:
                self._library.gss_delete_sec_context(ignored, byref(self._context), None)
            if self._credential:
                self._library.gss_release_cred(ignored, byref(self._credential))
            if self._name:
                self._library.gss_release_name(ignored, byref(self._name))
