// Keeps a page up to date by server-sent events, and sends its forms without leaving it.
"use strict";

const list = document.getElementById("entries");
const keep = Number(list.dataset.keep);
const live = document.querySelector("[data-connected]");
const above = document.querySelector(".above");
let unseen = 0;

function show(id, html) {
  if (list.querySelector(`[data-id="${CSS.escape(id)}"]`)) return;
  // What somebody reads or writes stays where it is on the screen, whatever comes in above it.
  const held = document.activeElement.closest(".entry") ?? (window.scrollY > list.offsetTop ? list.firstElementChild : null);
  const before = held?.getBoundingClientRect().top;
  // The server has escaped everything that came from a message.
  list.insertAdjacentHTML("afterbegin", html);
  const entry = list.firstElementChild;
  entry.classList.add("new");
  age(entry.querySelector("time"));
  while (list.children.length > keep && list.lastElementChild !== held) {
    list.lastElementChild.remove();
  }
  if (held) {
    window.scrollBy(0, held.getBoundingClientRect().top - before);
    count(unseen + 1);
  }
}

function count(number) {
  unseen = number;
  above.hidden = number === 0;
  above.querySelector("[data-above]").textContent = number;
}

function tell(state) {
  for (const place of document.querySelectorAll("[data-state]")) {
    place.textContent = state[place.dataset.state];
  }
  live.dataset.connected = state.connected ? "yes" : "no";
  complain(state.problem || "");
}

function complain(text) {
  const place = document.querySelector("[data-trouble]");
  place.textContent = text;
  place.hidden = text === "";
}

function age(time) {
  const seconds = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
  if (Number.isNaN(seconds)) return;
  time.title ||= time.textContent;
  time.textContent =
    seconds < 5 ? "just now"
    : seconds < 60 ? `${seconds} s ago`
    : seconds < 3600 ? `${Math.floor(seconds / 60)} min ago`
    : new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

const grow = () => document.querySelectorAll("time").forEach(age);
grow();
setInterval(grow, 5000);

const events = new EventSource(`/events?after=${encodeURIComponent(list.dataset.after)}`);
events.addEventListener("entry", (event) => {
  const entry = JSON.parse(event.data);
  show(entry.id, entry.html);
});
events.addEventListener("state", (event) => tell(JSON.parse(event.data)));
// The application was started anew and counts anew: everything that it has follows.
events.addEventListener("reset", () => list.replaceChildren());
events.onerror = () => {
  live.dataset.connected = "no";
  complain("This page has lost its application and tries to reach it again.");
};
events.onopen = () => complain("");

above.addEventListener("click", () => {
  document.activeElement.blur();
  window.scrollTo(0, 0);
});
window.addEventListener("scroll", () => window.scrollY <= list.offsetTop && count(0), { passive: true });

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-live]")) return;
  event.preventDefault();
  const button = form.querySelector("button");
  const output = form.querySelector("output");
  button.disabled = true;
  output.textContent = "Sending …";
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new FormData(form),
    });
    output.textContent = (await answer.json()).message;
    output.dataset.failed = answer.ok ? "no" : "yes";
    if (answer.ok) form.querySelector("textarea").value = "";
  } catch {
    output.textContent = "The application did not answer; nothing is known to be sent.";
    output.dataset.failed = "yes";
  } finally {
    button.disabled = false;
  }
});
