"""examples/way_out.py, run as a user runs it, through real proxies."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.programs import Program, Programs, free_port
from tests.proxy_adapters.beds.proxies import PASSWORD, USER, Squid

EXAMPLE = Path(__file__).parents[3] / "examples/way_out.py"


async def run(programs: Programs, *words: str, code: int = 0) -> Program:
    env = {"PROXY_PASSWORD": PASSWORD}
    started = await programs.start(sys.executable, EXAMPLE, *words, env=env)
    assert await started.wait_end() == code, started.text
    return started


async def test_the_first_of_several_proxies_that_works_is_taken(
    programs: Programs, squid_digest: Squid, web: int, no_realm: None
) -> None:
    url, dead = f"http://127.0.0.1:{web}/", f"http://127.0.0.1:{free_port()}"
    done = await run(programs, url, dead, squid_digest.url, "--user", USER)
    assert "hello" in done.text
    assert "digest-md5: accepted" in done.text
    assert PASSWORD not in done.text


async def test_a_pac_file_names_the_proxy(programs: Programs, squid_open: Squid, web: int, tmp_path: Path) -> None:
    script = tmp_path / "proxy.pac"
    script.write_text(f'function FindProxyForURL(url, host) {{ return "PROXY 127.0.0.1:{squid_open.port}" }}')
    # A name that only this squid knows; about this machine's own names no script is asked.
    done = await run(programs, f"http://target.test:{web}/", "--pac", str(script))
    assert "hello" in done.text
    assert f"a tunnel to target.test:{web}" in done.text


async def test_what_failed_is_told_with_who_can_act(
    programs: Programs, squid_basic: Squid, web: int, no_realm: None
) -> None:
    done = await run(programs, f"http://127.0.0.1:{web}/", squid_basic.url, "--user", USER, code=1)
    assert "allow one of: basic" in done.text
    assert "who can act: you" in done.text
    done = await run(programs, f"http://127.0.0.1:{web}/", squid_basic.url, "--user", USER, "--basic")
    assert "hello" in done.text
