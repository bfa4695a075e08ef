// The messages of a queue, looked at without taking any away.

import { askJson, queuePath } from "./api.js";
import { List, h, mark, tell } from "./dom.js";
import { bytes, count, time } from "./format.js";
import { NAME, NO_TOPIC, complaint, empty, field, run } from "./parts.js";

const LIMIT = 20;
/** Parts without a message of the topic that are passed over at once. */
const EMPTY_PARTS = 50;
const TEXT_SHOWN = 16_384;
const HEX_SHOWN = 4_096;
const PREVIEW = 160;

export function peek(label, now) {
  let after = null;
  let next = null;
  let asked = null;
  let found = { messages: [] };

  const from = h("input", { type: "number", min: "1", step: "1", placeholder: "newest", inputmode: "numeric" });
  const topic = h("input", { ...NAME, list: "topics", placeholder: "all" });
  const go = h("button", { class: "quiet" }, "Look");
  const form = h("form", { class: "tools", "aria-label": "Which messages" }, field("From sequence", from), field("Topic", topic), go);
  const [oldest, earlier, later, newest] = ["Oldest", "Earlier", "Later", "Newest"].map((name) =>
    h("button", { type: "button", class: "quiet small" }, name));
  const kind = h("fieldset", { class: "choice" }, h("legend", { class: "unseen" }, "Show contents as"), ...["text", "hex"].map((name) =>
    h("label", {}, h("input", { type: "radio", name: "content-as", value: name, checked: name === "text" }), h("span", {}, name === "hex" ? "Hex" : "Text"))));
  const items = h("ol", { class: "messages" });
  const none = empty("No message to see", "It retains none, or none of that topic from there on.");
  const trouble = complaint();
  const shown = h("p", { class: "number" });
  none.hidden = true;
  kind.addEventListener("change", () => items.dataset.as = kind.querySelector(":checked").value);
  items.dataset.as = "text";

  const list = new List(items, (message) => message.seq, (message) => entry(label, message));

  /** Shows the messages after a sequence; null is the newest ones. */
  async function look(start) {
    asked?.abort();
    asked = new AbortController();
    const { signal } = asked;
    const named = topic.value.trim();
    const newestOf = () => Math.max(0, (now()?.last_seq ?? 0) - LIMIT);
    after = Math.max(0, start ?? newestOf());
    const query = new URLSearchParams({ after, limit: LIMIT });
    if (named) query.set("topic", named);
    try {
      for (let parts = 0; parts < EMPTY_PARTS; parts += 1) {
        found = await askJson("GET", `${queuePath(label, "messages")}?${query}`, { signal });
        if (found.messages.length > 0 || (found.next_after ?? null) === null) break;
        query.set("after", found.next_after);
      }
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    next = found.next_after ?? null;
    list.show(found.messages);
    none.hidden = found.messages.length > 0;
    range();
    mark(later, "aria-disabled", next === null ? "true" : null);
    // The manager looks forward only, so where the last of a topic are is not known.
    mark(earlier, "aria-disabled", after === 0 || named ? "true" : null);
    mark(newest, "aria-disabled", named ? "true" : null);
  }

  /** Which messages are to be seen, and how many have come since. */
  function range() {
    const [first, last] = [found.messages[0], found.messages.at(-1)];
    // Of one topic it is not known.
    const newer = last && !topic.value.trim() ? (now()?.last_seq ?? 0) - last.seq : 0;
    tell(shown, first ? `${count(first.seq)} to ${count(last.seq)}${newer > 0 ? `, ${count(newer)} newer` : ""}` : "");
  }

  const by = (button, start) => button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") !== "true") look(start()).catch((error) => tell(trouble, error.message));
  });
  by(oldest, () => 0);
  by(earlier, () => Math.max(0, after - LIMIT));
  by(later, () => next);
  by(newest, () => null);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(go, trouble, () => look(from.value === "" ? (topic.value.trim() ? 0 : null) : Number(from.value) - 1));
  });

  let begun = false;
  return {
    element: h("section", { class: "card padded", "aria-labelledby": "messages" },
      h("div", { class: "heading" }, h("h2", { id: "messages" }, "Messages"), shown, kind),
      form, h("div", { class: "row" }, oldest, earlier, later, newest), trouble, items, none),
    /** The figures are there: now it is known what the newest messages are. */
    told() {
      range();
      if (begun) return;
      begun = true;
      run(go, trouble, () => look(null));
    },
    /** Something has changed: looks again, at the newest messages. */
    refresh: () => run(go, trouble, async () => {
      const told = await askJson("GET", queuePath(label, "details"));
      await look(Math.max(0, told.last_seq - LIMIT));
    }),
    end: () => asked?.abort(),
  };
}

/** One message; what it holds is unpacked when somebody opens it. */
function entry(label, message) {
  const content = Uint8Array.from(atob(message.content), (character) => character.charCodeAt(0));
  const text = decoded(content);
  const details = h("details", {},
    h("summary", {},
      h("span", { class: "seq" }, count(message.seq)),
      message.topic === NO_TOPIC ? null : h("span", { class: "badge plain" }, message.topic),
      h("span", { class: "preview" }, h("span", { class: "as-text" }, preview(text, content)), h("span", { class: "as-hex" }, hexLine(content.subarray(0, 24)))),
      h("span", { class: "size" }, bytes(message.size))));
  let opened = false;
  details.addEventListener("toggle", () => {
    if (!details.open || opened) return;
    opened = true;
    details.append(
      h("dl", { class: "meta" },
        h("div", {}, h("dt", {}, "Id"), h("dd", {}, h("code", {}, message.id))),
        h("div", {}, h("dt", {}, "Committed"), h("dd", {}, time(message.at))),
        ...Object.entries(message.headers).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("code", {}, value)))),
        h("div", {}, h("dd", {}, h("a", { href: queuePath(label, "messages", message.seq), download: `${label}-${message.seq}` }, "Download")))),
      h("pre", { class: "as-text", tabindex: "0", "aria-label": `Content of message ${message.seq} as text` }, text === null ? "This is not text; look at it as hex, or download it." : cut(text, TEXT_SHOWN)),
      h("pre", { class: "as-hex", tabindex: "0", "aria-label": `Content of message ${message.seq} as hex` }, hex(content)));
  });
  return { element: h("li", {}, details) };
}

/** The content as text, or null if it is none. */
function decoded(content) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(content);
    return /[\0-\x08\x0e-\x1a\x1c-\x1f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

function preview(text, content) {
  if (content.length === 0) return "empty";
  return text === null ? hexLine(content.subarray(0, 24)) : text.slice(0, PREVIEW).replace(/\s+/g, " ");
}

const cut = (text, limit) => text.length > limit ? `${text.slice(0, limit)}\n… the rest is in the download` : text;

const hexLine = (part) => [...part].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");

function hex(content) {
  const lines = [];
  for (let at = 0; at < Math.min(content.length, HEX_SHOWN); at += 16) {
    const part = content.subarray(at, at + 16);
    const letters = [...part].map((byte) => byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·").join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hexLine(part).padEnd(48)} ${letters}`);
  }
  if (content.length > HEX_SHOWN) lines.push("… the rest is in the download");
  return lines.join("\n");
}
