"""`trioduct token`: what an agent or a client shows to a node."""

from __future__ import annotations

import math
import os
import secrets
import time

import click

from engine.cli.ending import complain
from engine.cli.flags import FlagCommand, takes
from engine.cli.launch import read
from engine.config import TokenConfig
from engine.config.check import Defect
from engine.errors import ConfigError


@takes(TokenConfig)
@click.command(cls=FlagCommand)
@click.pass_context
def token(ctx: click.Context) -> None:
    """Make a token (JWT) for agents and clients, and print it.

    It is signed with the key that the node verifies with: the secret in its upstream.auth.hmac_secret_key (agents)
    or proxy.auth.hmac_secret_key (clients), or the private key for its rsa_public_key or ecdsa_public_key. The key
    is read from a file that only its owner can read, or from the environment (TRIODUCT_TOKEN_KEY), never from the
    command line. Agents take the token from TRIODUCT_CONNECT_TOKEN, clients send it as Authorization: Bearer.

    \b
      trioduct token --key-file tunnel.key --endpoints shop,api --expires 30d
      TRIODUCT_TOKEN_KEY=$(pass show tunnel) trioduct token --audience agents
    """
    draft = read(ctx, TokenConfig)
    config = draft.finish()
    if draft.says("endpoints") and not config.endpoints:  # --endpoints "$NOTHING" would be good for all of them
        raise ConfigError(
            draft.complaint("endpoints", "", "empty; expected endpoints, or no such flag for all of them")
        )
    try:
        key = config.signing_key(os.environ)
    except Defect as defect:
        raise ConfigError(draft.complaint(defect.key, defect.value, defect.problem)) from None
    signed = key.sign(
        endpoints=config.endpoints,
        domains=config.domains,
        tenant=config.tenant,
        expires_at=math.ceil(time.time() + config.expires) if config.expires else None,
        subject=config.subject,
        token_id=config.id or secrets.token_hex(8),
        audience=config.audience,
        issuer=config.issuer,
    )
    unlimited = [
        text
        for text, limit in (
            ("is good for every endpoint (--endpoints a,b: for these)", config.endpoints),
            ("never expires (--expires 30d: after 30 days)", config.expires),
        )
        if not limit
    ]
    if unlimited:
        complain(f"this token {' and '.join(unlimited)}", 0)
    click.echo(signed)
