// The overview: rates, totals, MoMs, what happened last.

import { askJson } from "./api.js";
import { SERIES, sparkline } from "./chart.js";
import { List, h, mark, tell } from "./dom.js";
import { eventLine } from "./eventlist.js";
import { UNKNOWN, address, bytes, count, moment, rate, several, short, shortSpan, span } from "./format.js";
import { complaint, confirm, empty, facts, field, momState, run, toast } from "./parts.js";

const EVENTS_SHOWN = 12;

export function overview(main, live) {
  const rates = SERIES.map((one) => {
    const figure = h("b");
    const line = sparkline(one.key);
    const most = h("span", { class: "most" });
    const element = h("section", { class: "card rate", "aria-label": `${one.name}, messages a second` },
      h("h2", {}, h("i", { class: `dot series-${one.key}`, "aria-hidden": "true" }), one.name, most),
      h("p", { class: "big", title: one.told }, figure, h("span", {}, " /s")),
      line.element);
    return { ...one, figure, line, most, element };
  });
  const totals = facts("Totals", [
    ["moms", "MoMs up"], ["queues", "Queues"], ["channels", "Channels"], ["subscriptions", "Subscriptions"],
    ["messages", "Messages retained"], ["bytes", "Size"],
  ]);
  const trouble = complaint();
  const cards = h("ul", { class: "moms" });
  const noMoms = empty("No MoM is registered", "Start one and add its external address here; queues need at least one.");
  noMoms.hidden = true;
  const rebalance = h("button", { type: "button", class: "quiet" }, "Rebalance");
  const add = addForm(trouble);
  const lines = h("ol", { class: "log card", reversed: true });
  const quiet = empty("Nothing has happened yet", "Failovers, moves and what is created or deleted are told here.");

  main.append(
    h("h1", { tabindex: "-1", class: "unseen" }, "Overview"),
    h("div", { class: "rates" }, ...rates.map((one) => one.element)),
    totals.element,
    h("section", { "aria-labelledby": "moms" },
      h("div", { class: "heading" }, h("h2", { id: "moms" }, "MoMs"), h("div", { class: "row" }, rebalance, add.opener)),
      add.form, trouble, cards, noMoms),
    h("section", { "aria-labelledby": "log" },
      h("div", { class: "heading" }, h("h2", { id: "log" }, "What happened last"), h("a", { href: "#/events" }, "All events")),
      lines, quiet));

  rebalance.addEventListener("click", () => run(rebalance, trouble, async () => {
    await askJson("POST", "/rebalance");
    toast("Queues move, as few as possible, until all MoMs have as many each.");
  }));

  const moms = new List(cards, (mom) => mom.id, () => momCard(live, trouble));
  const log = new List(lines, (event) => event.id, eventLine);

  const showEvents = () => {
    log.show(live.events.slice(0, EVENTS_SHOWN));
    lines.hidden = live.events.length === 0;
    quiet.hidden = live.events.length > 0;
  };
  const show = () => {
    const told = live.overview;
    if (!told) return;
    for (const { key, figure, line, most } of rates) {
      tell(figure, rate(told.rates?.[key]));
      line.show(live.history);
      const highest = Math.max(...live.history.slice(-120).map((sample) => sample[key] ?? 0));
      tell(most, `highest ${rate(highest)}`);
    }
    totals.set("moms", `${count(told.totals.moms_up)} of ${count(told.totals.moms)}`);
    for (const key of ["queues", "channels", "subscriptions", "messages"]) totals.set(key, short(told.totals[key]));
    totals.set("bytes", bytes(told.totals.bytes));
    const most = Math.max(1, ...told.moms.map((mom) => mom.queues));
    moms.show([...told.moms].sort((a, b) => address(a).localeCompare(address(b), "en", { numeric: true }))
      .map((mom) => ({ ...mom, share: mom.queues / most })));
    noMoms.hidden = told.moms.length > 0;
  };
  show();
  showEvents();
  return { title: "Overview", on: { overview: show, event: showEvents } };
}

const ago = (seconds) => seconds < 3 ? "just now" : `${shortSpan(seconds)} ago`;

/** The card of one MoM. */
function momCard(live, trouble) {
  const name = h("h3");
  const badge = h("span", { class: "badge" });
  const since = h("p", { class: "since" });
  const bar = h("span", { class: "share", title: "Its queues, beside the MoM that has the most", "aria-hidden": "true" }, h("i"));
  const figures = facts("Figures", [
    ["queues", "Queues"], ["pushed", "In /s"], ["delivered", "Out /s"],
    ["memory", "Memory"], ["connections", "Connections"], ["heartbeat", "Heartbeat"],
  ]);
  const drain = h("button", { type: "button", class: "quiet small" });
  const remove = h("button", { type: "button", class: "quiet small" }, "Remove");
  const element = h("li", { class: "card mom" },
    h("div", { class: "heading" }, name, badge), since, figures.element,
    h("div", { class: "row" }, bar, remove, drain));
  let mom = null;

  drain.addEventListener("click", () => run(drain, trouble, async () => {
    const verb = mom.draining ? "undrain" : "drain";
    mom = { ...mom, ...(await askJson("POST", `/moms/${mom.id}/${verb}`)) };
    update(mom);
    toast(mom.draining ? `The queues of ${address(mom)} move to others; it is given none.` : `${address(mom)} is given queues again.`);
  }));
  remove.addEventListener("click", () => confirm({
    title: `Remove ${address(mom)}?`,
    lost: ["The managers forget this MoM. It owns no queues, so no message is lost; it can be added again."],
    verb: "Remove it",
    work: () => askJson("DELETE", `/moms/${mom.id}`),
  }));

  function update(told) {
    mom = told;
    const { word, tone } = momState(mom);
    tell(name, address(mom));
    tell(badge, word);
    badge.className = `badge ${tone}`;
    element.classList.toggle("down", !mom.is_up);
    tell(since, `${mom.is_up ? "up" : "down"} for ${span(live.age(mom.since))}`);
    mark(since, "title", `since ${moment(mom.since)}${mom.uptime_secs ? `; the process runs for ${span(mom.uptime_secs)}` : ""}`);
    figures.set("queues", count(mom.queues));
    figures.set("pushed", rate(mom.rates?.pushed));
    figures.set("delivered", rate(mom.rates?.delivered));
    figures.set("memory", bytes(mom.resident_bytes));
    figures.set("connections", count(mom.connections));
    figures.set("heartbeat", mom.heartbeat_at ? ago(live.age(mom.heartbeat_at)) : UNKNOWN);
    if ("share" in mom) bar.firstElementChild.style.width = `${100 * mom.share}%`;
    tell(drain, mom.draining ? "Undrain" : "Drain");
    mark(drain, "aria-label", `${drain.textContent} ${address(mom)}`);
    mark(drain, "title", mom.draining ? "Give it queues again" : `Move its ${several(mom.queues, "queue")} to others and give it none`);
    mark(remove, "aria-label", `Remove ${address(mom)}`);
    // A manager refuses to remove one that owns queues.
    remove.hidden = mom.queues > 0 || (mom.is_up && !mom.draining);
  }
  return { element, update };
}

/** The form that adds a MoM, and the button that opens it. */
function addForm(trouble) {
  const host = h("input", { required: true, autocomplete: "off", spellcheck: "false", placeholder: "10.0.0.5" });
  const port = h("input", { required: true, type: "number", min: "1", max: "65535", placeholder: "50051" });
  const go = h("button", {}, "Add");
  const form = h("form", { class: "card inline", id: "add-mom", hidden: true, "aria-label": "Add a MoM" },
    field("External host", host), field("Port", port), go);
  const opener = h("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": "add-mom" }, "Add a MoM");
  const open = (whether) => {
    form.hidden = !whether;
    opener.ariaExpanded = String(whether);
    (whether ? host : opener).focus();
  };
  opener.addEventListener("click", () => open(form.hidden));
  form.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(go, trouble, async () => {
      const body = JSON.stringify({ host: host.value.trim(), port: Number(port.value) });
      const mom = await askJson("POST", "/moms", { body, headers: { "Content-Type": "application/json" } });
      toast(`${address(mom)} is registered; it is given queues once it is up.`);
      form.reset();
      open(false);
    });
  });
  return { form, opener };
}
