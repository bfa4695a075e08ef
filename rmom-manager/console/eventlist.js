// Lines of the event log.

import { h } from "./dom.js";
import { time } from "./format.js";

const KINDS = {
  leader_changed: ["Leader", "plain"],
  mom_added: ["MoM added", "plain"],
  mom_removed: ["MoM removed", "plain"],
  mom_up: ["MoM up", "good"],
  mom_down: ["MoM down", "bad"],
  mom_draining: ["Draining", "warn"],
  mom_undrained: ["Undrained", "good"],
  mom_fenced: ["Fenced", "warn"],
  queue_created: ["Created", "good"],
  queue_deleted: ["Deleted", "bad"],
  queue_moved: ["Moved", "warn"],
  queue_purged: ["Purged", "bad"],
  rebalanced: ["Rebalanced", "plain"],
};

/** What a kind is called; one that a newer manager has is shown as it is. */
export const kindName = (kind) => KINDS[kind]?.[0] ?? kind.replaceAll("_", " ");

export const kinds = () => Object.keys(KINDS);

/** The line of one event. */
export function eventLine(event) {
  const tone = KINDS[event.kind]?.[1] ?? "plain";
  const known = event.kind.startsWith("queue_") && event.kind !== "queue_deleted";
  const subject = known
    ? h("a", { href: `#/queues/${encodeURIComponent(event.subject)}` }, event.subject)
    : event.subject;
  const line = h("li", { class: "happened" },
    time(event.at),
    h("span", { class: `badge ${tone}` }, kindName(event.kind)),
    h("span", { class: "what" }, h("b", {}, subject), event.text ? ` ${event.text}` : ""));
  return { element: line };
}
