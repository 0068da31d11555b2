"""`trioduct server status`: what a node is asked, and how its answer is printed."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import yaml

from engine.cli import main
from tests.cli.command_line import Captured, complains
from tests.conftest import Pki


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("server status cluster nodes --status no", "Invalid value for '--status': 'no' is not one of"),
        (
            "server status upstream endpoints --server.url localhost",
            "--server.url: 'localhost': expected a URL such as https://host or http://host:port, port from 1 to 65535",
        ),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)


NODE = {"id": "b", "status": "active", "proxy_addr": "10.0.0.1:8000", "admin_addr": "10.0.0.1:8002"}
NODES = [
    {**NODE, "endpoints": 2, "upstreams": 3},
    {**NODE, "id": "a", "status": "left", "endpoints": 0, "upstreams": 0},
]
SESSION = {
    "endpoint": "shop",
    "principal": "alice",
    "client": "192.0.2.1",
    "seconds": 7,
    "carrier": "poll",
    "suspended": True,
    "version": "0.1.0",
    "way": "http",
    "weight": 3,
    "domains": ["a.test", "b.test"],
    "tenant": "",
}
ANSWERS: dict[str, object] = {
    "/status/upstream/endpoints": {"shop": 2, "db": 1},
    "/status/upstream/sessions": [SESSION],
    "/status/certificates": [
        {"port": "proxy", "file": "/tls/b.pem", "expires": "2027-01-02T03:04:05Z"},
        {"port": "upstream", "file": "/tls/a.pem", "expires": "2026-12-01T00:00:00Z"},
    ],
    "/status/cluster/nodes": NODES,
    "/status/cluster/nodes/local": {**NODE, "endpoints": {"shop": 2, "db": 1}},
    "/status/cluster/nodes/a%2Fb": {**NODE, "endpoints": None},
    "/status/upstream/endpoints?forward=other": {"there": 1},
    "/status/upstream/endpoints?tenant=a%2F%26b": {"of a tenant": 1},
    "/status/upstream/endpoints?tenant=a&forward=other": {"of a tenant there": 1},
    "/base/status/upstream/endpoints": {"below": 1},
}


@contextmanager
def admin_port(token: str = "", tls: ssl.SSLContext | None = None, body: bytes | None = None) -> Iterator[str]:
    """An admin port that knows the answers above; gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if token and self.headers["Authorization"] != f"Bearer {token}":
                self.send_error(401)
            elif self.path not in ANSWERS:
                self.send_error(404)
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(ANSWERS[self.path]).encode() if body is None else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


Ask = Callable[..., str]


@pytest.fixture
def ask(capsys: Captured) -> Iterator[Ask]:
    """Asks an admin port for its status; gives what was printed."""
    with admin_port() as url:

        def ask_for(*argv: str, base: str = "") -> str:
            assert main(["server", "status", "--server.url", url + base, *argv]) == 0, capsys.readouterr().err
            return capsys.readouterr().out

        yield ask_for


def test_status_is_yaml_where_nobody_looks(ask: Ask) -> None:
    assert yaml.safe_load(ask("upstream", "endpoints")) == {"shop": 2, "db": 1}
    assert [node["id"] for node in yaml.safe_load(ask("cluster", "nodes"))["nodes"]] == ["a", "b"]
    assert yaml.safe_load(ask("cluster", "node", "local")) == ANSWERS["/status/cluster/nodes/local"]
    assert yaml.safe_load(ask("cluster", "node", "a/b")) == ANSWERS["/status/cluster/nodes/a%2Fb"]


def test_status_tells_of_each_session(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert json.loads(ask("upstream", "sessions", "-o", "json")) == {"sessions": [SESSION]}
    rows = [line.split() for line in ask("upstream", "sessions", "-o", "table").splitlines()]
    assert rows[1] == ["shop", "alice", "192.0.2.1", "7", "poll", "True", "http", "3", "a.test,b.test"]


def test_status_is_json_when_wanted(ask: Ask) -> None:
    assert json.loads(ask("upstream", "endpoints", "-o", "json")) == {"shop": 2, "db": 1}
    assert json.loads(ask("--output=json", "cluster", "nodes", "--status", "left")) == {"nodes": [NODES[1]]}


def test_status_is_a_table_for_a_person(ask: Ask) -> None:
    rows = [line.split() for line in ask("upstream", "endpoints", "-o", "table").splitlines()]
    assert rows == [["endpoint", "sessions"], ["db", "1"], ["shop", "2"]]
    rows = [line.split() for line in ask("cluster", "nodes", "-o", "table").splitlines()]
    assert rows[0] == ["node", "status", "proxy", "admin", "endpoints", "upstreams", "workers"]
    assert [(row[0], row[-1]) for row in rows[1:]] == [("a", "1"), ("b", "1")]
    rows = [line.split() for line in ask("cluster", "node", "local", "-o", "table").splitlines()]
    assert ["endpoint", "shop", "2"] in rows


def test_status_lists_certificates_and_the_one_that_expires_first_is_the_first(ask: Ask) -> None:
    told = json.loads(ask("certificates", "-o", "json"))
    assert [(one["port"], one["expires"]) for one in told["certificates"]] == [
        ("upstream", "2026-12-01T00:00:00Z"),
        ("proxy", "2027-01-02T03:04:05Z"),
    ]
    rows = [line.split() for line in ask("certificates", "-o", "table").splitlines()]
    assert rows == [
        ["port", "file", "expires"],
        ["upstream", "/tls/a.pem", "2026-12-01T00:00:00Z"],
        ["proxy", "/tls/b.pem", "2027-01-02T03:04:05Z"],
    ]


def test_a_question_can_be_passed_on_to_another_node(ask: Ask) -> None:
    assert yaml.safe_load(ask("upstream", "endpoints", "--forward", "other")) == {"there": 1}
    assert yaml.safe_load(ask("upstream", "endpoints", "--tenant", "a/&b")) == {"of a tenant": 1}
    of_both = ("--tenant", "a", "--forward", "other")
    assert yaml.safe_load(ask("upstream", "endpoints", *of_both)) == {"of a tenant there": 1}


def test_an_admin_port_may_be_below_a_path(ask: Ask) -> None:
    assert yaml.safe_load(ask("upstream", "endpoints", base="/base/")) == {"below": 1}


def test_an_admin_port_may_want_tls_and_a_token(pki: Pki, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    with admin_port("5ecret", pki.server_context()) as url:
        argv = ["server", "status", "upstream", "endpoints", "--server.url", url]
        assert main(argv) == 1
        assert "unable to get local issuer certificate" in capsys.readouterr().err
        argv += ["--tls.root-cas", str(pki.ca)]
        assert main(argv) == 1
        wants = f"trioduct: {url}: 401: it requires a valid token; set TRIODUCT_TOKEN or --token\n"
        assert capsys.readouterr().err == wants
        assert main([*argv, "--tls.server-name", "localhost", "--token", "5ecret"]) == 0
        monkeypatch.setenv("TRIODUCT_TOKEN", "5ecret")
        assert main(argv) == 0


def test_a_node_that_nobody_knows_or_that_is_none_is_told_in_one_line(capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with admin_port() as url, admin_port(body=b"<html>") as web, admin_port(body=b'"\xff"') as broken:
        for argv, said in [
            (
                ["cluster", "node", "nobody", "--server.url", url],
                f"{url}: 404 to /status/cluster/nodes/nobody: no such node, or not an admin port",
            ),
            (
                ["cluster", "nodes", "--server.url", web],
                f"{web}: not the response of an admin port to /status/cluster/nodes",
            ),
            (
                ["upstream", "endpoints", "--server.url", broken],
                f"{broken}: not the response of an admin port to /status/upstream/endpoints",
            ),
            (["cluster", "nodes", "--server.url", nobody], f"{nobody}: Connection refused"),
        ]:
            assert main(["server", "status", *argv]) == 1
            error = capsys.readouterr().err
            assert error.startswith(f"trioduct: {said}")
            assert error.count("\n") == 1


@pytest.mark.parametrize("argv", [["nodes"], ["node", "a"]])
def test_gossip_is_not_used(argv: list[str], capsys: Captured) -> None:
    assert main(["server", "status", "gossip", *argv]) == 1
    assert capsys.readouterr().err.startswith("trioduct: there is no gossip in this version; ")


def test_a_question_takes_the_way_out_that_the_environment_names(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy}")
    argv = ["server", "status", "upstream", "endpoints", "--server.url", "http://node.test:8002"]
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"trioduct: http://node.test:8002: hop 1, http://{proxy}, proxy-tcp: Connection refused")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert yaml.safe_load(ask("upstream", "endpoints")) == {"shop": 2, "db": 1}


def test_config_check_shows_the_question_and_its_way_out_and_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://alice:5ecret@proxy.test:3128")
    argv = ["server", "status", "cluster", "nodes", "--config.check", "--token=t0ken"]
    assert main([*argv, "--server.url=http://node.test:8002"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# the way to the node: http://proxy.test:3128 (environment: HTTP_PROXY)\n")
    shown = yaml.safe_load(said)
    assert (shown["server"]["url"], shown["token"]) == ("http://node.test:8002", "***")
