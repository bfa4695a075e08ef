// The event log.

import { ask, nextPage } from "./api.js";
import { List, h, tell } from "./dom.js";
import { eventLine, kindName, kinds } from "./eventlist.js";
import { several } from "./format.js";
import { complaint, empty, field, run } from "./parts.js";

const LIMIT = 200;

export function events(main, live) {
  const kind = h("select", {}, h("option", { value: "" }, "all kinds"), ...kinds().map((one) => h("option", { value: one }, kindName(one))));
  const words = h("input", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: "255" });
  const number = h("p", { class: "number" });
  const lines = h("ol", { class: "log card", reversed: true });
  const none = empty("Nothing has happened", "What the managers decide and what is created or deleted is told here.");
  const trouble = complaint();
  const further = h("button", { type: "button", class: "quiet", hidden: true }, "Show earlier events");
  main.append(
    h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Events"), number),
    h("div", { class: "tools" }, field("Kind", kind), field("Contains", words)),
    trouble, lines, none, further);

  const list = new List(lines, (event) => event.id, eventLine);
  const show = () => {
    const wanted = words.value.trim().toLowerCase();
    const shown = live.events.filter((event) => (kind.value === "" || event.kind === kind.value)
      && `${event.subject} ${event.text}`.toLowerCase().includes(wanted));
    list.show(shown);
    lines.hidden = shown.length === 0;
    none.hidden = live.events.length > 0;
    tell(number, several(shown.length, "event"));
  };
  kind.addEventListener("change", show);
  words.addEventListener("input", show);
  show();

  let page = `/events?limit=${LIMIT}`;
  const load = () => run(further, trouble, async () => {
    const answer = await ask("GET", page);
    live.addEvents(await answer.json());
    page = nextPage(answer);
    further.hidden = page === null;
  });
  further.addEventListener("click", load);
  load();
  return { title: "Events", on: { event: show } };
}
