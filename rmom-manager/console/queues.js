// All queues, as a table.

import { ask, askJson, nextPage, queuePath } from "./api.js";
import { sparkline } from "./chart.js";
import { List, h, mark, tell } from "./dom.js";
import { UNKNOWN, address, bytes, count, rate, several, short, shortSpan } from "./format.js";
import { LIVE_QUEUES } from "./live.js";
import { NAME, complaint, empty, field, run, toast } from "./parts.js";

const PAGE = 200;
const PAGES = 50;
const ROWS = 100;
/** More queues than the manager tells by itself are asked for again now and then. */
const RELOAD_MILLIS = 10_000;

const COLUMNS = [
  { key: "label", name: "Queue", value: (queue) => queue.label, text: true },
  { key: "messages", name: "Messages", value: (queue) => queue.messages, told: "retained now" },
  { key: "bytes", name: "Size", value: (queue) => queue.bytes, told: "of the retained messages", rare: true },
  { key: "in", name: "In /s", value: (queue) => queue.rates?.pushed, told: "messages pushed a second" },
  { key: "out", name: "Out /s", value: (queue) => queue.rates?.delivered, told: "messages handed to subscribers a second, each one counted" },
  { key: "oldest", name: "Oldest", value: (queue) => queue.oldest_at && -Date.parse(queue.oldest_at), told: "age of the oldest retained message", rare: true },
  { key: "subscriptions", name: "Subscribers", value: (queue) => queue.subscriptions },
  { key: "lag", name: "Lag", value: (queue) => queue.largest_lag, told: "messages that the slowest subscriber has yet to receive" },
  { key: "owner", name: "Owner", value: (queue) => queue.mom ? address(queue.mom) : "", text: true, told: "the MoM that has the queue" },
  { key: "epoch", name: "Epoch", value: (queue) => queue.epoch, told: "rises whenever the queue moves", rare: true },
];

// What was chosen last, for as long as the page is open.
let sorting = { key: "label", down: false };
let wanted = "";

export function queues(main, live) {
  const known = new Map();
  let more = ROWS;
  let loadedAt = 0;
  let complete = false;
  /** The order of the rows stays while somebody points at one or has the focus in one. */
  let order = new Map();

  const number = h("p", { class: "number" });
  const filter = h("input", { type: "search", value: wanted, autocomplete: "off", spellcheck: "false", maxlength: "255" });
  const label = h("input", { ...NAME, required: true });
  const create = h("button", {}, "Create");
  const form = h("form", { class: "tools creating", "aria-label": "Create a queue" }, field("New queue", label), create);
  const trouble = complaint();
  const heads = COLUMNS.map((column) => {
    const button = h("button", { type: "button", title: column.told }, column.name, h("span", { class: "arrow", "aria-hidden": "true" }));
    button.addEventListener("click", () => {
      sorting = { key: column.key, down: sorting.key === column.key ? !sorting.down : !column.text };
      order = new Map();
      show();
    });
    return { ...column, element: h("th", { scope: "col", class: classes(column) }, button) };
  });
  const body = h("tbody");
  const table = h("table", {}, h("caption", { class: "unseen" }, "Queues; the buttons in the heading sort"), h("thead", {}, h("tr", {}, ...heads.map((head) => head.element))), body);
  const scroller = h("div", { class: "card scroller", role: "region", "aria-label": "Table of queues", tabindex: "0" }, table);
  const further = h("button", { type: "button", class: "quiet", hidden: true });
  const none = empty("There are no queues", "Create the first one above, or by a client.");
  const noneFound = empty("No queue has that in its label", "");
  none.hidden = true;
  noneFound.hidden = true;

  main.append(
    h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Queues"), number),
    h("div", { class: "tools apart" }, field("Filter", filter), form),
    trouble, scroller, none, noneFound, further);

  const rows = new List(body, (queue) => queue.label, (queue) => row(live, queue));

  const compare = () => {
    const { value, text } = COLUMNS.find((column) => column.key === sorting.key);
    const direction = sorting.down ? -1 : 1;
    return (a, b) => {
      const [x, y] = [value(a) ?? null, value(b) ?? null];
      const first = text ? x.localeCompare(y, "en", { numeric: true })
        : x === null || y === null ? (x === null) - (y === null) : x - y;
      return (x === null || y === null ? first : direction * first) || a.label.localeCompare(b.label, "en", { numeric: true });
    };
  };

  function show() {
    for (const { key, element } of heads) {
      mark(element, "aria-sort", key === sorting.key ? (sorting.down ? "descending" : "ascending") : null);
    }
    const found = [...known.values()].filter((queue) => queue.label.includes(wanted));
    const held = order.size > 0 && (body.matches(":hover") || body.contains(document.activeElement));
    if (held) {
      found.sort((a, b) => (order.get(a.label) ?? Infinity) - (order.get(b.label) ?? Infinity));
    } else {
      found.sort(compare());
      order = new Map(found.map((queue, place) => [queue.label, place]));
    }
    rows.show(found.slice(0, more));
    tell(number, wanted === "" ? several(known.size, "queue") : `${count(found.length)} of ${several(known.size, "queue")}`);
    const left = found.length - more;
    further.hidden = left <= 0;
    tell(further, left > 0 ? `Show ${count(Math.min(left, ROWS))} more of ${count(left)}` : "");
    scroller.hidden = found.length === 0;
    none.hidden = known.size > 0 || !complete;
    noneFound.hidden = known.size === 0 || found.length > 0;
  }

  /** What the manager tells by itself are the busiest queues, which may be all of them. */
  function take() {
    if (live.queues.length < LIVE_QUEUES) {
      known.clear();
      complete = true;
    } else if (Date.now() - loadedAt > RELOAD_MILLIS) {
      load();
    }
    for (const queue of live.queues) known.set(queue.label, queue);
    show();
  }

  async function load() {
    loadedAt = Date.now();
    const there = new Map();
    let page = `/queues?details=true&limit=${PAGE}`;
    for (let pages = 0; page && pages < PAGES; pages += 1) {
      const answer = await ask("GET", page);
      for (const queue of await answer.json()) there.set(queue.label, queue);
      page = nextPage(answer);
    }
    known.clear();
    for (const [key, queue] of there) known.set(key, queue);
    complete = true;
    show();
  }

  filter.addEventListener("input", () => {
    // Labels are kept in lower case.
    wanted = filter.value.trim().toLowerCase();
    order = new Map();
    show();
  });
  further.addEventListener("click", () => {
    more += ROWS;
    show();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(create, trouble, async () => {
      const made = await askJson("POST", queuePath(label.value.trim()));
      toast(`The queue ${made.label} is created, at ${address(made)}.`);
      form.reset();
      await load();
    });
  });

  if (live.queues.length > 0) take();
  else show();
  run(further, trouble, load);
  return { title: "Queues", on: { queues: take } };
}

const classes = ({ text, rare }) => [text ? "text" : "figure", rare ? "rare" : ""].join(" ").trim();

/** The row of one queue. */
function row(live, { label }) {
  const line = sparkline("pushed", { width: 64, height: 18 });
  const cells = new Map(COLUMNS.map((column) => [column.key, h(column.key === "label" ? "th" : "td", {
    class: classes(column), scope: column.key === "label" ? "row" : null,
  })]));
  cells.get("label").append(h("a", { href: `#/queues/${encodeURIComponent(label)}` }, label));
  const into = h("span");
  cells.get("in").append(line.element, into);
  const owner = cells.get("owner");
  return {
    element: h("tr", {}, ...cells.values()),
    update(queue) {
      tell(cells.get("messages"), short(queue.messages));
      tell(cells.get("bytes"), bytes(queue.bytes));
      tell(into, rate(queue.rates?.pushed));
      line.show(live.historyOf(label));
      tell(cells.get("out"), rate(queue.rates?.delivered));
      tell(cells.get("oldest"), queue.oldest_at ? shortSpan(live.age(queue.oldest_at)) : UNKNOWN);
      tell(cells.get("subscriptions"), count(queue.subscriptions));
      tell(cells.get("lag"), short(queue.largest_lag));
      tell(owner, queue.mom ? address(queue.mom) : "no MoM is up");
      owner.classList.toggle("bad", !queue.mom);
      tell(cells.get("epoch"), count(queue.epoch));
    },
  };
}
