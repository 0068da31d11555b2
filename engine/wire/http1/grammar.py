"""The grammar of HTTP/1.1 heads as compiled patterns, and the limits that a head has to keep.

Why patterns. This is the hot path, and a parser in Python is as fast as the share of it that runs in C. So the grammar
of the RFC is written down once as possessive patterns, which cannot backtrack. One `fullmatch` over the head refuses
whatever is not grammar, one `findall` then splits lines that are known to be good, and Python code sees only the few
fields that decide something. Strictness costs nothing that way: a bare LF, a folded line, a space before the colon,
a control character or a field without a name never match. Only a head that has failed is looked at line by line, to
say what is wrong with it (`defect`).

There are two patterns for each kind of head. The *plain* one covers what clients and services usually send. The
*whole* one covers everything that is legal, also what is rare: underscores in names, white space behind values, empty
lines in front. A rare head costs a second match.
"""

from __future__ import annotations

import re

MAX_HEAD = 32 * 1024
MAX_FIELDS = 100
MAX_LINE = 8 * 1024
MAX_LEADING_LINES = 4  # RFC 9112, 2.2: old clients send CRLF behind a body; "at least one" must be tolerated

# RFC 9110, 5.6.2 and 5.5; RFC 9112, 3 and 5. The pattern of a value is all visible and obs-text octets, SP and HTAB.
# Since a field line ends at the first CR, "no CR, LF, NUL or other control character inside" needs no more.

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
VALUE = rb"[\t -~\x80-\xff]*+"
_PLAIN_NAME = rb"[!#$%&'*+\-.^`|~0-9A-Za-z]++"  # without "_", which is looked at more closely (read._refuse_twins)
_PLAIN_LINES = rb"((?:" + _PLAIN_NAME + rb":" + VALUE + rb"(?<![ \t])\r\n)*+)\r\n"
WHOLE_LINES = rb"((?:" + TOKEN + rb":" + VALUE + rb"\r\n)*+)\r\n"
REQUEST_LINE = rb"(" + TOKEN + rb") ([!-~]++) HTTP/1\.([01])\r\n"
# The SP behind the status code is part of the grammar, and many leave it out (RFC 9112, 4).
STATUS_LINE = rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + VALUE + rb"))?+\r\n"

plain_request = re.compile(REQUEST_LINE + _PLAIN_LINES).fullmatch
whole_request = re.compile(rb"(?:\r\n){0,%d}+" % MAX_LEADING_LINES + REQUEST_LINE + WHOLE_LINES).fullmatch
plain_response = re.compile(STATUS_LINE + _PLAIN_LINES.replace(_PLAIN_NAME, TOKEN)).fullmatch
whole_response = re.compile(STATUS_LINE + WHOLE_LINES).fullmatch
whole_lines = re.compile(WHOLE_LINES).fullmatch
split_lines = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n").findall

search_end = re.compile(rb"\r\n\r\n").search
search_control = re.compile(rb"[^\t\r\n -~\x80-\xff]").search
is_token = re.compile(TOKEN).fullmatch
is_value = re.compile(VALUE).fullmatch

# uri-host [":" port] (RFC 9110, 7.2), without the comma, which some take for a separator between two hosts.
_REGISTERED = rb"(?:[0-9A-Za-z\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})++"
_HOST = rb"(?:\[[0-9A-Fa-f:.]++\]|" + _REGISTERED + rb")(?::[0-9]{0,5}+)?+"
is_host = re.compile(_HOST).fullmatch
absolute_target = re.compile(rb"(?i:https?)://([^/?#]*+)((?:[/?][!-~]*+)?+)").fullmatch

# Lists (RFC 9110, 5.6.1.2): empty elements are legal and mean nothing.
_LIST = rb"[ \t]*+(?:%b[ \t]*+)?+(?:,[ \t]*+(?:%b[ \t]*+)?+)*+"
_PROTOCOL = TOKEN + rb"(?:/" + TOKEN + rb")?+"
is_token_list = re.compile(_LIST % (TOKEN, TOKEN)).fullmatch
is_protocol_list = re.compile(_LIST % (_PROTOCOL, _PROTOCOL)).fullmatch
list_elements = re.compile(rb"[^ \t,]++").findall
