"use strict";
// Everything works without this file. It adds: one clock for live pages, local times, copying, charts, keys.

const $ = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

/* -- times: relative in the page, exact on hover, in UTC or here ------------------------------------------------ */

const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];

function ago(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [size, unit, smaller, name] of units) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / smaller);
    return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
  }
  return `${whole} s`;
}

class Time extends HTMLElement {
  connectedCallback() { this.draw(); }
  draw() {
    const time = $("time", this);
    const at = Number(this.dataset.at);
    const gone = serverNow() - at;
    if (!time || !at) return;
    const words = gone >= 0 ? `${ago(gone)} ago` : `in ${ago(-gone)}`;
    if (time.textContent !== words) time.textContent = words;
    time.title = localStorage.getItem("clock") === "local" ? new Date(at * 1000).toLocaleString() : time.getAttribute("datetime");
  }
}

// The server's clock counts: this machine's may be wrong.
let skew = 0;
const serverNow = () => Date.now() / 1000 + skew;
function readClock() {
  const made = Number($("#main")?.dataset.made);
  if (made) skew = made - Date.now() / 1000;
}

/* -- copying ------------------------------------------------------------------------------------------------------ */

class Copy extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append($("template#copy-icon").content.cloneNode(true));
    button.setAttribute("aria-label", `Copy ${this.dataset.name}`);
    button.addEventListener("click", () => this.copy(button));
    this.append(button);
  }
  async copy(button) {
    try {
      await navigator.clipboard.writeText(this.dataset.text);
    } catch {  // a plain http page has no clipboard
      const field = document.createElement("textarea");
      field.value = this.dataset.text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  }
}

/* -- charts: drawn from the table that says the same ------------------------------------------------------------- */

class Chart extends HTMLElement {
  connectedCallback() {
    requestAnimationFrame(() => this.draw());
    this.watch = new ResizeObserver(() => this.plot?.setSize({ width: this.clientWidth, height: 180 }));
    this.watch.observe(this);
  }
  disconnectedCallback() { this.watch?.disconnect(); this.plot?.destroy(); this.plot = null; }
  data() {
    const rows = all("tbody tr", document.getElementById(this.dataset.source));
    const columns = rows.map((row) => [Number(row.dataset.at), ...all("td", row).map((cell) => cell.textContent.trim() === "" ? null : Number(cell.textContent))]);
    return columns[0].map((_, place) => columns.map((row) => row[place]));
  }
  draw() {
    if (typeof uPlot === "undefined" || !this.isConnected) return;
    if (this.plot) return this.plot.setData(this.data());
    const style = getComputedStyle(document.documentElement);
    const tone = (name) => style.getPropertyValue(`--tone-${name}`).trim();
    const axis = { stroke: tone("grey"), grid: { stroke: style.getPropertyValue("--line").trim(), width: 1 }, ticks: { show: false } };
    const local = localStorage.getItem("clock") === "local";
    const clock = { timeZone: local ? undefined : "UTC", hour: "2-digit", minute: "2-digit", hour12: false };
    const format = new Intl.DateTimeFormat("en-GB", this.dataset.window === "7d" ? { timeZone: clock.timeZone, day: "2-digit", month: "short" } : clock);
    const times = { ...axis, values: (_, splits) => splits.map((each) => format.format(each * 1000)) };
    const lines = this.dataset.lines.trim().split(" ").map((each) => each.split(":"));
    const least = Number(this.dataset.least);
    const whole = least < 1 ? {} : { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6] };
    this.plot = new uPlot({
      width: this.clientWidth, height: 180, cursor: { y: false }, legend: { show: false },
      tzDate: (seconds) => local ? new Date(seconds * 1000) : uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { y: { range: (_, low, high) => [0, Math.max(least, high)] } },
      axes: [times, { ...axis, size: 44, ...whole }],
      series: [{}, ...lines.map(([label, colour]) => ({ label, stroke: tone(colour), width: 1.5 }))],
    }, this.data(), this);
  }
}

/* -- live: one clock, which rests while somebody works on the page ------------------------------------------------ */

const paces = ["5", "15", "60", "off"];
let pace = localStorage.getItem("pace") ?? "5";
let missed = 0;
let last = Date.now();

function busy() {
  const at = document.activeElement;
  const typing = at && at.matches("#main :is(input, select, textarea)") && at.type !== "checkbox";
  const typed = all("#main :is(input, textarea):not([type=hidden], [type=checkbox], [type=radio])").some((each) => each.value !== each.defaultValue);
  const ticked = all("#main input").some((each) => each.checked !== each.defaultChecked);
  return typing || typed || ticked || $("#main details.ask[open]") || String(getSelection()) || document.hidden;
}

function beat() {
  all("rf-time").forEach((each) => each.draw());
  const live = $("#main")?.dataset.live;
  if (!live || pace === "off") return label();
  if (Date.now() - last < Number(pace) * 1000) return label();
  if (busy()) return label("updates rest");
  last = Date.now();
  document.body.dispatchEvent(new CustomEvent("refresh"));
  label();
}

function label(words) {
  const chip = $("#pace");
  chip.hidden = !$("#main")?.dataset.live;
  chip.textContent = pace === "off" ? "not live" : words ?? `live ${pace} s`;
  chip.setAttribute("aria-label", `${chip.textContent}: change how often the page is refreshed`);
}

function stale(words) {
  const banner = $("#stale");
  banner.hidden = !words;
  banner.textContent = words ?? "";
}

const statusOf = (event) => event.detail.ctx?.response?.status ?? event.detail.ctx?.response?.raw?.status;
// What is no page stays out of the page, and what was asked for before somebody began to work on it comes too late.
document.addEventListener("htmx:before:swap", (event) => { if (statusOf(event) >= 400 || busy()) event.preventDefault(); });
document.addEventListener("htmx:after:request", (event) => {
  const status = statusOf(event);
  if (status === 401) return stale("Your session ended. What is shown may be old: sign in again in this tab.");
  if (status && status < 500) { missed = 0; stale(); }
  else lost();
});
document.addEventListener("htmx:error", lost);
function lost() {
  missed += 1;
  const since = new Date(Number($("#main").dataset.made) * 1000).toISOString().slice(11, 19);
  stale(`Connection lost: this is how things stood at ${since} UTC.`);
}
document.addEventListener("htmx:after:swap", () => { readClock(); all("rf-chart").forEach((each) => each.draw()); });

/* -- forms: pressed once ------------------------------------------------------------------------------------------ */

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "yes";
  all("button:not([type=button])", form).forEach((each) => { each.setAttribute("aria-disabled", "true"); each.classList.add("disabled"); });
});
window.addEventListener("pageshow", () => all("form[data-sent]").forEach((form) => {
  delete form.dataset.sent;
  all("button", form).forEach((each) => { each.removeAttribute("aria-disabled"); each.classList.remove("disabled"); });
}));
document.addEventListener("toggle", (event) => {
  if (event.target.matches?.("details.ask[open]")) $("[data-close], input:not([type=hidden])", event.target)?.focus();
}, true);
let lastTicked = null;
document.addEventListener("click", (event) => {
  const ask = event.target.closest("[data-close]")?.closest("details");
  if (ask) { ask.open = false; $("summary", ask).focus(); }
  if (event.target.matches("#bulk tbody [type=checkbox]")) tick(event);
  if (event.target.matches("#bulk [data-page]")) all("#bulk tbody [type=checkbox]").forEach((each) => { each.checked = event.target.checked; });
});
function tick(event) {
  const boxes = all("#bulk tbody [type=checkbox]");
  const [from, to] = [boxes.indexOf(lastTicked), boxes.indexOf(event.target)];
  if (event.shiftKey && from >= 0) boxes.slice(Math.min(from, to), Math.max(from, to) + 1).forEach((each) => { each.checked = event.target.checked; });
  lastTicked = event.target;
}

/* -- keys: none while somebody types; Escape closes ---------------------------------------------------------------- */

const places = { o: "/", r: "/refunds", d: "/dead", b: "/bulk", a: "/approvals", c: "/recon", p: "/accounts", q: "/queues", w: "/webhooks", l: "/audit" };
let went = false;
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return all("details.ask[open], details.who[open]").forEach((each) => { each.open = false; });
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (went && places[event.key]) { went = false; location.href = places[event.key]; return; }
  went = event.key === "g";
  if (event.key === "/") { event.preventDefault(); $("#find").focus(); }
  if (event.key === "n") location.href = "/refunds/new";
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  if (event.key === "x") $("[type=checkbox]", document.activeElement.closest("tr"))?.click();
});
function step(by) {
  const links = all(".rows tbody a.ref");
  links[Math.min(Math.max(links.indexOf(document.activeElement) + by, 0), links.length - 1)]?.focus();
}

/* -- switches ------------------------------------------------------------------------------------------------------ */

function start() {
  if (!$("#main")) return;
  readClock();
  customElements.define("rf-time", Time);
  customElements.define("rf-copy", Copy);
  customElements.define("rf-chart", Chart);
  $(".alert[tabindex]")?.focus();
  if (!$("#pace")) return;
  $("#pace").addEventListener("click", () => { pace = paces[(paces.indexOf(pace) + 1) % paces.length]; localStorage.setItem("pace", pace); label(); });
  $("#clock").hidden = $("#theme").hidden = false;
  $("#clock").textContent = localStorage.getItem("clock") === "local" ? "local" : "UTC";
  $("#clock").addEventListener("click", (event) => {
    localStorage.setItem("clock", event.target.textContent === "UTC" ? "local" : "UTC");
    location.reload();
  });
  $("#theme").addEventListener("click", () => {
    localStorage.setItem("theme", document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark");
    location.reload();
  });
  label();
  setInterval(beat, 1000);
}
start();
