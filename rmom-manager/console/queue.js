// One queue: what goes through it, its channels and subscriptions, its messages, and its end.

import { ask, askJson, queuePath } from "./api.js";
import { chart } from "./chart.js";
import { List, h, tell } from "./dom.js";
import { UNKNOWN, address, bytes, count, several, short, span } from "./format.js";
import { NAME, NO_TOPIC, complaint, confirm, facts, field, run, toast } from "./parts.js";
import { peek } from "./peek.js";

const SUBSCRIPTIONS_SHOWN = 50;

const topicName = (topic) => topic === NO_TOPIC || !topic ? "all topics" : topic;

export function queue(main, live, label) {
  let told = null;
  let gone = false;
  let hasLeft = false;
  const owner = h("p", { class: "owner" });
  const figures = facts("Figures", [
    ["messages", "Messages retained"], ["bytes", "Size"], ["oldest", "Oldest"], ["last", "Last sequence"],
    ["subscriptions", "Subscribers"], ["lag", "Largest lag"],
  ]);
  const flow = chart();
  const trouble = complaint();
  const missing = h("div", { class: "note bad", role: "status", hidden: true });
  const purge = h("button", { type: "button", class: "quiet" }, "Purge …");
  const remove = h("button", { type: "button", class: "danger outline" }, "Delete …");
  const channels = channelPart(label, () => told);
  const reading = peek(label, () => told);
  const pushing = pushPart(label, () => reading.refresh());
  const topics = h("datalist", { id: "topics" });

  const acts = h("div", { class: "row" }, purge, remove);
  const parts = [
    topics, figures.element,
    h("section", { class: "card padded", "aria-label": "Rates" }, flow.element),
    h("div", { class: "columns" },
      h("div", {}, reading.element),
      h("div", {}, pushing, channels.element)),
  ];
  const there = (whether) => {
    for (const part of [acts, owner, ...parts]) part.hidden = !whether;
    missing.hidden = whether;
  };

  main.append(
    h("nav", { class: "crumbs", "aria-label": "Where this is" }, h("a", { href: "#/queues" }, "Queues"), h("span", { "aria-hidden": "true" }, " / "), h("span", { "aria-current": "page" }, label)),
    h("div", { class: "heading" }, h("div", { class: "named" }, h("h1", { tabindex: "-1" }, label), owner), acts),
    missing, trouble, ...parts);

  const topicNames = new List(topics, (topic) => topic, (topic) => ({ element: h("option", { value: topic }) }));

  purge.addEventListener("click", () => run(purge, trouble, async () => {
    const now = await details();
    const done = await confirm({
      title: `Purge ${label}?`,
      lost: [
        now.messages === 0 ? "It retains no messages now; what is pushed before you agree is lost."
          : `${several(now.messages, "message")} (${bytes(now.bytes)}) will be lost, whether somebody has received them or not. This cannot be undone.`,
        `The queue, its ${several(now.channels, "channel")} and its subscribers stay; sequences go on from ${count(now.last_seq)}.`,
      ],
      verb: now.messages === 0 ? "Purge it" : `Lose ${several(now.messages, "message")}`,
      work: async () => {
        const { messages } = await askJson("DELETE", queuePath(label, "messages"));
        toast(`${several(messages, "message")} of ${label} removed.`);
      },
    });
    if (done) reading.refresh();
  }));
  remove.addEventListener("click", () => run(remove, trouble, async () => {
    const now = await details();
    const done = await confirm({
      title: `Delete ${label}?`,
      lost: [
        `${several(now.messages, "message")} (${bytes(now.bytes)}) and ${several(now.channels, "channel")} will be lost; ${ended(now)}.`,
        "This cannot be undone.",
      ],
      verb: "Delete the queue",
      work: () => ask("DELETE", queuePath(label)),
    });
    if (done) {
      gone = true;
      toast(`The queue ${label} is deleted.`);
      location.hash = "#/queues";
    }
  }));

  const details = () => askJson("GET", queuePath(label, "details"));

  function show(now) {
    if (now.label !== label) return;
    told = now;
    there(true);
    tell(owner, now.mom ? `at ${address(now.mom)}, epoch ${count(now.epoch)}` : `epoch ${count(now.epoch)}: no MoM is up that could have it`);
    owner.classList.toggle("bad", !now.mom);
    figures.set("messages", count(now.messages));
    figures.set("bytes", bytes(now.bytes));
    figures.set("oldest", now.oldest_at ? `${span(live.age(now.oldest_at))} ago` : UNKNOWN);
    figures.set("last", count(now.last_seq));
    figures.set("subscriptions", count(now.subscriptions));
    figures.set("lag", short(now.largest_lag));
    const moves = live.events.filter((event) => event.kind === "queue_moved" && event.subject === label);
    flow.show(live.historyOf(label), moves.map((event) => ({ at: live.here(event.at), text: "moved" })));
    channels.show(now);
    topicNames.show([...new Set(now.channel_list.map((channel) => channel.topic))].filter((topic) => topic && topic !== NO_TOPIC));
    reading.told();
  }

  async function load() {
    try {
      const now = await details();
      if (hasLeft) return;
      live.watch(label);
      show(now);
    } catch (error) {
      if (error.code !== "queue_not_found") throw error;
      if (hasLeft) return;
      live.watch(null);
      missing.replaceChildren(`There is no queue ${label} (any more). `, h("a", { href: "#/queues" }, "To all queues"));
      there(gone);
    }
  }

  const deleted = () => {
    const [event] = live.events;
    if (event?.kind === "queue_deleted" && event.subject === label && !gone) run(main, trouble, load);
  };
  run(main, trouble, load);
  return {
    title: label,
    on: {
      queue: () => live.queue && show(live.queue),
      event: deleted,
      // The manager refuses to tell of a queue that was deleted while nobody listened.
      state: () => live.state === "lost" && live.reason === "refused" && run(main, trouble, load),
    },
    leave() {
      hasLeft = true;
      flow.end();
      reading.end();
    },
  };
}

/** What becomes of those who receive from a queue that is deleted. */
function ended({ subscriptions }) {
  if ((subscriptions ?? null) === null) return "whether somebody is subscribed is not known";
  return subscriptions ? `${several(subscriptions, "subscription")} will end` : "nobody is subscribed";
}

/** Channels with their subscriptions. */
function channelPart(label, now) {
  const trouble = complaint();
  const topic = h("input", { ...NAME, list: "topics", placeholder: "all topics" });
  const create = h("button", {}, "Create");
  const form = h("form", { class: "tools", "aria-label": "Create a channel" }, field("Topic", topic, "optional"), create);
  const items = h("ul", { class: "channels" });
  const none = h("p", { class: "quiet-text" }, "No channel: nobody can subscribe yet.");
  const number = h("span", { class: "number" });

  const list = new List(items, (channel) => channel.id, (channel) => {
    const remove = h("button", { type: "button", class: "quiet small", "aria-label": `Delete the channel ${channel.id}, ${topicName(channel.topic)}` }, "Delete …");
    const readers = h("ul", { class: "readers" });
    const more = h("p", { class: "quiet-text" });
    const shown = new List(readers, (reader) => reader.place, () => {
      const peer = h("span", { class: "peer" });
      const lag = h("b");
      const seq = h("span", { class: "at" });
      return {
        element: h("li", {}, peer, seq, lag),
        update(reader) {
          tell(peer, reader.peer || "a subscriber");
          tell(seq, `at ${count(reader.seq)}`);
          tell(lag, reader.lag ? `${short(reader.lag)} behind` : "up to date");
          lag.className = reader.lag ? "warn" : "good";
        },
      };
    });
    remove.addEventListener("click", () => confirm({
      title: "Delete this channel?",
      lost: [
        `The channel ${channel.id} of ${label} (${topicName(channel.topic)}) and its id will be lost.`,
        channel.readers.length ? `${several(channel.readers.length, "subscription")} will end.` : "Nobody is subscribed to it now.",
        "No message is lost.",
      ],
      verb: "Delete the channel",
      work: () => ask("DELETE", `/channels/${encodeURIComponent(channel.id)}`),
    }));
    return {
      element: h("li", {}, h("div", { class: "channel" }, h("span", { class: "badge plain" }, topicName(channel.topic)), h("code", { title: "The id, by which one subscribes" }, channel.id), remove), readers, more),
      update(one) {
        channel = one;
        shown.show(one.readers.slice(0, SUBSCRIPTIONS_SHOWN));
        const left = one.readers.length - SUBSCRIPTIONS_SHOWN;
        tell(more, one.readers.length === 0 ? "nobody subscribed" : left > 0 ? `and ${several(left, "subscriber")} that ${left === 1 ? "is" : "are"} less far behind` : "");
        more.hidden = more.textContent === "";
      },
    };
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(create, trouble, async () => {
      const made = await askJson("PUT", queuePath(label, "channels", topic.value.trim() || NO_TOPIC));
      toast(`The channel ${made.id} is created.`);
      form.reset();
    });
  });

  return {
    element: h("section", { class: "card padded", "aria-labelledby": "channels" },
      h("div", { class: "heading" }, h("h2", { id: "channels" }, "Channels"), number), form, trouble, items, none),
    show(told) {
      const readers = new Map(told.channel_list.map((channel) => [channel.id, []]));
      // The slowest first.
      for (const reader of [...told.subscription_list].sort((a, b) => b.lag - a.lag)) readers.get(reader.channel_id)?.push(reader);
      for (const ofChannel of readers.values()) ofChannel.forEach((reader, place) => reader.place = place);
      list.show(told.channel_list.map((channel) => ({ ...channel, readers: readers.get(channel.id) })));
      none.hidden = told.channel_list.length > 0;
      tell(number, told.channels > told.channel_list.length ? `${count(told.channel_list.length)} of ${count(told.channels)}` : told.channels ? count(told.channels) : "");
    },
  };
}

/** The form that pushes a message. */
function pushPart(label, pushed) {
  const topic = h("input", { ...NAME, list: "topics", placeholder: "none" });
  const content = h("textarea", { rows: "4", spellcheck: "false" });
  const go = h("button", { title: "Ctrl+Enter" }, "Push");
  const trouble = complaint();
  const receipt = h("output", { class: "good" });
  const form = h("form", {}, field("Topic", topic, "optional"), field("Content", content), h("div", { class: "row end" }, receipt, go), trouble);
  content.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tell(receipt, "");
    run(go, trouble, async () => {
      const named = topic.value.trim();
      const path = `${queuePath(label, "messages")}${named ? `?topic=${encodeURIComponent(named)}` : ""}`;
      const { seq } = await askJson("POST", path, {
        body: new TextEncoder().encode(content.value), headers: { "Content-Type": "application/octet-stream" },
      });
      tell(receipt, `Committed with sequence ${count(seq)}`);
      content.value = "";
      pushed();
    });
  });
  return h("section", { class: "card padded", "aria-labelledby": "push" }, h("h2", { id: "push" }, "Push a message"), form);
}
