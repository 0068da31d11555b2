// Keeps the inspector's pages live. Without it they work by links and forms.
"use strict";

const root = document.body.dataset.root;
const main = document.querySelector("main");
const rows = document.getElementById("rows");
const detail = document.getElementById("detail");
const filter = document.getElementById("filter");
const pause = document.getElementById("pause");
const status_ = document.getElementById("live");
const MOST_ROWS = 200;
const GONE = "The agent does not answer.";

let version = document.body.dataset.version;
let events = null;
let silent = 0; // the timer that says so
let shown = detail.dataset.number ? location.href : null; // the page that the detail is from
let asked = 0; // counts requests for details: an older answer is not shown behind a newer one

function query() {
  return new URLSearchParams([...new FormData(filter)].filter(([, value]) => value));
}

function html(text) {
  const template = document.createElement("template");
  template.innerHTML = text;
  return template.content;
}

function say(text) {
  status_.textContent = text;
}

// -- the list

function listen() {
  events?.close();
  events = null;
  if (document.hidden || pause.getAttribute("aria-pressed") === "true" || new URLSearchParams(location.search).has("before")) return;
  const parameters = query();
  parameters.set("after", version);
  events = new EventSource(`${root}/live?${parameters}`);
  events.addEventListener("open", () => {
    clearTimeout(silent);
    if (silent) say("");
    silent = 0;
  });
  events.addEventListener("rows", (event) => put(html(event.data)));
  events.addEventListener("counts", (event) => {
    version = event.lastEventId;
    document.getElementById("counts").textContent = event.data;
  });
  events.addEventListener("error", () => { // also when it ends in good order, and begins again at once
    silent ||= setTimeout(() => say(GONE), 3000);
  });
}

function put(fragment) {
  const number = Number(article()?.dataset.number);
  for (const row of fragment.querySelectorAll("li")) {
    const before = document.getElementById(row.id);
    const focused = before?.contains(document.activeElement);
    if (Number(row.dataset.number) === number) row.firstElementChild.setAttribute("aria-current", "true");
    if (before) before.replaceWith(row);
    else rows.prepend(row);
    if (focused) row.firstElementChild.focus();
    if (Number(row.dataset.number) === number && !article().dataset.done) show(shown, { again: true });
  }
  while (rows.children.length > MOST_ROWS) rows.lastElementChild.remove();
  document.getElementById("none").hidden = rows.children.length > 0;
}

async function narrow() {
  const parameters = query();
  const page = await ask(`${root}/?${parameters}`);
  if (!page) return;
  const found = new DOMParser().parseFromString(page.text, "text/html");
  rows.replaceChildren(...found.getElementById("rows").children);
  document.getElementById("none").replaceWith(found.getElementById("none"));
  version = found.body.dataset.version;
  document.getElementById("har").href = `${root}/requests.har?${parameters}`;
  mark();
  listen();
}

// -- the chosen request

function article() {
  return detail.querySelector("article");
}

function mark() {
  rows.querySelector("[aria-current]")?.removeAttribute("aria-current");
  const number = article()?.dataset.number ?? detail.dataset.number;
  document.querySelector(`#r${number} a`)?.setAttribute("aria-current", "true");
}

async function ask(url, options = {}) {
  try {
    const answer = await fetch(url, { ...options, headers: { "X-Part": "1" } });
    return { text: await answer.text(), url: answer.url, ok: answer.ok };
  } catch {
    say(GONE);
    return null;
  }
}

async function show(url, { again = false, post = null } = {}) {
  const turn = ++asked;
  const part = await ask(url, post ? { method: "POST", body: post } : {});
  if (!part || turn !== asked) return;
  const place = again ? detail.scrollTop : 0;
  detail.replaceChildren(html(part.text));
  detail.scrollTop = place;
  main.classList.add("opened");
  detail.dataset.number = article()?.dataset.number ?? detail.dataset.number;
  if (!again) {
    if (part.ok) history.pushState(null, "", part.url);
    shown = part.url;
    (detail.querySelector("[role=alert], .edit input") ?? detail).focus();
  }
  mark();
}

function leave() {
  detail.replaceChildren(html('<p class="empty">Choose a request to see it.</p>'));
  const row = document.querySelector(`#r${detail.dataset.number} a`);
  detail.dataset.number = "";
  shown = null;
  main.classList.remove("opened");
  history.pushState(null, "", `${root}/?${query()}`);
  mark();
  (row ?? rows.querySelector("a"))?.focus();
}

async function copy(link) {
  const part = await ask(link.href);
  if (!part) return;
  try {
    await navigator.clipboard.writeText(part.text);
    say("The command is on the clipboard.");
  } catch {
    location.href = link.href; // the browser does not allow it: here is the command
  }
}

// -- what the person does

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const act = link.closest("#rows") || link.matches("[data-part], .facts a.tag") ? () => show(link.href)
    : link.matches("[data-copy]") ? () => copy(link)
    : link.closest(".back") ? leave
    : null;
  if (act) {
    event.preventDefault();
    act();
  }
});

detail.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  say("");
  show(form.action, { post: new URLSearchParams(new FormData(form)) });
});

filter.addEventListener("submit", (event) => {
  event.preventDefault();
  narrow();
});

let typing = 0;
filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(narrow, 250);
});

pause.hidden = false;
pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(paused));
  say(paused ? "Paused." : "");
  listen();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const writing = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    if (writing) writing.blur();
    else if (article()) leave();
    return;
  }
  if (writing) return;
  const links = [...rows.querySelectorAll("a")];
  const here = links.findIndex((link) => link === document.activeElement || (link.ariaCurrent && !rows.contains(document.activeElement)));
  if (event.key === "j") links[Math.min(here + 1, links.length - 1)]?.focus();
  else if (event.key === "k") links[Math.max(here - 1, 0)]?.focus();
  else if (event.key === "/") filter.elements.q.focus();
  else if (event.key === "p") pause.click();
  else if ("res".includes(event.key)) detail.querySelector(`[data-key="${event.key}"]`)?.click();
  else return;
  event.preventDefault();
});

document.addEventListener("visibilitychange", listen);
window.addEventListener("popstate", () => location.reload());
listen();
