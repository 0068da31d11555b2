"""The table of docs/security.md: each attack, what is right to answer, and the tests that send it.

python -m tests.security.lines      writes the table into the document
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.security.refused import BODIES, HEADS, SUBJECTS, Refused

DOCUMENT = Path(__file__).parents[2] / "docs/security.md"
BEGIN, END = "<!-- attacks: begin -->\n", "<!-- attacks: end -->"
DOUBT = "security/test_requests.py::test_doubt_is_refused_and_nothing_behind_it_is_read"
BROKEN = "security/test_requests.py::test_a_bad_body_breaks_its_request_off"
FORGED = "security/test_tokens.py::test_a_forged_token_is_a_401_and_the_service_sees_nothing"


class Line(NamedTuple):
    """`tests` are below tests/."""

    number: int
    sent: str
    answer: str
    tests: tuple[str, ...]


OTHERS = [
    Line(
        8,
        "trailers that frame, route or let in (Content-Length, Host, Authorization, X-Forwarded-For, …)",
        "dropped; others are passed on as trailers",
        ("security/test_requests.py::test_a_trailer_that_frames_routes_or_lets_in_is_dropped",),
    ),
    Line(
        14,
        "an absolute target with another host than Host",
        "it routes, and is the Host that the service reads",
        ("security/test_requests.py::test_an_absolute_target_routes_and_is_the_host_that_the_service_reads",),
    ),
    Line(
        18,
        "Connection: Host, Content-Length, Authorization, x-piko-endpoint, …, also with an upgrade",
        "the service has them all the same",
        ("security/test_requests.py::test_what_is_for_the_service_cannot_be_nominated_away",),
    ),
    Line(
        19,
        "X-Forwarded-For and kin, Forwarded, X-Real-IP, True-Client-IP, X-Original-URL, … of strangers",
        "dropped, and written anew; of `proxy.trusted_proxies`, passed on",
        (
            "node/test_trust.py::test_no_claim_of_a_stranger_reaches_the_service",
            "node/test_trust.py::test_what_a_trusted_proxy_says_is_passed_on_and_its_own_address_added",
        ),
    ),
    Line(
        20,
        "x-piko-forward, -endpoint, -tenant-id, -authorization; links of nodes without the cluster's secret",
        "never reach the service; 400, 421 or 508 (a loop), or hung up on without proof",
        (
            "node/test_endpoint.py::test_what_is_said_to_the_node_never_reaches_the_service",
            "node/test_peers.py::test_who_is_no_peer_is_told_so",
            "node/test_peers.py::test_a_proof_that_was_overheard_proves_nothing",
        ),
    ),
    Line(
        21,
        "a request behind each of lines 1 to 17; bytes of a service behind its answer",
        "never read as a request; the connection to the service is not used again",
        (DOUBT, "node/test_http.py::test_what_a_service_says_behind_its_answer_is_nobodys"),
    ),
    Line(
        22,
        "two requests as the body of one that is answered early",
        "closed behind the answer",
        ("node/test_http.py::test_what_is_behind_an_early_answer_is_no_request",),
    ),
    Line(
        23,
        "Upgrade that Connection does not name; h2c; a 101 that nobody asked for",
        "not passed on; not passed on; 502",
        (
            "security/test_requests.py::test_an_upgrade_that_the_connection_field_does_not_name_is_none",
            "node/test_upgrade.py::test_nobody_gets_past_our_rules_by_switching_to_another_http",
            "node/test_upgrade.py::test_a_switch_that_nobody_asked_for_is_a_502",
        ),
    ),
    Line(
        24,
        "a head a byte at a time; a body of a byte each three seconds; a client that does not read",
        "408 after 10 s; 408 after 30 s; closed after `proxy.http.write_timeout`",
        (
            "security/test_requests.py::test_a_head_a_byte_at_a_time_has_ten_seconds_in_all",
            "security/test_requests.py::test_a_body_of_less_than_240_bytes_a_second_is_broken_off_after_thirty",
            "node/test_limits.py::test_who_asks_and_does_not_read_is_given_up_and_has_cost_a_window",
        ),
    ),
    Line(
        25,
        "more silent connections than there are descriptors",
        "the oldest idle one is closed, new ones are served",
        ("node/test_limits.py::test_a_crowd_of_silent_clients_keeps_nobody_out",),
    ),
    Line(
        26,
        "answers with CR, LF or NUL in a value, folded fields, two lengths, … from the service",
        "502, nothing of it is passed on",
        ("security/test_answers.py::test_an_answer_that_leaves_a_doubt_is_a_502",),
    ),
    Line(
        27,
        "more than 64 answers of 1xx, or more than 64 KiB of them, from the service",
        "502",
        ("node/test_bounds.py::test_answers_before_the_answer_are_bounded_in_number_and_bytes",),
    ),
    Line(
        28,
        "10 MB in 10 KB of gzip; permessage-deflate",
        "passed on as it is; not agreed to",
        (
            "security/test_answers.py::test_what_is_compressed_is_passed_on_as_it_is",
            "security/test_sessions.py::test_no_extension_and_no_subprotocol_is_agreed_to",
        ),
    ),
    Line(
        29,
        "frames of an agent: unmasked, reserved bits and opcodes, control frames in fragments or over 125 bytes, "
        "a close whose reason is no UTF-8, text",
        "1002; 1007; 1003",
        ("security/test_sessions.py::test_a_frame_that_websocket_forbids_ends_the_session_with_its_code",),
    ),
    Line(
        30,
        "frames of 2^63-1 bytes, and of more than 1 MiB",
        "1009, at the header",
        ("security/test_sessions.py::test_a_frame_that_websocket_forbids_ends_the_session_with_its_code",),
    ),
    Line(
        31,
        "pings of WebSocket and of yamux by who does not read",
        "given up, with what was kept for it",
        (
            "node/test_tcp.py::test_who_pings_and_does_not_read_is_given_up",
            "security/test_sessions.py::test_an_agent_that_pings_and_does_not_read_ends_and_nobody_else_notices",
        ),
    ),
    Line(
        32,
        "a handshake without a key, of another version, for h2c, with Origin; 8 KiB of subprotocols",
        "400, 426, 400, 403; none of them is agreed to",
        (
            "node/test_agent_port.py::test_who_does_not_ask_properly_is_told_and_hung_up_on",
            "node/test_tcp.py::test_only_a_websocket_gets_through",
            "security/test_sessions.py::test_no_extension_and_no_subprotocol_is_agreed_to",
        ),
    ),
    Line(
        33,
        "a page in a browser, on the upstream, TCP and admin ports",
        "403",
        (
            "node/test_agent_port.py::test_who_does_not_ask_properly_is_told_and_hung_up_on",
            "node/test_tcp.py::test_a_web_page_opens_a_tcp_endpoint_only_if_its_origin_is_allowed",
            "admin/test_app.py::test_pages_of_other_sites_are_refused",
        ),
    ),
    Line(
        34,
        "yamux of an agent: version 1, unknown types, stream 0, SYN, streams that never were",
        "go-away 1, and the end of the session",
        ("security/test_sessions.py::test_what_yamux_forbids_ends_the_session_with_a_go_away",),
    ),
    Line(
        35,
        "data over the window; a window over 2^32",
        "go-away 1, at the header",
        ("security/test_sessions.py::test_what_yamux_forbids_ends_the_session_with_a_go_away",),
    ),
    Line(
        36,
        "an agent that resets 1 000 streams within 10 s; clients that open and reset; 300 requests that nobody accepts",
        "go-away 1; the client's address is blocked for 10 s; 256 are pending, the others wait",
        (
            "security/test_sessions.py::test_an_agent_that_resets_a_thousand_streams_in_ten_seconds_is_sent_away",
            "node/test_tcp_port.py::test_who_opens_and_resets_again_and_again_is_not_let_in_for_a_while",
            "node/test_limits.py::test_more_requests_than_a_session_may_have_pending_are_all_served",
        ),
    ),
    Line(
        37,
        "windows that nobody reads, of a client and of a service",
        "held back, each within its window and its account",
        (
            "node/test_limits.py::test_who_sends_a_body_that_nobody_reads_is_held_back",
            "node/test_limits.py::test_who_asks_again_and_again_and_does_not_read_is_not_heard_any_more",
        ),
    ),
    Line(
        38,
        "an agent that reads nothing and answers nothing",
        "its session ends after 10 s, its requests with it",
        ("node/test_agent_port.py::test_an_agent_that_answers_no_ping_is_given_up",),
    ),
    Line(39, "alg none in any spelling, no alg", "401", (FORGED,)),
    Line(
        40,
        "HS256 with the public key, ES256 and PS256 for a key of RS256; `use` and `key_ops`",
        "401",
        (FORGED, "auth/test_wycheproof.py::test_a_bad_key_or_set_takes_no_token_and_a_good_one_does"),
    ),
    Line(
        41,
        "kid as a path, as SQL, of 10 KiB, as a URL; jku, x5u, jwk, x5c",
        "401, and nobody is called",
        (FORGED, "security/test_tokens.py::test_what_a_header_says_of_its_key_leads_nowhere"),
    ),
    Line(
        42,
        "a key set that redirects elsewhere, is too large, does not answer, or is gone; unknown kids",
        "the keys stay as they are; fetched again every 30 s at the most",
        (
            "auth/test_key_set.py::test_a_redirect_is_followed_on_the_same_host_only",
            "auth/test_key_set.py::test_a_fetch_that_fails_changes_nothing_and_is_tried_again",
            "auth/test_key_set.py::test_an_issuer_that_does_not_answer_is_given_up",
            "auth/test_key_set.py::test_unknown_keys_bring_a_newer_set_every_thirty_seconds_at_most",
            "node/test_tokens.py::test_an_agent_with_a_key_that_nobody_knows_is_told_so_while_its_issuer_says_nothing",
        ),
    ),
    Line(
        43,
        "times that are none, members twice, crit, over 16 KiB, other aud and iss",
        "401",
        (
            FORGED,
            "auth/test_verifier.py::test_a_token_is_good_until_it_expires_to_the_second_also_when_it_is_remembered",
        ),
    ),
    Line(
        44,
        "a token that expires or is revoked while it is in use",
        "sessions, requests and connections end with it",
        (
            "node/test_tokens.py::test_a_session_ends_with_its_token",
            "node/test_revoked.py::test_the_session_of_a_revoked_token_ends_and_its_streams_with_it",
            "node/test_revoked.py::test_what_a_client_has_under_way_ends_with_its_token",
        ),
    ),
    Line(
        45,
        "signatures of which the first, a middle or the last byte is wrong",
        "401; all of it is compared, in constant time",
        ("security/test_tokens.py::test_signatures_are_compared_in_constant_time",),
    ),
    Line(
        46,
        "two credentials that disagree",
        "x-piko-authorization counts, and never reaches the service; two Authorization are a 401",
        (
            "node/test_tokens.py::test_who_may_not_is_told_why_in_the_same_words_on_both_ports",
            "node/test_tokens.py::test_a_token_never_reaches_the_service",
            "node/test_tokens.py::test_a_token_that_comes_in_both_fields_in_two_spellings_never_reaches_the_service",
        ),
    ),
    Line(
        47,
        "a taken endpoint, its name in another case or IDNA spelling, or one that can be misread; another tenant's",
        "403, 400; 401",
        (
            "node/test_owners.py::test_a_taken_endpoint_is_refused_to_another_principal_and_so_is_a_name_like_it",
            "node/test_owners.py::test_a_name_that_can_be_misread_is_refused",
            "node/test_tenants.py::test_an_agents_token_is_verified_by_its_tenants_keys",
            "node/test_tenants.py::test_with_tokens_the_token_says_it_and_who_names_another_is_refused",
        ),
    ),
    Line(
        48,
        "entries of the store that are forged or moved, and addresses outside `cluster.allowed_networks`",
        "not believed, not dialled",
        (
            "cluster/test_store.py::test_what_is_not_signed_by_a_node_is_not_believed",
            "node/test_peers.py::test_a_node_with_another_secret_gets_nothing",
        ),
    ),
    Line(
        49,
        "requests that name another place (target, Host, X-Forwarded-Host), and answers that redirect there",
        "the agent reaches its own service alone",
        ("security/test_ways.py::test_an_agent_reaches_its_own_service_whatever_is_asked_for",),
    ),
    Line(
        50,
        "the admin port: other hosts (DNS rebinding), pages, no token, ten thousand tenants",
        "403; 403; 401; a thousand labels",
        (
            "admin/test_app.py::test_this_machine_answers_only_to_its_own_names",
            "admin/test_app.py::test_a_request_from_elsewhere_may_use_any_address_and_no_strange_name",
            "admin/test_app.py::test_with_a_verifier_every_route_wants_a_token",
            "admin/test_metrics.py::test_ten_thousand_endpoints_are_a_thousand_labels_and_the_others",
        ),
    ),
    Line(
        51,
        "secrets in requests, answers and configurations",
        "are written nowhere",
        (
            "node/test_canary.py::test_a_secret_is_written_nowhere",
            "system/test_canary.py::test_no_secret_of_a_configuration_is_written_anywhere",
        ),
    ),
    Line(
        52,
        "TLS 1.0 and 1.1, renegotiation, certificates of others, of another name, none; "
        "more connections, requests, bytes and sessions than allowed",
        "refused; 429 or closed, and others are served",
        (
            "security/test_ways.py::test_tls_below_1_2_is_refused_on_each_port",
            "security/test_ways.py::test_nobody_renegotiates",
            "node/test_tls.py::test_a_port_that_wants_a_certificate_lets_nobody_in_without",
            "node/test_tls.py::test_a_node_is_believed_only_with_a_good_certificate_of_its_own_name",
            "node/test_rates.py::test_a_client_has_so_many_connections_at_once",
            "node/test_rates.py::test_requests_beyond_the_rate_get_429_and_are_told_when_to_come_again",
            "node/test_rates.py::test_a_principal_that_registers_too_much_is_told_and_another_one_is_not",
        ),
    ),
]


def lines() -> list[Line]:
    """Those of requests that are refused as they are sent, and the others, in order."""
    refused: dict[int, list[Refused]] = {}
    for each in HEADS + BODIES:
        refused.setdefault(each.line, []).append(each)
    bodies = {each.line for each in BODIES}
    as_sent = [
        Line(number, told(cases), statuses(cases), (DOUBT, BROKEN) if number in bodies else (DOUBT,))
        for number, cases in refused.items()
    ]
    return sorted(as_sent + OTHERS, key=lambda line: line.number)


def told(cases: list[Refused]) -> str:
    return f"**{SUBJECTS[cases[0].line]}**: " + "; ".join(escaped(case.name) for case in cases)


def statuses(cases: list[Refused]) -> str:
    return ", ".join(f"{status}" for status in sorted({case.status for case in cases})) + ", closed"


def table() -> str:
    return "".join(rows())


def rows() -> Iterator[str]:
    yield "| | what is sent | answer | tests, below `tests/` |\n|--:|---|---|---|\n"
    for line in lines():
        # A reader who wants to run one copies it.
        tests = "<br>".join(f"`{test}`" for test in line.tests)
        yield f"| {line.number} | {line.sent} | {line.answer} | {tests} |\n"


def escaped(text: str) -> str:
    return re.sub(r"([\\*_|<>])", r"\\\1", text)


def in_document(text: str) -> str:
    """The table as it stands in a document."""
    return text.partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(text.replace(BEGIN + in_document(text), BEGIN + table()))
