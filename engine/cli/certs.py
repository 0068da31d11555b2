"""`trioduct certs`: private authorities and certificates, for tests and small installations."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from engine.cli.flags import FlagCommand, takes
from engine.cli.launch import read
from engine.config import CertsConfig, Draft
from engine.errors import ConfigError


@takes(CertsConfig)
@click.command(cls=FlagCommand)
@click.pass_context
def certs(ctx: click.Context) -> None:
    """Make certificates for TLS on both sides, and print who uses which.

    For tests and small installations. Nodes, agents and clients get an authority each (node-ca.pem, agent-ca.pem,
    client-ca.pem), and what it has issued: node.pem, agent.pem, client.pem. Each has its key beside it (*.key), which
    only its owner can read. No file is overwritten. Authorities that are there already issue what is missing: to renew
    the node's certificate, move node.pem and node.key away, and say `--agents "" --clients ""`.

    \b
      trioduct certs --names 'tunnel.example.com,*.tunnel.example.com'
      trioduct certs --names localhost,127.0.0.1 --agents shop,api --days 30 --folder /etc/trioduct/tls
    """
    draft = read(ctx, CertsConfig)
    config = draft.finish()
    folder = Path(config.folder)
    leaves = {"node": ["node"] if config.names else [], "agent": config.agents, "client": config.clients}
    try:
        _write(_made(leaves, config, draft), folder)
    except OSError as error:
        raise ConfigError(
            draft.complaint("folder", error.filename or config.folder, f"{error.strerror}; nothing was written")
        ) from None
    click.echo(_use(folder, leaves), nl=False)


def _made(leaves: Mapping[str, list[str]], config: CertsConfig, draft: Draft[CertsConfig]) -> dict[str, bytes]:
    """The files to be written, by their names. Raises ConfigError and OSError."""
    from engine.auth.authority import Authority

    files: dict[str, bytes] = {}
    for kind, names in leaves.items():
        if not names:
            continue
        cert, key = (Path(config.folder, f"{kind}-ca.{end}") for end in ("pem", "key"))
        if cert.exists() and key.exists():
            try:
                authority = Authority(cert.read_bytes(), key.read_bytes())
            except ConfigError as error:
                raise ConfigError(draft.complaint("folder", str(cert), str(error))) from None
        else:
            authority = Authority.make(f"Trioduct {kind} CA")
            files |= {cert.name: authority.certificate, key.name: authority.key}
        for name in names:
            pair = authority.issue(name, config.names if kind == "node" else (), days=config.days)
            files |= dict(zip((f"{name}.pem", f"{name}.key"), pair, strict=True))
    return files


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write all of the files or, if one of them is there already or cannot be written, none. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as undo:
        for name, content in files.items():
            path = folder / name
            mode = 0o600 if path.suffix == ".key" else 0o644
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            undo.callback(path.unlink)
            with open(descriptor, "wb") as file:
                file.write(content)
        undo.pop_all()


def _use(folder: Path, leaves: Mapping[str, list[str]]) -> str:
    """What to write into which configuration, as YAML documents."""
    import yaml

    def file(name: str) -> str:
        return str(folder / name)

    def pair(name: str) -> dict[str, str]:
        return {"cert": file(f"{name}.pem"), "key": file(f"{name}.key")}

    def port(name: str, kind: str) -> dict[str, str]:
        return pair(name) | ({"client_cas": file(f"{kind}-ca.pem")} if leaves[kind] else {})

    def dials(name: str) -> dict[str, object]:
        return {"connect": {"tls": {"root_cas": file("node-ca.pem"), **pair(name)}}}

    parts: list[tuple[str, dict[str, object]]] = [
        ("the node", {"proxy": {"tls": port(name, "client")}, "upstream": {"tls": port(name, "agent")}})
        for name in leaves["node"]
    ]
    parts += [(f"the agent {name}", dials(name)) for name in leaves["agent"]]
    for name in leaves["client"]:
        curl = shlex.join(
            ["curl", "--cacert", file("node-ca.pem"), "--cert", file(f"{name}.pem"), "--key", file(f"{name}.key")]
        )
        parts.append((f"the client {name}, as a forward; else: {curl}", dials(name)))
    texts = [f"# {whose}\n{yaml.safe_dump(keys, sort_keys=False)}" for whose, keys in parts]
    keys = ", ".join(file(f"{kind}-ca.key") for kind, names in leaves.items() if names)
    return "---\n".join(texts) + f"# nobody needs {keys} but to issue more: keep them elsewhere\n"
