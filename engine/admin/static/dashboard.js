// Keeps the dashboard live. It shows texts as texts: no markup is made of what comes.
"use strict";

const { permitted, points, liveProtocol, tokenProtocol } = document.body.dataset;
const byId = (id) => document.getElementById(id);
const [board, login, filter, pause, leave, status_] = ["board", "login", "filter", "pause", "leave", "live"].map(byId);
const POINT = points.split(",");
const MOST_POINTS = 300;
const NOT_PERMITTED = 4401;
const SILENT_MS = 8000; // a message is due each second
const KEY = "trioduct.token";

let socket = null;
let silent = 0; // the timer that takes the connection for lost
let retry = 0; // the one that opens another
let pause_ms = 500; // before that
let told = null; // the last message

// -- values as text; engine/admin/tables.py writes the same

const digits = (value) => value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

function scaled(value, by, units) {
  let step = 0;
  for (; value >= 1000 && step < units.length - 1; step++) value /= by;
  return `${step ? digits(value) : value.toFixed(0)} ${units[step]}`;
}

function age(seconds) {
  for (const [size, unit, of, part] of [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]])
    if (seconds >= size) return `${Math.floor(seconds / size)}${unit} ${Math.floor(seconds % size / of)}${part}`;
  return `${Math.floor(seconds)}s`;
}

const count = (value) => value && typeof value === "object" ? Object.keys(value).length : value;

function shown(value, kind) {
  value = count(value);
  if (kind === "yes") return value ? "yes" : "–";
  if (kind === "text") return value ? String(value) : "–";
  if (typeof value !== "number") return "–";
  switch (kind) {
    case "seconds": return !value ? "–" : value < 1 ? `${digits(value * 1000)} ms` : `${digits(value)} s`;
    case "age": return age(value);
    case "count": return value.toFixed(0);
    case "rate": return value ? digits(value) : "0";
    case "bytes_rate": return scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]);
    default: return scaled(value, 1024, ["B", "KiB", "MiB", "GiB"]);
  }
}

function say(text) {
  status_.textContent = text;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// -- tables

class Table {
  constructor(section) {
    this.section = section;
    this.key = section.id;
    this.id = section.dataset.id.split(",");
    this.sort = section.dataset.sort;
    this.down = true;
    this.columns = [...section.querySelectorAll("th")].map((th) => ({ ...th.dataset, th, aside: th.classList.contains("aside") }));
    this.body = section.querySelector("tbody");
    this.rows = new Map();
    this.body.replaceChildren();
    for (const { th, key } of this.columns) th.firstElementChild.addEventListener("click", () => this.by(key));
  }

  by(key) {
    this.down = key === this.sort ? !this.down : this.columns.find((column) => column.key === key).kind !== "text";
    this.sort = key;
    for (const { th, key } of this.columns) {
      if (key === this.sort) th.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    if (told) this.show(told);
  }

  show(message) {
    const all = message[this.key];
    this.section.hidden = this.key === "workers" && !all.length;
    for (const { th, key, kind, aside } of this.columns) // what nobody has takes no room
      th.hidden = aside && (kind === "text" || kind === "yes") && !all.some((row) => row[key]);
    const wanted = filter.value.toLowerCase();
    const texts = this.columns.filter((column) => column.kind === "text").map((column) => column.key);
    const found = all.filter((row) => texts.some((key) => String(row[key] ?? "").toLowerCase().includes(wanted)));
    const value = (row) => count(row[this.sort]) ?? 0;
    found.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === "string" || typeof y === "string" ? String(x).localeCompare(String(y)) : x - y;
      return this.down ? -order : order;
    });
    const before = this.rows;
    this.rows = new Map();
    found.forEach((row, place) => {
      const id = JSON.stringify(this.id.map((key) => row[key]));
      const tr = before.get(id) ?? this.make();
      before.delete(id);
      this.rows.set(id, tr);
      this.columns.forEach(({ key, kind, th }, index) => {
        const text = shown(row[key], kind);
        tr.cells[index].hidden = th.hidden;
        write(tr.cells[index], text);
        if (kind === "text") tr.cells[index].title = text;
      });
      if (this.body.rows[place] !== tr) this.body.insertBefore(tr, this.body.rows[place] ?? null);
    });
    for (const tr of before.values()) tr.remove();
    const number = { sessions: message.now.session_count, endpoints: message.now.endpoint_count }[this.key] ?? all.length;
    write(this.section.querySelector(".more"), found.length < number ? `${found.length} of ${number}` : "");
    this.section.querySelector(".none").hidden = found.length > 0;
  }

  make() {
    const tr = document.createElement("tr");
    for (const { kind, aside } of this.columns) tr.insertCell().className = aside ? `${kind} aside` : kind;
    return tr;
  }
}

const tables = [...document.querySelectorAll(".table")].map((section) => new Table(section));

// -- charts

class Chart {
  constructor(figure) {
    this.place = figure.querySelector(".plot");
    this.kind = figure.dataset.kind;
    this.keys = [...figure.querySelectorAll("figcaption [data-key]")].map((line) => line.dataset.key);
    this.plot = null;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
  }

  size() {
    return { width: Math.max(this.place.clientWidth, 60), height: this.place.clientHeight };
  }

  make() {
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const [one, two, quiet, line] = ["--one", "--two", "--quiet", "--line"].map((name) => style.getPropertyValue(name));
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 8);
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 6, 0, 0],
      scales: { y: { range: (plot, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, size: 24, space: 70, values: (plot, splits) => splits.map(clock) },
        { ...axis, size: 64, space: 28, values: (plot, splits) => splits.map((value) => value ? shown(value, this.kind).replace(/\.0+(?= |$)/, "") : "0") },
      ],
      series: [{}, ...this.keys.map((label, index) => ({
        label, stroke: index ? two : one, width: 1.5, dash: index ? [6, 4] : undefined, points: { show: false },
      }))],
    }, this.data(), this.place);
  }

  data() {
    return [past.map((point) => point[0]), ...this.keys.map((key) => past.map((point) => point[POINT.indexOf(key)]))];
  }

  show() {
    if (this.plot) this.plot.setData(this.data());
    else this.make();
  }
}

let past = [];
const charts = [...document.querySelectorAll(".chart")].map((figure) => new Chart(figure));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.plot && chart.make()));

// -- a message

function take(message) {
  if (message.points) past = message.points;
  else past = [...past, POINT.map((key) => key === "at" ? message.at : message.now[key])].slice(-MOST_POINTS);
  told = message;
  login.hidden = true;
  board.hidden = filter.hidden = pause.hidden = false;
  for (const { section } of tables) section.hidden = false;
  show();
}

function show() {
  const { node, now, at } = told;
  write(byId("node"), node.id);
  write(byId("version"), `Trioduct ${node.version}`);
  document.title = `${node.id} · Trioduct`;
  const wrong = [node.reason && `not ready: ${node.reason}`, node.degraded, node.incomplete].filter(Boolean).join("; ");
  write(byId("wrong"), wrong);
  byId("wrong").hidden = !wrong;
  for (const card of document.querySelectorAll(".cards dd")) write(card, shown(now[card.dataset.key], card.dataset.kind));
  for (const table of tables) table.show(told);
  for (const chart of charts) chart.show();
  write(byId("at"), new Date(at * 1000).toLocaleTimeString());
}

// -- the connection

const is_paused = () => pause.getAttribute("aria-pressed") === "true";

function listen() {
  clearTimeout(retry);
  clearTimeout(silent);
  if (socket) socket.onclose = socket.onmessage = null;
  socket?.close();
  socket = null;
  const token = sessionStorage.getItem(KEY);
  leave.hidden = !token;
  if (!permitted && !token) return ask("");
  if (document.hidden || is_paused()) return;
  const url = new URL("live", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  try {
    socket = new WebSocket(url, token ? [liveProtocol, tokenProtocol + token] : [liveProtocol]);
  } catch { // it has characters that no token has
    return ask("That is no token.");
  }
  socket.onmessage = (event) => {
    pause_ms = 500;
    say("");
    watch();
    take(JSON.parse(event.data));
  };
  socket.onclose = (event) => lost(event.code);
  watch();
}

function watch() {
  clearTimeout(silent);
  silent = setTimeout(() => lost(0), SILENT_MS);
}

async function lost(code) {
  clearTimeout(silent);
  if (socket) socket.onclose = socket.onmessage = null;
  socket?.close();
  socket = null;
  const token = sessionStorage.getItem(KEY);
  let status = 0;
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    status = code === NOT_PERMITTED ? 401 : (await fetch(new URL("../health", location.href), { headers })).status;
  } catch { // nobody answers
  }
  if (status === 401) return ask(token ? "The node does not accept this token, or not any more." : "");
  say(status ? "The connection was cut, or too many look on; trying again." : "The node does not answer; trying again.");
  retry = setTimeout(listen, pause_ms);
  pause_ms = Math.min(2 * pause_ms, 8000);
}

function ask(problem) {
  sessionStorage.removeItem(KEY);
  leave.hidden = board.hidden = filter.hidden = pause.hidden = true;
  past = [];
  write(byId("refused"), problem);
  byId("refused").hidden = !problem;
  login.hidden = false;
  byId("token").focus();
}

// -- what the person does

login.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("token").value.trim());
  byId("token").value = "";
  byId("refused").hidden = true;
  listen();
});

leave.addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});

pause.addEventListener("click", () => {
  pause.setAttribute("aria-pressed", String(!is_paused()));
  say(is_paused() ? "Paused." : "");
  listen();
});

filter.addEventListener("input", () => told && tables.forEach((table) => table.show(told)));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || board.hidden) return;
  if (event.target.closest("input")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") filter.focus();
  else if (event.key === "p") pause.click();
  else return;
  event.preventDefault();
});

document.addEventListener("visibilitychange", listen);
listen();
