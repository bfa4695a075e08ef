// Figures, sizes and times as people read them.

import { h } from "./dom.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const calendar = new Intl.DateTimeFormat([], { dateStyle: "medium" });
const exact = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "long" });

/** What stands for a figure that is not known. */
export const UNKNOWN = "–";

export const count = (number) => (number ?? null) === null ? UNKNOWN : whole.format(number);

/** A figure that has to fit: 1.23M. */
export const short = (number) => (number ?? null) === null ? UNKNOWN
  : number < 100_000 ? whole.format(number) : brief.format(number);

/** Messages a second. */
export const rate = (number) => (number ?? null) === null ? UNKNOWN
  : number < 10 ? fine.format(number) : short(number);

/** "1 channel", "2 channels". */
export const several = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export function bytes(number) {
  if ((number ?? null) === null) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (number >= 1024 && at < units.length - 1) {
    number /= 1024;
    at += 1;
  }
  return `${(at > 0 && number < 10 ? fine : whole).format(number)} ${units[at]}`;
}

/** A length of time. */
export function span(seconds) {
  if ((seconds ?? null) === null || Number.isNaN(seconds)) return UNKNOWN;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** The same with one unit, where there is little room. */
export const shortSpan = (seconds) => span(seconds).replace(/^(\d+ (?:min|h|d)) .*/, "$1");

/** An instant: the time of day, and the day if it is another one. */
export function moment(at) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return UNKNOWN;
  const time = clock.format(date);
  return date.toDateString() === new Date().toDateString() ? time : `${calendar.format(date)}, ${time}`;
}

/** The same as an element that tells the rest where it is pointed at. */
export function time(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? h("span", {}, UNKNOWN)
    : h("time", { datetime: date.toISOString(), title: exact.format(date) }, moment(at));
}

export const address = (mom) => `${mom.host}:${mom.port}`;
