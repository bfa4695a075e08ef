// The one connection by which the manager tells what happens, and what is remembered of it.
//
// It is closed while nobody looks at the page: a browser has six connections to a server, for all of its tabs.

import { askJson } from "./api.js";

const HISTORY_MILLIS = 300_000;
const EVENTS_KEPT = 5_000;
/** Events that are asked for, in case that some were missed while nobody listened. */
const EVENTS_ASKED = 200;
/** The manager speaks every second, or somewhat less often if it has much to tell. One so silent is gone or frozen. */
const SILENCE_MILLIS = 8_000;
/** While its database is away each look takes as long as that takes to find out, and the next one is put off. */
const TROUBLED_SILENCE_MILLIS = 40_000;
const RETRY_MILLIS = [200, 500, 1_000, 2_000, 3_000];

/** The most queues that the manager sends at once. */
export const LIVE_QUEUES = 200;

/** Dispatches `overview`, `queues`, `queue`, `event`, `state` and, every second, `tick`. */
export class Live extends EventTarget {
  /** "connecting", "live", "lost", "paused", or "troubled": the manager answers, but has no figures. */
  state = "connecting";
  /** Why it is lost: "silent", "ended", or "refused" where something answers and tells nothing. Or a sentence. */
  reason = "";
  /** When the last figures came, by the clock of this page; null before the first. */
  heardAt = null;
  overview = null;
  queues = [];
  queue = null;
  /** The newest first. */
  events = [];
  /** What the rates were: `{ at, pushed, delivered, caught_up }`. */
  history = [];
  #histories = new Map();
  #label = null;
  #source = null;
  #retry = null;
  #tries = 0;
  #heardNothingSince = 0;
  /** The manager's clock less this page's. */
  #ahead = 0;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#look());
    window.addEventListener("pagehide", () => this.#close());
    window.addEventListener("pageshow", () => this.#look());
    window.addEventListener("online", () => this.retry());
    setInterval(() => this.#tick(), 1000);
    this.#look();
  }

  /** Have the details of a queue told as well, or of none. */
  watch(label) {
    if (label === this.#label) return;
    this.#label = label;
    this.queue = null;
    if (!document.hidden) this.#open();
  }

  /** Try again now. */
  retry() {
    if (this.state === "lost") this.#open();
  }

  /** Seconds since an instant of the manager's clock. */
  age(at) {
    return at ? Math.max(0, (Date.now() + this.#ahead - Date.parse(at)) / 1000) : null;
  }

  /** An instant of the manager's clock by the one of this page. */
  here(at) {
    return Date.parse(at) - this.#ahead;
  }

  /** What the rates of a queue were. */
  historyOf(label) {
    return this.#histories.get(label) ?? [];
  }

  /** Takes events that were asked for, beside those that were told. */
  addEvents(events) {
    const known = new Map([...events, ...this.events].map((event) => [event.id, event]));
    this.events = [...known.values()].sort((a, b) => b.id - a.id).slice(0, EVENTS_KEPT);
    this.#dispatch("event");
  }

  #look() {
    if (document.hidden) {
      this.#close();
      this.#become("paused");
    } else if (this.#source === null) {
      this.#open();
    }
  }

  #open() {
    this.#close();
    if (this.state === "paused") this.#become("connecting");
    const source = new EventSource(this.#label === null ? "/live" : `/live?queue=${encodeURIComponent(this.#label)}`);
    this.#source = source;
    this.#heardNothingSince = Date.now();
    const on = (name, take) => source.addEventListener(name, (event) => {
      if (source !== this.#source) return;
      this.#heardNothingSince = Date.now();
      this.#tries = 0;
      take(JSON.parse(event.data));
      this.#dispatch(name);
    });
    source.onopen = () => {
      askJson("GET", `/events?limit=${EVENTS_ASKED}`).then((events) => this.addEvents(events), () => {});
    };
    on("overview", (overview) => this.#takeOverview(overview));
    on("queues", (queues) => this.#takeQueues(queues));
    on("queue", (queue) => {
      this.queue = queue;
      if (!this.queues.some((one) => one.label === queue.label)) this.#remember(queue);
    });
    on("event", (event) => this.addEvents([event]));
    on("problem", ({ detail }) => {
      this.#become("troubled", detail);
    });
    source.onerror = () => {
      // Browsers give up by themselves where they are answered with an error.
      if (source !== this.#source) return;
      if (source.readyState === EventSource.CLOSED) this.#askWhy();
      else this.#lose("ended");
    };
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #lose(reason) {
    this.#close();
    // A stream that ends may just have come to its end, and goes on at the next try. While it is known what is wrong,
    // that is not worth another word.
    const isNews = this.#tries > 0 || reason !== "ended";
    if (isNews && !(this.state === "troubled" && reason === "refused")) this.#become("lost", reason);
    const pause = RETRY_MILLIS[Math.min(this.#tries, RETRY_MILLIS.length - 1)];
    this.#tries += 1;
    this.#retry = setTimeout(() => this.#open(), pause);
  }

  /** A stream that is refused does not say why to a page, but the same figures do. */
  async #askWhy() {
    this.#lose("refused");
    try {
      await askJson("GET", "/overview");
    } catch (error) {
      if (this.state === "lost" && error.status > 0) this.#become("troubled", error.message);
    }
  }

  #tick() {
    const patience = this.state === "troubled" ? TROUBLED_SILENCE_MILLIS : SILENCE_MILLIS;
    if (this.#source && Date.now() - this.#heardNothingSince > patience) this.#lose("silent");
    this.#dispatch("tick");
  }

  #become(state, reason = "") {
    if (state === this.state && reason === this.reason) return;
    this.state = state;
    this.reason = reason;
    this.#dispatch("state");
  }

  #takeOverview(overview) {
    this.overview = overview;
    this.heardAt = Date.now();
    this.#become("live");
    this.#ahead = Date.parse(overview.at) - Date.now();
    this.history = extend(this.history, overview.rates);
  }

  #takeQueues(queues) {
    this.queues = queues;
    for (const queue of queues) this.#remember(queue);
    if (queues.length < LIVE_QUEUES) {
      const there = new Set(queues.map((queue) => queue.label));
      for (const label of this.#histories.keys()) {
        if (!there.has(label) && label !== this.#label) this.#histories.delete(label);
      }
    } else if (this.#histories.size > 4 * LIVE_QUEUES) {
      this.#histories = new Map([...this.#histories].slice(-2 * LIVE_QUEUES));
    }
  }

  #remember(queue) {
    this.#histories.set(queue.label, extend(this.historyOf(queue.label), queue.rates));
  }

  #dispatch(name) {
    this.dispatchEvent(new Event(name));
  }
}

function extend(history, rates) {
  const at = Date.now();
  const first = history.findIndex((sample) => sample.at > at - HISTORY_MILLIS);
  return [...(first > 0 ? history.slice(first) : history), { at, ...rates }];
}
