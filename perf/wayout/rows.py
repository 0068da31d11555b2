"""The rows of `trioduct-perf wayout`."""

from perf.contender import Contender
from perf.loads.bulk import Download, Upload
from perf.rows import Measurable, starting
from perf.topologies.tunnels import tunnel_named
from perf.wayout.beds import SCHEMES
from perf.wayout.client import Client, Ours
from perf.wayout.curl import Curl
from perf.wayout.handshakes import HandshakeRow
from perf.wayout.transfers import AgentLayersRow, LayersRow, ProductRow, SquidRow

OURS, CURL = "ours", "curl"


def wayout_sides() -> list[Contender]:
    """Ours is the library and, where a row is about the product, the product."""
    return [Contender(name=OURS, tunnel=tunnel_named("trioduct")), Contender(name=CURL)]


def wayout_rows(only: str | None = None) -> list[Measurable]:
    """All rows, or those whose names start with one of the words. Raises LabError for a word that starts none."""
    return starting(_rows(), only)


def _rows() -> list[Measurable]:
    curl, product = Curl(), wayout_sides()[0]
    clients: dict[str, Client] = {OURS: Ours(), CURL: curl}
    rows: list[Measurable] = [HandshakeRow(scheme, clients) for scheme in SCHEMES]
    for word, doing in (("down", "download"), ("up", "upload")):
        upload = word == "up"
        load = Upload() if upload else Download(path="/bulk")
        rows += [
            SquidRow(f"squid-{word}", f"{doing}, the tunnel's socket", clients, upload=upload, detached=True),
            SquidRow(f"squid-{word}-stream", f"{doing}, the tunnel as a stream", clients, upload=upload),
            ProductRow(f"squid-{word}-product", f"{doing}, node ~ squid ~ agent", product, curl, upload=upload),
            LayersRow(f"tls-{word}", f"{doing}, TLS in TLS", clients, upload=upload),
            AgentLayersRow(f"tls-{word}-agent", f"{doing}, an agent's TLS in TLS", product, load),
        ]
    return rows
