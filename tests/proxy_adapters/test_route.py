"""Which way, and who decided."""

from __future__ import annotations

import pydoc

import pytest
import trio
import trio.testing

from proxy_adapters.auth.login import Login
from proxy_adapters.errors import HopUnreachable, TunnelRefused
from proxy_adapters.open import open_tunnel
from proxy_adapters.route import Hop, Route, environment_route
from proxy_adapters.router import BAD_SECONDS, Router
from proxy_adapters.secret import Secret
from proxy_adapters.url import ProxyURL


def chosen(environ: dict[str, str], scheme: str = "https", host: str = "foo.test") -> tuple[str, str] | None:
    route = environment_route(host, 443, scheme=scheme, environ=environ)
    return None if route is None else (str(route), route.source)


def test_lower_case_comes_before_upper_case() -> None:
    environ = {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}
    assert chosen(environ) == ("http://lower:1", "environment: https_proxy")
    assert chosen({"HTTPS_PROXY": "http://upper:1"}) == ("http://upper:1", "environment: HTTPS_PROXY")


@pytest.mark.parametrize(
    ("scheme", "order"),
    [
        ("wss", ["wss_proxy", "socks_proxy", "https_proxy", "all_proxy"]),
        ("https", ["https_proxy", "all_proxy"]),
        ("ws", ["ws_proxy", "socks_proxy", "http_proxy", "all_proxy"]),
        ("http", ["http_proxy", "all_proxy"]),
    ],
)
def test_each_scheme_asks_its_variables_in_order(scheme: str, order: list[str]) -> None:
    environ = {name: f"http://{name.replace('_', '-')}:1" for name in order}
    environ["ftp_proxy"] = "http://ftp:1"
    while order:
        assert chosen(environ, scheme) == (
            f"http://{order[0].replace('_', '-')}:1",
            f"environment: {order[0]}",
        )
        del environ[order.pop(0)]
    assert chosen(environ, scheme) is None


def test_http_proxy_in_capitals_is_not_believed_inside_cgi() -> None:
    environ = {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}
    assert chosen(environ, "http") is None
    assert chosen(environ | {"http_proxy": "http://good:1"}, "http") == (
        "http://good:1",
        "environment: http_proxy",
    )


def test_no_proxy_goes_straight_and_says_which_entry_did_it() -> None:
    environ = {"https_proxy": "http://p:1", "NO_PROXY": "a.test, foo.test"}
    assert chosen(environ) == ("direct", "environment: no_proxy entry 'foo.test'")


def test_a_wrong_variable_is_named_without_its_secret() -> None:
    with pytest.raises(ValueError, match="variable https_proxy: name the port") as caught:
        chosen({"https_proxy": "http://alice:s3cret@p"})
    assert "s3cret" not in str(caught.value)


def test_a_chain_is_written_with_arrows_and_shown_without_secrets() -> None:
    route = Route.parse("socks5h://alice:s3cret@a:1080 -> http://b:3128")
    assert str(route) == "socks5h://a:1080 -> http://b:3128"
    assert "s3cret" not in repr(route)
    assert Route.parse("DIRECT").direct


def test_a_header_that_could_smuggle_another_is_refused() -> None:
    with pytest.raises(ValueError, match="control characters"):
        Hop(ProxyURL.parse("http://p:1"), headers=(("X-Team", "a\r\nProxy-Authorization: b"),))


async def test_explicit_comes_before_the_environment_and_nothing_means_straight() -> None:
    environ = {"https_proxy": "http://env:1"}
    assert [str(r) for r in await Router(["http://mine:1"], environ=environ).routes_to("h", 1)] == ["http://mine:1"]
    assert [str(r) for r in await Router(environ=environ).routes_to("h", 1)] == ["http://env:1"]
    assert [r.source for r in await Router(environ=None).routes_to("h", 1)] == ["direct"]
    assert (await Router(["http://mine:1"], no_proxy="h").routes_to("h", 1))[0].direct


async def test_defaults_fill_what_a_hop_leaves_open_but_do_not_replace_its_own_user() -> None:
    login = Login(user="default", schemes=("negotiate", "basic"))
    default = Hop(ProxyURL.parse("http://ignored:1"), login=login, headers=(("X-Team", "a"),))
    router = Router(["http://mine:1 -> http://bob:pw@b:2"], default=default, environ=None)
    (route,) = await router.routes_to("h", 1)
    assert route.hops[0].login == login
    own = route.hops[1].login
    assert own is not None
    assert own.password is not None
    assert (own.user, own.password.read()) == ("bob", "pw")
    assert own.schemes == login.schemes, "what is allowed holds for it as well"
    assert [hop.headers for hop in route.hops] == [(("X-Team", "a"),)] * 2


async def test_a_user_in_the_url_takes_the_password_from_the_defaults() -> None:
    password = Secret.literal("s3cret")
    default = Hop(ProxyURL.parse("http://ignored:1"), login=Login(user="default", password=password))
    (route,) = await Router(["http://bob@b:2"], default=default, environ=None).routes_to("h", 1)
    assert route.hops[0].login == Login(user="bob", password=password)


async def test_the_login_goes_to_no_other_proxies_than_those_named() -> None:
    default = Hop(ProxyURL.parse("http://ignored:1"), login=Login(user="alice"))
    router = Router(["http://good:1 -> http://evil:1"], default=default, login_hosts=["GOOD."], environ=None)
    (route,) = await router.routes_to("h", 1)
    assert [hop.login is not None for hop in route.hops] == [True, False]


def placed(error: HopUnreachable | TunnelRefused, position: int) -> HopUnreachable | TunnelRefused:
    error.position, error.hop = position, "somewhere"
    return error


async def test_a_bad_proxy_goes_to_the_end_for_five_minutes(autojump_clock: trio.testing.MockClock) -> None:
    router = Router(["http://a:1", "http://b:1", "direct"], environ=None)

    async def order() -> list[str]:
        return [str(route) for route in await router.routes_to("h", 1)]

    first = (await router.routes_to("h", 1))[0]
    assert router.went(first, placed(HopUnreachable("gone"), 1))
    assert await order() == ["http://b:1", "direct", "http://a:1"]
    await trio.sleep(BAD_SECONDS + 1)
    assert await order() == ["http://a:1", "http://b:1", "direct"]
    router.went(first, placed(HopUnreachable("gone"), 1))
    router.went(first, None)
    assert await order() == ["http://a:1", "http://b:1", "direct"]


async def test_a_refusal_is_final_unless_told_otherwise() -> None:
    refusal = placed(TunnelRefused("no"), 1)
    beyond = placed(HopUnreachable("the destination is gone"), 2)
    for on_refusal, goes_on in (("stop", False), ("next", True)):
        router = Router(["http://a:1", "http://b:1"], environ=None, on_refusal=on_refusal)
        first = (await router.routes_to("h", 1))[0]
        assert router.went(first, refusal) is goes_on
        assert router.went(first, beyond) is goes_on
        assert str((await router.routes_to("h", 1))[0]) == "http://a:1"


def test_help_shows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:5ecret@proxy:1")
    assert "5ecret" not in pydoc.render_doc(Router)
    assert "5ecret" not in repr(Router())


async def test_the_environment_is_that_of_the_process_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    for environ, way in ((None, "direct"), ({"HTTPS_PROXY": "http://other:1"}, "http://other:1")):
        (route,) = await Router(environ=environ).routes_to("foo.test", 443)
        assert str(route) == way
    (route,) = await Router().routes_to("foo.test", 443)
    assert str(route) == "http://proxy:1"


async def test_a_route_of_another_kind_is_refused_without_its_text() -> None:
    with pytest.raises(TypeError, match=r"^route is a Router, a Route, a ProxyURL or text, not list$"):
        await open_tunnel("foo.test", 443, route=["http://me:5ecret@proxy:1"])  # type: ignore[arg-type]
