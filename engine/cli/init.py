"""`trioduct init`: a configuration file for a node or an agent, from the answers to five questions.

An answer comes from a flag, from the environment, or from whoever is asked. Nothing is written before all of it is
known and the file has passed what `config check` checks; secrets go into files of mode 600 of their own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click

from engine.cli.flags import FlagCommand, takes
from engine.cli.launch import read
from engine.config import AgentConfig, Draft, InitConfig, ServerConfig, WritingConfig, knobs
from engine.config.check import read_secret_file
from engine.errors import ConfigError

HERE = Path(__file__).parent / "written"
TOKEN_DAYS = 365
UNIT_COMMAND = "/opt/trioduct/bin/trioduct"  # in the units of deploy/
CREDENTIALS = "${CREDENTIALS_DIRECTORY:"
QUESTIONS = {  # by role: the keys of InitConfig, and how a person is asked
    "node": {
        "public_url": "Where will clients reach it? Its public URL, such as https://*.tunnel.example.com",
        "tls": "Through which TLS? The folder of fullchain.pem and privkey.pem; nothing: none, or in front of it",
        "endpoints": "Which services may the first agent offer? Their endpoints, by commas",
        "secret_file": "Which secret signs the tokens of agents? A file, which is made if it is missing",
    },
    "agent": {
        "url": "Where is the node? The URL of its upstream port",
        "proxy": "Through which forward proxy? http://HOST:PORT or http://USER@HOST:PORT; nothing: none",
        "service": "Which service, by which name? NAME=PORT, NAME=HOST:PORT, or NAME=tcp://HOST:PORT",
        "secret_file": "Which secret does the node know it by? The file with the token",
    },
}


class Plan(NamedTuple):
    """What is to be written: the file's text, and secrets by the files that they go into (unless they are there)."""

    text: str
    secrets: Mapping[Path, str]
    credentials: Mapping[str, Path]  # of a unit: what the service reads that only root may read
    hints: list[str]  # what to do next


@takes(InitConfig, WritingConfig)
@click.command(cls=FlagCommand)
@click.pass_context
def init(ctx: click.Context) -> None:
    """Write a configuration file for a node or an agent, from the answers to five questions.

    What runs here, where, through what, which service, which secret: each is a flag as well, and --yes asks nothing.
    Secrets go into files that only their owner can read: a node's key and the token of its first agent are made, an
    agent's token is asked for if there is no file with it. Nothing is overwritten without being asked, or --force.

    \b
      trioduct init
      trioduct init --yes --role node --public-url 'https://*.tunnel.example.com' --folder /etc/trioduct --unit
      trioduct init --yes --role agent --url https://tunnel.example.com:8001 --service shop=3000
    """
    answers = read(ctx, InitConfig)
    writing = read(ctx, WritingConfig).finish()
    folder = Path(os.path.abspath(writing.folder))
    role = ask_all(answers, folder, silent=writing.yes)
    answers.finish()
    plan = (plan_node if role == "node" else plan_agent)(answers, folder, writing)
    name = "server" if role == "node" else "agent"
    texts = {folder / f"{name}.yaml": plan.text}
    if writing.unit:
        if "$" in plan.text.replace(CREDENTIALS, ""):
            raise ConfigError("an answer has a $, which a unit would replace (--config.expand-env); expected none")
        texts[folder / f"trioduct-{name}.service"] = unit_text(name, folder, plan.credentials)
    for path in texts:
        may_overwrite(path, writing)
    root: type[ServerConfig] | type[AgentConfig] = ServerConfig if role == "node" else AgentConfig
    try:
        write(texts, plan.secrets, folder / f"{name}.yaml", root, expand=writing.unit)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}; nothing was written") from None
    for path in [*texts, *plan.secrets]:
        click.echo(f"wrote {path}")
    click.echo("\n" + "\n".join(plan.hints))


def ask_all(draft: Draft[InitConfig], folder: Path, *, silent: bool) -> str:
    """Ask for what nobody has said yet, into the draft. Returns the role."""
    answers = draft.config
    if silent and not answers.role:
        raise ConfigError("role: missing; expected --role node, or --role agent")
    if not answers.role:
        ask(draft, "role", "What runs here, a node (public) or an agent (beside a service)?", "agent")
    if not draft.says("secret_file"):
        answers.secret_file = str(folder / ("tunnel.key" if answers.role == "node" else "agent.token"))
    for key, question in QUESTIONS[answers.role].items():
        if not silent and not draft.says(key):
            knob = next(knob for knob in knobs(InitConfig) if knob.key == key)
            ask(draft, key, question, answers.secret_file if key == "secret_file" else knob.default(InitConfig))
    return answers.role


def ask(draft: Draft[InitConfig], key: str, question: str, default: str) -> None:
    """Ask until the answer is of the knob's kind. What the draft judges, it judges by the flag of the same name."""
    knob = next(knob for knob in knobs(InitConfig) if knob.key == key)

    def judged(text: str) -> str:
        try:
            if text and (text != default or not knob.value(draft.config)):
                draft.read_flags({knob.flag: [text]})
            if key == "proxy":
                draft.config.proxy_parts()
        except ConfigError as error:
            raise click.UsageError(str(error).removeprefix(f"{knob.flag}: ").removeprefix(f"{key}: ")) from None
        return text

    try:
        click.prompt(question, default=default, value_proc=judged, show_default=bool(default), err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise ConfigError(f"no answer to {question!r}; expected {knob.flag}, or --yes for the defaults") from None


def ask_secret(question: str) -> str:
    """An answer that is not shown while it is typed; empty if there is none."""
    try:
        answer: str = click.prompt(question, "", hide_input=sys.stdin.isatty(), show_default=False, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        return ""
    return answer


def plan_node(draft: Draft[InitConfig], folder: Path, writing: WritingConfig) -> Plan:
    from engine.auth.signing import SigningKey

    answers = draft.config
    key_path = Path(os.path.abspath(answers.secret_file))
    key = read_secret_file("--secret-file", str(key_path)).strip() if key_path.exists() else secrets.token_hex(32)
    expires = math.ceil(time.time()) + TOKEN_DAYS * 86400
    try:
        signing = SigningKey(key, "HS256")
    except ConfigError as error:
        raise ConfigError(draft.complaint("secret_file", str(key_path), str(error))) from None
    token = signing.sign(endpoints=answers.endpoints, expires_at=expires, token_id=secrets.token_hex(8))
    token_path = folder / "agent.token"
    new = {path: f"{text}\n" for path, text in ((key_path, key), (token_path, token)) if not path.exists()}

    host, port = public_place(answers.public_url)
    tls = os.path.abspath(answers.tls) if answers.tls else ""
    # Behind a web server that has the certificate, the port of the URL is that server's.
    behind = answers.public_url.startswith("https:") and not tls
    file = folder / "server.yaml"
    command = start_command(["server"], file, writing)
    text = render(
        "server.yaml",
        command=command,
        url=answers.public_url,
        proxy_addr=f":{8000 if behind else port}",
        cert=tls and f"{tls}/fullchain.pem",
        key=tls and f"{tls}/privkey.pem",
        key_file=key_path,
        secret=secret_path(key_path, writing),
    )
    agent_url = f"{'https' if tls or behind else 'http'}://{host}:8001"
    hints = [
        "Start it:",
        *start_lines("server", folder, command, writing),
        f"Beside the service, with a copy of {token_path.name} (for {', '.join(answers.endpoints) or 'every endpoint'};"
        f" {'it was there already' if token_path not in new else f'good for {TOKEN_DAYS} days'}):",
        f"  trioduct init --role agent --url {agent_url} --secret-file {token_path.name}",
    ]
    if behind:
        hints.insert(0, "A web server with the certificate belongs in front of ports 8000 and 8001: docs/https.md")
    return Plan(text, new, {key_path.name: key_path}, hints)


def plan_agent(draft: Draft[InitConfig], folder: Path, writing: WritingConfig) -> Plan:
    answers = draft.config
    new: dict[Path, str] = {}
    token_path = Path(os.path.abspath(answers.secret_file))
    if not token_path.exists():
        token = os.environ.get("TRIODUCT_CONNECT_TOKEN", "")
        if not token and not writing.yes:
            token = ask_secret("Its token; nothing: the node asks for none")
        if token:
            new[token_path] = f"{token.strip()}\n"
        elif draft.says("secret_file"):
            raise ConfigError(draft.complaint("secret_file", str(token_path), "is not there, and nobody gave a token"))
    else:
        read_secret_file("--secret-file", str(token_path))
    has_token = token_path in new or token_path.exists()
    proxy, user, password = answers.proxy_parts()
    password_path = folder / "proxy-password"
    if user and not password and not writing.yes:
        password = ask_secret(f"The password of {user} at that proxy")
    if user and not password:
        raise ConfigError(draft.complaint("proxy", f"{user}@…", "has a user and no password; expected both, or none"))
    if user:
        new[password_path] = f"{password}\n"
    endpoint, addr, protocol = answers.service
    file = folder / "agent.yaml"
    command = start_command(["agent", "start"], file, writing)
    text = render(
        "agent.yaml",
        command=command,
        folder=str(folder),
        url=answers.url,
        secret=has_token and secret_path(token_path, writing),
        proxy=proxy,
        user=user,
        password=secret_path(password_path, writing),
        endpoint=endpoint,
        addr=addr,
        protocol=protocol,
    )
    credentials = {path.name: path for path in [token_path] * has_token + [password_path] * bool(user)}
    hints = [
        "Start it:",
        *start_lines("agent", folder, command, writing),
        "If it does not connect, this says why:",
        f"  trioduct doctor {shlex.quote(endpoint)} --config.path {shlex.quote(str(file))}"
        + (" --config.expand-env" if writing.unit else ""),
    ]
    return Plan(text, new, credentials, hints)


def public_place(url: str) -> tuple[str, int]:
    """Host and port of a public URL; what a node has without one, if it is empty."""
    from engine.config import split_url

    if not url:
        return "localhost", 8000
    target = split_url(url.replace("*.", "", 1))
    return f"[{target.host}]" if ":" in target.host else target.host, target.port


def secret_path(path: Path, writing: WritingConfig) -> str:
    """How a file names a secret: a unit's service reads a copy that systemd makes for it, other commands the file."""
    return f"{CREDENTIALS}{path.parent}}}/{path.name}" if writing.unit else str(path)


def start_command(words: list[str], file: Path, writing: WritingConfig) -> str:
    return shlex.join(["trioduct", *words, "--config.path", str(file), *["--config.expand-env"] * writing.unit])


def start_lines(name: str, folder: Path, command: str, writing: WritingConfig) -> list[str]:
    if not writing.unit:
        return [f"  {command}"]
    unit = f"trioduct-{name}.service"
    home = installed().startswith(("/home/", f"{Path.home()}/"))  # which the unit closes
    return [
        *([f"  (first install trioduct elsewhere, as in /opt/trioduct: a service cannot read {installed()})"] * home),
        f"  cp {shlex.quote(str(folder / unit))} /etc/systemd/system/",
        f"  systemctl daemon-reload && systemctl enable --now {unit}",
    ]


def installed() -> str:
    """The command that runs now, if it is installed; else where the units of deploy/ look for it."""
    return shutil.which("trioduct", path=str(Path(sys.executable).parent)) or UNIT_COMMAND


def unit_text(name: str, folder: Path, credentials: Mapping[str, Path]) -> str:
    """The unit of deploy/, with the paths of here, and credentials in place of a file of variables."""
    paths = [str(folder), installed(), *map(str, credentials.values())]
    for path in paths:
        if not re.fullmatch(r"[\w./+@-]+", path):  # systemd, the shell and --config.expand-env have signs of their own
            raise ConfigError(f"--unit: {path!r}: expected a path of letters, digits and ./+@-_ for a unit")
    lines: list[str] = []
    for line in (HERE / f"trioduct-{name}.service").read_text().splitlines():
        if line.startswith("EnvironmentFile="):
            while lines[-1].startswith("#"):  # what is said about that file
                lines.pop()
            lines.append("# Secrets, of which only root may read the files: the service gets copies at its start.")
            lines += [f"LoadCredential={name}:{path}" for name, path in credentials.items()]
        else:
            lines.append(line.replace(UNIT_COMMAND, installed()).replace("/etc/trioduct/", f"{folder}/"))
    return "\n".join(lines) + "\n"


def render(template: str, **values: object) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # YAML, by the filter
    )
    environment.filters["yaml"] = lambda text: json.dumps(str(text), ensure_ascii=False)  # a double-quoted scalar
    return environment.get_template(template).render(**values)


def may_overwrite(path: Path, writing: WritingConfig) -> None:
    """Ask, unless it is not there. Raises ConfigError if nobody can be asked, and click.Abort for a no."""
    if not path.exists() or writing.force:
        return
    if writing.yes:
        raise ConfigError(f"{path} is there already; expected --force, or another --folder")
    click.confirm(f"{path} is there already. Overwrite it?", abort=True, err=True)


def write(
    texts: Mapping[Path, str],
    new_secrets: Mapping[Path, str],
    config: Path,
    root: type[ServerConfig] | type[AgentConfig],
    *,
    expand: bool,
) -> None:
    """Write all of it, or nothing if the configuration would be refused. Raises ConfigError and OSError."""
    with contextlib.ExitStack() as undo:
        for path, text in new_secrets.items():
            if path.exists() and read_secret_file(str(path), str(path)) == text.strip():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            undo.callback(path.unlink)
            with open(descriptor, "w") as file:
                file.write(text)
        drafts = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}") for path in texts}
        for path, draft in drafts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            undo.callback(draft.unlink, missing_ok=True)
            draft.write_text(texts[path])
        checked: Draft[ServerConfig] | Draft[AgentConfig] = Draft(root)  # type: ignore[assignment]
        try:
            checked.read_file(str(drafts[config]), expand_env=expand)
            checked.finish()
        except ConfigError as error:
            said = str(error).replace(str(drafts[config]), str(config))
            raise ConfigError(f"{said}; nothing was written") from None
        for path, draft in drafts.items():
            draft.replace(path)
        undo.pop_all()
