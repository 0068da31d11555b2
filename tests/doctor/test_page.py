"""docs/proxies.md and the README: each recipe leads through a proxy of its kind, by the doctor's own verdict."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import trustme
import yaml

from tests.conftest import Pki
from tests.programs import TRIODUCT, Programs, free_port
from tests.proxy_adapters.beds.proxies import PASSWORD, USER, Kerberos, Squid
from tests.roles import Roles, says, server_config

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/proxies.md").read_text()
README = (PROJECT / "README.md").read_text().partition("### Behind a forward proxy\n")[2].partition("\n### ")[0]


def recipes(heading: str) -> list[str]:
    """The YAML blocks below a heading."""
    section = PAGE.partition(f"\n### {heading}\n")[2].partition("\n##")[0]
    found = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found


def short_recipe(word: str) -> str:
    """The recipe of the README whose first line has that word; five of them, in six lines each at the most."""
    found = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert len(found) == 5
    assert max(recipe.count("\n") for recipe in found) <= 6
    (recipe,) = [recipe for recipe in found if word in recipe.partition("\n")[0]]
    return f"{recipe}  url: https://tunnel.example.com:8001\n"


class Kitchen:
    """Runs the doctor with a recipe, in which the names of the page are those of this machine."""

    def __init__(self, programs: Programs, node: int, folder: Path, pki: Pki) -> None:
        self._programs, self._node, self._folder, self._pki = programs, node, folder, pki
        self.secret("proxy-password", PASSWORD)
        self.secret("proxy-token", "t0ken")
        (folder / "corp-ca.pem").write_bytes(pki.ca.read_bytes())

    def secret(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text + "\n")
        (self._folder / name).chmod(0o600)

    async def cook(
        self, recipe: str, places: dict[str, int], env: dict[str, str] | None = None, *, host: str = "localhost"
    ) -> dict[str, object]:
        """The verdict, as --json has it. `places` are host:port of the page, with the port of this machine."""
        for place, port in places.items():
            recipe = recipe.replace(place, f"localhost:{port}")
        recipe = recipe.replace("/etc/trioduct/", f"{self._folder}/").replace("/var/lib/trioduct/", f"{self._folder}/")
        recipe = recipe.replace("https://tunnel.example.com:8001", f"https://{host}:{self._node}")
        recipe = recipe.replace("CORP\\alice", "CORP\\" + USER)
        assert ".example" not in recipe, "a name of the page is left"
        told = yaml.safe_load(recipe)
        told["connect"].setdefault("tls", {"root_cas": str(self._pki.ca), "server_name": "localhost"})
        file = self._folder / "agent.yaml"
        file.write_text(yaml.safe_dump(told))
        doctor = await self._programs.start(TRIODUCT, "doctor", "shop", "--json", "--config.path", file, env=env)
        await doctor.wait_end()
        answer = json.loads(doctor.text)
        assert isinstance(answer, dict)
        return answer


@pytest.fixture
async def kitchen(roles: Roles, programs: Programs, pki: Pki, tmp_path: Path) -> Kitchen:
    config = server_config()
    config.upstream.tls.cert, config.upstream.tls.key = str(pki.cert), str(pki.key)
    return Kitchen(programs, (await roles.node(config)).upstream, tmp_path, pki)


PROXY = "proxy.corp.example:3128"


async def pproxy(programs: Programs, kind: str) -> int:
    port = free_port()
    await programs.start(sys.executable, "-m", "pproxy", "-l", f"{kind}://127.0.0.1:{port}", port=port)
    return port


async def test_a_user_and_a_password_towards_ntlm(kitchen: Kitchen, squid_ntlm: Squid, no_realm: None) -> None:
    for recipe in recipes("A user and a password: NTLM, Digest, Basic"):
        told = await kitchen.cook(recipe, {PROXY: squid_ntlm.port})
        assert told["outcome"] == "works", told
        assert "ntlm: accepted as CORP" in json.dumps(told)


async def test_a_user_and_a_password_towards_digest_and_basic(
    kitchen: Kitchen, squid_digest: Squid, squid_basic: Squid, no_realm: None
) -> None:
    for recipe in recipes("A user and a password: NTLM, Digest, Basic")[:1]:
        for squid in (squid_digest, squid_basic):
            assert (await kitchen.cook(recipe.replace("CORP\\", ""), {PROXY: squid.port}))["outcome"] == "works"


async def test_kerberos(kitchen: Kitchen, squid_kerberos: Squid, member: Kerberos) -> None:
    with_ticket, with_keytab = recipes("Kerberos")
    with_keytab = with_keytab.replace("/etc/trioduct/alice.keytab", str(member.client_keytab))
    assert (await kitchen.cook(with_keytab, {PROXY: squid_kerberos.port}, member.env))["outcome"] == "works"
    member.forget()
    assert (await kitchen.cook(with_ticket, {PROXY: squid_kerberos.port}, member.env))["exit_code"] != 0
    member.kinit()
    assert (await kitchen.cook(with_ticket, {PROXY: squid_kerberos.port}, member.env))["outcome"] == "works"


async def test_a_pac_file(kitchen: Kitchen, squid_open: Squid, tmp_path: Path) -> None:
    ways = f"PROXY localhost:{free_port()}; PROXY localhost:{squid_open.port}"
    (tmp_path / "wpad.pac").write_text(f'function FindProxyForURL(url, host) {{ return "{ways}" }}')
    (recipe,) = recipes("A PAC file")
    recipe = recipe.replace("http://wpad.corp.example/proxy.pac", str(tmp_path / "wpad.pac"))
    # A name that only this squid knows; about this machine's own names no script is asked.
    told = await kitchen.cook(recipe, {}, host="target.test")
    assert told["outcome"] == "works", told
    assert f"http://localhost:{squid_open.port}" in str(told["text"])


async def test_several_proxies(kitchen: Kitchen, programs: Programs) -> None:
    (recipe,) = recipes("Several proxies")
    places = {"proxy-a.corp.example:3128": free_port(), "proxy-b.corp.example:3128": await pproxy(programs, "http")}
    told = await kitchen.cook(recipe, places)
    assert told["outcome"] == "works"
    assert "so the next one" in json.dumps(told)


async def test_a_chain(kitchen: Kitchen, programs: Programs) -> None:
    (recipe,) = recipes("A chain")
    places = {"jump.corp.example:1080": await pproxy(programs, "socks5"), PROXY: await pproxy(programs, "http")}
    assert (await kitchen.cook(recipe, places))["outcome"] == "works"


async def test_tls_to_the_proxy(kitchen: Kitchen, squid_tls: Squid, no_realm: None) -> None:
    (recipe,) = recipes("TLS to the proxy")
    told = await kitchen.cook(recipe, {"proxy.corp.example:3129": squid_tls.port})
    assert told["outcome"] == "works", told


async def test_tls_inspection(kitchen: Kitchen, squid_inspecting: Squid, inspector: trustme.CA, tmp_path: Path) -> None:
    inspector.cert_pem.write_to_path(tmp_path / "corp-ca.pem")
    (recipe,) = recipes("TLS inspection")
    told = await kitchen.cook(recipe, {PROXY: squid_inspecting.port})
    steps = told["steps"]
    assert isinstance(steps, list)
    assert [step["state"] for step in steps if step["name"] == "tls"] == ["ok"]
    assert "arrives without its `Upgrade" in json.dumps(told)


async def test_a_token(kitchen: Kitchen, programs: Programs) -> None:
    (recipe,) = recipes("A token, or a program that knows")
    assert (await kitchen.cook(recipe, {PROXY: await pproxy(programs, "http")}))["outcome"] == "works"


async def test_the_page_names_all_that_a_program_is_told(kitchen: Kitchen, programs: Programs) -> None:
    (recipe,) = recipes("A token, or a program that knows")
    told = await kitchen.cook(recipe, {PROXY: await pproxy(programs, "http")})
    table = PAGE.partition("### JSON")[2].partition("\n## ")[0]
    assert set(told) == set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))


async def test_the_doctors_own_lines_are_lines_that_it_takes(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("connect: {url: 'http://127.0.0.1:1'}\n")
    lines = re.findall(r"^trioduct (doctor [^#\n]*)", PAGE, re.MULTILINE)
    assert len(lines) == 6
    for line in lines:
        words = line.replace("agent.yaml", str(tmp_path / "agent.yaml")).split()
        shown = await programs.start(TRIODUCT, *words, "--config.check")
        assert await shown.wait_end() == 0, shown.text


# The README's, shorter ------------------------------------------------------------------------------------------

SHORT_PROXY = "proxy.example.com:3128"


async def test_ntlm_in_five_lines(kitchen: Kitchen, squid_ntlm: Squid, squid_all_four: Squid, no_realm: None) -> None:
    for squid in (squid_ntlm, squid_all_four):
        told = await kitchen.cook(short_recipe("NTLM"), {SHORT_PROXY: squid.port})
        assert told["outcome"] == "works", told
        assert "ntlm: accepted as CORP" in json.dumps(told)


async def test_kerberos_with_a_keytab(kitchen: Kitchen, squid_kerberos: Squid, member: Kerberos) -> None:
    recipe = short_recipe("Kerberos").replace("/etc/trioduct/alice.keytab", str(member.client_keytab))
    told = await kitchen.cook(recipe, {SHORT_PROXY: squid_kerberos.port}, member.env)
    assert told["outcome"] == "works", told
    assert "negotiate: accepted" in json.dumps(told)


async def test_a_pac_file_by_its_url(kitchen: Kitchen, squid_open: Squid, roles: Roles, tmp_path: Path) -> None:
    script = f'function FindProxyForURL(url, host) {{ return "PROXY localhost:{squid_open.port}" }}'
    wpad = await roles.service(says(script.encode()))
    recipe = short_recipe("PAC").replace("wpad.example.com", f"localhost:{wpad}")
    told = await kitchen.cook(recipe, {}, host="target.test")
    assert told["outcome"] == "works", told
    assert f"http://localhost:{squid_open.port}" in str(told["text"])
    assert (tmp_path / "proxy.pac").read_text() == script


async def test_a_chain_in_four_lines(kitchen: Kitchen, programs: Programs) -> None:
    places = {"jump.example.com:1080": await pproxy(programs, "socks5"), SHORT_PROXY: await pproxy(programs, "http")}
    told = await kitchen.cook(short_recipe("chain"), places)
    assert told["outcome"] == "works", told


async def test_a_proxy_that_inspects(
    kitchen: Kitchen, squid_inspecting: Squid, inspector: trustme.CA, tmp_path: Path
) -> None:
    told = await kitchen.cook(short_recipe("inspects"), {SHORT_PROXY: squid_inspecting.port})
    assert "is not trusted" in str(told["text"])
    inspector.cert_pem.write_to_path(tmp_path / "corp-ca.pem")
    told = await kitchen.cook(short_recipe("inspects"), {SHORT_PROXY: squid_inspecting.port})
    assert told["leg"] == "upgrade", told  # TLS is believed


async def test_the_flags_and_variables_of_the_readme_and_the_example(
    kitchen: Kitchen, programs: Programs, tmp_path: Path
) -> None:
    proxy = await pproxy(programs, "http")
    config = (PROJECT / "examples/agent-behind-proxy.yaml").read_text()
    config = config.partition("listeners:")[0].replace("${TRIODUCT_CONNECT_TOKEN}", "''")
    places = {"proxy-a.example.com:3128": free_port(), "proxy-b.example.com:3128": proxy}
    config = config.replace("[.corp.example.com, 10.0.0.0/8]", "[10.0.0.0/8]")
    told = await kitchen.cook(config, places, {"TRIODUCT_PROXY_PASSWORD": PASSWORD})
    assert told["outcome"] == "works", told

    by_flag, by_variable = [line for line in README.splitlines() if "trioduct agent http" in line]
    assert "--connect.proxy-url http://user:password@proxy.example.com:3128" in by_flag
    assert by_variable.startswith("HTTPS_PROXY=socks5://proxy.example.com:1080 ")
    socks = await pproxy(programs, "socks5")
    told = await kitchen.cook(
        "connect: {url: 'https://tunnel.example.com:8001'}\n", {}, {"HTTPS_PROXY": f"socks5://localhost:{socks}"}
    )
    assert told["outcome"] == "works", told
    assert f"socks5://localhost:{socks}" in str(told["text"])
