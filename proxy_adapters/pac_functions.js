// The functions that a proxy auto-configuration file may call: Netscape's twelve and Microsoft's "Ex" set.
//
// Nothing here waits. A name that is not in `__dns` yet is noted in `__needed` and the evaluation is thrown away;
// the host resolves it and evaluates again. `__my` are this machine's addresses, `__now` its clock (milliseconds).

var __needed = [];

function __addresses(host) {
  if (__bytes(host)) return [host];
  if (!Object.prototype.hasOwnProperty.call(__dns, host)) {
    __needed.push(String(host));
    throw new Error("DNS is needed for " + host);
  }
  return __dns[host];
}

// An address as an array of 4 or 16 bytes, null if it is none.
function __bytes(text) {
  text = String(text);
  var four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (four) {
    var parts = four.slice(1).map(Number);
    return parts.every(function (part) { return part < 256; }) ? parts : null;
  }
  if (text.indexOf(":") < 0 || !/^[0-9a-fA-F:.]+$/.test(text)) return null;
  var tail = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (tail) {
    var last = __bytes(tail[2]);
    if (!last) return null;
    text = tail[1] + (last[0] * 256 + last[1]).toString(16) + ":" + (last[2] * 256 + last[3]).toString(16);
  }
  var halves = text.split("::");
  if (halves.length > 2) return null;
  var head = halves[0] ? halves[0].split(":") : [], rest = halves.length == 2 && halves[1] ? halves[1].split(":") : [];
  var missing = 8 - head.length - rest.length;
  if (halves.length == 2 ? missing < 1 : missing != 0) return null;
  var groups = head.concat(new Array(halves.length == 2 ? missing : 0).fill("0"), rest), bytes = [];
  for (var i = 0; i < 8; i++) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(groups[i])) return null;
    var value = parseInt(groups[i], 16);
    bytes.push(value >> 8, value & 255);
  }
  return bytes;
}

function __samePrefix(a, b, bits) {
  for (var i = 0; bits > 0; i++, bits -= 8) {
    var mask = bits >= 8 ? 255 : 256 - (1 << (8 - bits));
    if ((a[i] & mask) != (b[i] & mask)) return false;
  }
  return true;
}

// -- Names ----------------------------------------------------------------------------------------------------

function isPlainHostName(host) { return String(host).indexOf(".") < 0 && String(host).indexOf(":") < 0; }

function dnsDomainIs(host, domain) {
  host = String(host).toLowerCase(); domain = String(domain).toLowerCase();
  return host.length >= domain.length && host.substring(host.length - domain.length) == domain;
}

function localHostOrDomainIs(host, full) {
  host = String(host).toLowerCase(); full = String(full).toLowerCase();
  return host == full || (host.indexOf(".") < 0 && full.split(".")[0] == host);
}

function dnsDomainLevels(host) { return String(host).split(".").length - 1; }

// Only * and ? are special: a bracket is a bracket.
function shExpMatch(text, pattern) {
  var expression = String(pattern).replace(/[.+^${}()|[\]\\\/]/g, "\\$&").replace(/\*/g, "[^]*").replace(/\?/g, "[^]");
  return new RegExp("^" + expression + "$").test(String(text));
}

// -- Addresses ------------------------------------------------------------------------------------------------

function dnsResolve(host) {
  var found = __addresses(host).filter(function (address) { return __bytes(address).length == 4; });
  return found.length ? found[0] : null;
}

function dnsResolveEx(host) { return __addresses(host).join(";"); }

function isResolvable(host) { return dnsResolve(host) !== null; }

function isResolvableEx(host) { return __addresses(host).length > 0; }

function isInNet(host, network, mask) {
  var address = dnsResolve(host);
  address = address && __bytes(address); network = __bytes(network); mask = __bytes(mask);
  if (!address || address.length != 4 || !network || !mask) return false;
  return address.every(function (part, i) { return (part & mask[i]) == (network[i] & mask[i]); });
}

function isInNetEx(host, prefix) {
  var parts = String(prefix).split("/"), network = __bytes(parts[0]);
  if (!network || parts.length != 2 || !/^\d{1,3}$/.test(parts[1]) || +parts[1] > network.length * 8) return false;
  return __addresses(host).some(function (address) {
    var bytes = __bytes(address);
    return bytes.length == network.length && __samePrefix(bytes, network, +parts[1]);
  });
}

function convert_addr(address) {
  var bytes = __bytes(address) || [0, 0, 0, 0];
  return ((bytes[0] << 24) | (bytes[1] << 16) | (bytes[2] << 8) | bytes[3]) >>> 0;
}

function myIpAddress() {
  var four = __my.filter(function (address) { return address.indexOf(":") < 0; });
  return four.length ? four[0] : __my.length ? __my[0] : "127.0.0.1";
}

function myIpAddressEx() { return __my.join(";"); }

function sortIpAddressList(list) {
  var addresses = String(list).split(";").map(function (text) { return text.trim(); });
  if (!addresses.every(__bytes)) return "";
  return addresses.sort(function (a, b) {
    var x = __bytes(a), y = __bytes(b);
    if (x.length != y.length) return y.length - x.length;  // IPv6 first
    for (var i = 0; i < x.length; i++) if (x[i] != y[i]) return x[i] - y[i];
    return 0;
  }).join(";");
}

function getClientVersion() { return "1.0"; }

function alert() {}

// -- Dates ----------------------------------------------------------------------------------------------------
// Each takes "GMT" as a last argument. A range whose end lies before its beginning goes over the turn of the week,
// the day or the year.

var __DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
var __MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

function __when(given) {
  var wanted = Array.prototype.slice.call(given), date = new Date(__now);
  var gmt = String(wanted[wanted.length - 1]).toUpperCase() == "GMT";
  if (gmt) wanted.pop();
  function part(name) { return gmt ? date["getUTC" + name]() : date["get" + name](); }
  return { wanted: wanted, part: part };
}

function __between(value, from, to) { return from <= to ? from <= value && value <= to : value >= from || value <= to; }

function weekdayRange() {
  var when = __when(arguments);
  var from = __DAYS.indexOf(when.wanted[0]), to = when.wanted.length > 1 ? __DAYS.indexOf(when.wanted[1]) : from;
  return from >= 0 && to >= 0 && __between(when.part("Day"), from, to);
}

function dateRange() {
  var when = __when(arguments), count = when.wanted.length;
  if (count == 0 || (count > 1 && count % 2)) return count == 3 ? __dateIs(when, when.wanted) : false;
  if (count == 1) return __dateIs(when, when.wanted);
  var half = count / 2, from = __dateKey(when, when.wanted.slice(0, half)), to = __dateKey(when, when.wanted.slice(half));
  if (!from || !to || from.kinds != to.kinds) return false;
  return __between(__nowKey(when, from.kinds), from.key, to.key);
}

function __kind(word) { return typeof word == "string" && __MONTHS.indexOf(word) >= 0 ? "m" : +word > 31 ? "y" : "d"; }

function __dateIs(when, words) {
  var wanted = __dateKey(when, words);
  return !!wanted && __nowKey(when, wanted.kinds) == wanted.key;
}

function __dateKey(when, words) {
  var values = { y: 0, m: 0, d: 0 }, kinds = "";
  for (var i = 0; i < words.length; i++) {
    var kind = __kind(words[i]);
    values[kind] = kind == "m" ? __MONTHS.indexOf(words[i]) : +words[i];
    if (isNaN(values[kind])) return null;
    kinds += kind;
  }
  return { kinds: kinds, key: values.y * 10000 + values.m * 100 + values.d };
}

function __nowKey(when, kinds) {
  return (kinds.indexOf("y") >= 0 ? when.part("FullYear") * 10000 : 0) +
    (kinds.indexOf("m") >= 0 ? when.part("Month") * 100 : 0) + (kinds.indexOf("d") >= 0 ? when.part("Date") : 0);
}

function timeRange() {
  var when = __when(arguments), w = when.wanted.map(Number), hour = when.part("Hours");
  var now = hour * 3600 + when.part("Minutes") * 60 + when.part("Seconds");
  if (w.some(isNaN)) return false;
  if (w.length == 1) return hour == w[0];
  if (w.length == 2) return __between(hour, w[0], w[1] == w[0] ? w[0] : (w[1] + 23) % 24);
  if (w.length == 4) return __between(now, w[0] * 3600 + w[1] * 60, w[2] * 3600 + w[3] * 60 + 59);
  if (w.length == 6) return __between(now, w[0] * 3600 + w[1] * 60 + w[2], w[3] * 3600 + w[4] * 60 + w[5]);
  return false;
}
