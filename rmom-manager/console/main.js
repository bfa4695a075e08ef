// Which view is shown, whether the manager is heard, and light or dark.

import { h, tell } from "./dom.js";
import { events } from "./events.js";
import { moment, span } from "./format.js";
import { Live } from "./live.js";
import { overview } from "./overview.js";
import { queue } from "./queue.js";
import { queues } from "./queues.js";

const main = document.getElementById("main");
const live = new Live();
let view = null;

function route() {
  const [, name = "", ...rest] = location.hash.split("/");
  // Labels are kept in lower case.
  const parameter = unescaped(rest.join("/")).toLowerCase();
  const make = name === "queues" && parameter ? queue : { "": overview, queues, events }[name];
  view?.leave?.();
  main.replaceChildren();
  // The view of a queue has it watched once it is known to be there.
  if (make !== queue) live.watch(null);
  view = make ? make(main, live, parameter) : nowhere();
  document.title = `${view.title} · rusty-mom`;
  for (const link of document.querySelectorAll("nav a")) {
    const target = link.hash.slice(2);
    if (target === name) link.setAttribute("aria-current", parameter ? "true" : "page");
    else link.removeAttribute("aria-current");
  }
}

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function nowhere() {
  main.append(h("h1", { tabindex: "-1" }, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "To the overview")));
  return { title: "Not found" };
}

window.addEventListener("hashchange", () => {
  route();
  window.scrollTo(0, 0);
  // So that a screen reader tells where one is, and Tab goes on from there.
  main.querySelector("h1")?.focus({ preventScroll: true });
});
document.getElementById("skip").addEventListener("click", (event) => {
  // The hash is the route.
  event.preventDefault();
  main.focus();
});

for (const name of ["overview", "queues", "queue", "event", "state", "tick"]) {
  live.addEventListener(name, () => view?.on?.[name]?.());
}

const WORDS = { connecting: "Connecting", live: "Live", lost: "Connection lost", troubled: "No figures", paused: "Paused" };
const lost = document.getElementById("lost");

live.addEventListener("state", () => {
  const { state, reason, heardAt } = live;
  document.getElementById("live").dataset.state = state;
  tell(document.getElementById("live-text"), WORDS[state]);
  const isStale = state === "lost" || state === "troubled";
  document.body.classList.toggle("stale", isStale);
  if (isStale) {
    // Told once, not counted down: it is read out.
    const what = state === "troubled" ? `The manager has no figures: ${reason}.`
      : reason === "refused"
      ? "The manager tells nothing live; perhaps too many pages listen to it."
      : "The manager does not answer.";
    tell(lost, `${what}${heardAt ? ` What you see is of ${moment(heardAt)}.` : ""} It is tried again all the time.`);
  } else if (state === "live") {
    tell(lost, "");
  }
});
live.addEventListener("overview", () => {
  const { version, manager } = live.overview;
  tell(document.getElementById("about"),
    `rusty-mom ${version}. This manager ${manager.leads ? "leads" : "stands by"}, lease epoch ${manager.lease_epoch}.`);
});
live.addEventListener("tick", () => {
  const { state, heardAt } = live;
  if (state === "lost" && heardAt) tell(document.getElementById("live-text"), `Lost ${span((Date.now() - heardAt) / 1000)} ago`);
});

const THEMES = { system: "System", light: "Light", dark: "Dark" };
const button = document.getElementById("theme");

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function showTheme() {
  tell(button.lastElementChild, THEMES[theme()]);
  button.setAttribute("aria-label", `Colours: ${THEMES[theme()]}`);
}

button.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(theme()) + 1) % names.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("rmom-theme", next);
  } catch {
    // Then it holds for this page only.
  }
  showTheme();
});

showTheme();
route();
