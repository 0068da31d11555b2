"""The target of a load, as a client sees it."""

from urllib.parse import urlsplit

import msgspec

from perf.errors import LabError


class Target(msgspec.Struct, frozen=True):
    """An address, and the header fields that make it answer.

    `via` are the URLs of forward proxies between the load and the address, first hop first; empty is
    straight.
    """

    host: str
    port: int
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    via: tuple[str, ...] = ()
    authority: str | None = None  # what Host says; None is the address

    @property
    def host_field(self) -> str:
        return self.authority or f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{self.path}"

    def request(self, method: str = "GET", path: str | None = None, *extra: tuple[str, str]) -> bytes:
        """The head of a request to this target, as bytes."""
        fields = [("Host", self.host_field), *self.headers, *extra]
        lines = [f"{method} {path or self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @classmethod
    def of_url(cls, url: str, via: tuple[str, ...]) -> "Target":
        """Raises LabError for what is not an http or https URL."""
        parts = urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise LabError(f"{url}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LabError(f"{url} is not a URL like http://host:port/path")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port, path, tls=parts.scheme == "https", via=via, authority=parts.netloc)

    def at(self, path: str) -> "Target":
        """The same target with another path."""
        return msgspec.structs.replace(self, path=path)
