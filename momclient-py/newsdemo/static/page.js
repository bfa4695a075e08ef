// Keeps a page up to date by server-sent events, and sends its forms without leaving it.
"use strict";

const list = document.getElementById("entries");
const keep = Number(list.dataset.keep);

function show(id, html) {
  if (list.querySelector(`[data-id="${CSS.escape(id)}"]`)) return;
  // The server has escaped everything that came from a message.
  list.insertAdjacentHTML("afterbegin", html);
  list.firstElementChild.classList.add("new");
  // What somebody is writing in stays.
  while (list.children.length > keep && !list.lastElementChild.contains(document.activeElement)) {
    list.lastElementChild.remove();
  }
}

function tell(state) {
  for (const place of document.querySelectorAll("[data-state]")) {
    place.textContent = state[place.dataset.state];
  }
  document.querySelector("[data-connected]").dataset.connected = state.connected ? "yes" : "no";
  complain(state.problem || "");
}

function complain(text) {
  const place = document.querySelector("[data-trouble]");
  place.textContent = text;
  place.hidden = text === "";
}

const events = new EventSource(`/events?after=${encodeURIComponent(list.dataset.after)}`);
events.addEventListener("entry", (event) => {
  const entry = JSON.parse(event.data);
  show(entry.id, entry.html);
});
events.addEventListener("state", (event) => tell(JSON.parse(event.data)));
// The application was started anew and counts anew: everything that it has follows.
events.addEventListener("reset", () => list.replaceChildren());
events.onerror = () => complain("This page has lost its application and tries to reach it again.");
events.onopen = () => complain("");

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
