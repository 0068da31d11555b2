"""The knobs of the roles: each is declared once, and flags, file keys, variables, help and checks follow from that.

Keys and defaults are Piko's, so that a Piko file works unchanged; a knob of our own says so in a comment.

The ground that declarations stand on, and what reads them:

    knob        sections and knobs: how one is declared, and what the declaration says, as data
    kinds       the kinds of values: how text becomes a value and back, and what would have been right
    duration, address, mask   the text of durations, of addresses and URLs; what is printed in place of a secret
    check       what is wrong with values together, or with the files that they name
    draft       a configuration that takes values from environment, flags and file, and remembers where each came from

The declarations:

    tls, auth, log, limits, tracing, visitors   what several roles and ports share
    health, rewrite    what listeners of an agent have
    way_out, connect   the proxies between here and a node; the connection to the node
    server, agent, forward   everything about a role
    command            what a command line says beside a role's configuration
    reference          the pages of docs/reference, made of the declarations
    public             what a node on the public Internet needs of its configuration

Anything that takes long to import (ssl, yaml, cryptography, proxy_adapters) is imported where it is used, because
`trioduct --help` reads all declarations.
"""

from engine.config.address import Target, split_address, split_url
from engine.config.agent import AgentConfig, ListenerConfig
from engine.config.auth import AuthConfig
from engine.config.command import (
    BenchConfig,
    CertsConfig,
    ChecklistConfig,
    ExaminationConfig,
    InitConfig,
    Invocation,
    StatusConfig,
    TokenConfig,
    TopConfig,
    WritingConfig,
)
from engine.config.connect import ConnectConfig
from engine.config.draft import Draft, expand
from engine.config.duration import format_duration, parse_duration, parse_lifetime
from engine.config.forward import ForwardConfig, PortConfig
from engine.config.health import HealthConfig
from engine.config.knob import Knob, Leaf, Section, knobs, members, shown, to_yaml
from engine.config.limits import AgentLimits
from engine.config.log import AccessLogConfig
from engine.config.mask import MASK
from engine.config.rewrite import RewriteConfig
from engine.config.server import ServerConfig
from engine.config.tls import ClientTLS, ServerTLS
from engine.config.udp import UdpConfig
from engine.config.visitors import VisitorsConfig
from engine.config.way_out import OutConfig

__all__ = [
    "AccessLogConfig",
    "AgentConfig",
    "AgentLimits",
    "AuthConfig",
    "BenchConfig",
    "CertsConfig",
    "ChecklistConfig",
    "ClientTLS",
    "ConnectConfig",
    "Draft",
    "ExaminationConfig",
    "ForwardConfig",
    "HealthConfig",
    "InitConfig",
    "Invocation",
    "Knob",
    "Leaf",
    "ListenerConfig",
    "MASK",
    "OutConfig",
    "PortConfig",
    "RewriteConfig",
    "Section",
    "ServerConfig",
    "ServerTLS",
    "StatusConfig",
    "Target",
    "TokenConfig",
    "TopConfig",
    "UdpConfig",
    "VisitorsConfig",
    "WritingConfig",
    "expand",
    "format_duration",
    "knobs",
    "members",
    "parse_duration",
    "parse_lifetime",
    "shown",
    "split_address",
    "split_url",
    "to_yaml",
]
