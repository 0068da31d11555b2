"""The grammar of HTTP/1.1 heads as compiled patterns, and the limits that a head has to keep.

Why patterns. This is the hot path, and a parser in Python is as fast as the share of it that runs in C. So the grammar
of the RFC is written down once as possessive patterns, which cannot backtrack. Strictness costs nothing that way: a
bare LF, a folded line, a space before the colon, a control character or a field without a name never match. Only a
head that has failed is looked at line by line, to say what is wrong with it (`defect`).

Most heads are *plain*: every field line is a name without underscores, a colon, one space, and a value without white
space around it. They are read line by line (`lines`). A head that is not plain is matched as a whole against all that
is legal (underscores in names, white space behind values, empty lines in front) and written anew in the plain form.
"""

from __future__ import annotations

import re

MAX_HEAD = 32 * 1024
MAX_FIELDS = 100
MAX_HOST = 1024  # DNS has names of 255 bytes
MAX_LINE = 8 * 1024
# A node and an agent add to what they pass on: X-Forwarded-For and its kin, which name the client and repeat the host;
# framing. Whoever reads their heads leaves room for that, so that a message that was let in is not refused on its way.
PEER_FIELDS = MAX_FIELDS + 8
PEER_HEAD = MAX_HEAD + 4 * 1024
MAX_LEADING_LINES = 4  # RFC 9112, 2.2: old clients send CRLF behind a body; "at least one" must be tolerated

# RFC 9110, 5.6.2 and 5.5; RFC 9112, 3 and 5. The pattern of a value is all visible and obs-text octets, SP and HTAB.
# Since a field line ends at the first CR, "no CR, LF, NUL or other control character inside" needs no more.

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
VALUE = rb"[\t -~\x80-\xff]*+"
WHOLE_LINES = rb"((?:" + TOKEN + rb":" + VALUE + rb"\r\n)*+)\r\n"
# What RFC 3986 has in a URI, but for the fragment, which is never sent (RFC 9112, 3.2). Others of ASCII (`"<>\^{|}` and
# the backquote) mean one thing here and another there, and are escaped by who has to say them.
TARGET = rb"[!$-;=?-\[\]_a-z~]++"
REQUEST_LINE = rb"(" + TOKEN + rb") (" + TARGET + rb") HTTP/1\.([01])"
# The SP behind the status code is part of the grammar, and many leave it out (RFC 9112, 4).
STATUS_LINE = rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + VALUE + rb"))?+"

request_line = re.compile(REQUEST_LINE).fullmatch
# Of a plain head: with that SP.
status_line = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) (" + VALUE + rb")").fullmatch
is_plain_name = re.compile(rb"[!#$%&'*+\-.^`|~0-9A-Za-z]++").fullmatch  # without "_" (see read._refuse_twins)
is_plain_value = re.compile(rb"[!-~\x80-\xff][\t -~\x80-\xff]*+(?<![ \t])").fullmatch
whole_request = re.compile(rb"(?:\r\n){0,%d}+" % MAX_LEADING_LINES + REQUEST_LINE + rb"\r\n" + WHOLE_LINES).fullmatch
whole_response = re.compile(STATUS_LINE + rb"\r\n" + WHOLE_LINES).fullmatch
whole_lines = re.compile(WHOLE_LINES).fullmatch
split_lines = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n").findall

search_end = re.compile(rb"\r\n\r\n").search
search_control = re.compile(rb"[^\t\r\n -~\x80-\xff]").search
is_token = re.compile(TOKEN).fullmatch
is_value = re.compile(VALUE).fullmatch

# uri-host [":" port] (RFC 9110, 7.2), without the comma, which some take for a separator between two hosts.
_REGISTERED = rb"(?:[0-9A-Za-z\-._~!$&'()*+;=]++|%[0-9A-Fa-f]{2})++"
_HOST = rb"(?:\[[0-9A-Fa-f:.]++\]|" + _REGISTERED + rb")(?::[0-9]{0,5}+)?+"
is_host = re.compile(_HOST).fullmatch
absolute_target = re.compile(rb"(?i:https?)://([^/?#]*+)((?:[/?][!-~]*+)?+)").fullmatch

# Lists (RFC 9110, 5.6.1.2): empty elements are legal and mean nothing.
_LIST = rb"[ \t]*+(?:%b[ \t]*+)?+(?:,[ \t]*+(?:%b[ \t]*+)?+)*+"
_PROTOCOL = TOKEN + rb"(?:/" + TOKEN + rb")?+"
is_token_list = re.compile(_LIST % (TOKEN, TOKEN)).fullmatch
is_protocol_list = re.compile(_LIST % (_PROTOCOL, _PROTOCOL)).fullmatch
list_elements = re.compile(rb"[^ \t,]++").findall
