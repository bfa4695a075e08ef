// Rates over time, as SVG.

import { h, s, mark, tell } from "./dom.js";
import { moment, rate } from "./format.js";

/** The rates, as everything here names, colours and sums them. */
export const SERIES = [
  { key: "pushed", name: "Pushed", told: "messages committed" },
  { key: "delivered", name: "Delivered", told: "messages handed to subscribers, each one counted" },
  { key: "caught_up", name: "Catch-up", told: "of those delivered: read from the database, for subscribers that were behind" },
];

/** More than this between two samples is a gap: nobody knows what was in between. */
const GAP_MILLIS = 5_000;

/** What is shown of the past grows with what is known of it. */
const LEAST_MILLIS = 30_000;
const reach = (history, most) => Math.min(most, Math.max(LEAST_MILLIS, Date.now() - (history[0]?.at ?? 0)));

/** Steps between two times on the axis, in seconds. */
const STEPS = [5, 10, 15, 30, 60, 120];

/** A line without axes; `show(history)` draws it. */
export function sparkline(key, { width = 200, height = 44, most = 120_000 } = {}) {
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line" });
  const element = s("svg", {
    class: `spark series-${key}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true",
  }, area, line);
  const show = (history) => {
    const now = history.at(-1)?.at ?? 0;
    const millis = reach(history, most);
    const shown = history.filter((sample) => sample.at > now - millis && (sample[key] ?? null) !== null);
    const top = Math.max(1, ...shown.map((sample) => sample[key]));
    const points = shown.map((sample) => ({
      at: sample.at,
      x: width * (1 - (now - sample.at) / millis),
      y: height - 1.5 - (height - 3) * (sample[key] / top),
    }));
    mark(area, "d", paths(points, height));
    mark(line, "d", paths(points));
  };
  return { element, show };
}

/** A chart with axes, a legend and a readout where it is pointed at. */
export function chart({ height = 240, most = 300_000 } = {}) {
  const box = { left: 56, right: 14, top: 12, bottom: 26 };
  const grid = s("g", { class: "grid" });
  const lines = s("g");
  const notes = s("g", { class: "notes" });
  const hair = s("line", { class: "hair", y1: box.top, y2: height - box.bottom, hidden: true });
  const drawn = SERIES.map((one) => {
    const line = s("path", { class: `line series-${one.key}` });
    lines.append(line);
    return { ...one, line };
  });
  const svg = s("svg", { class: "chart", height, role: "img" }, grid, notes, lines, hair);
  const when = h("span", { class: "when" });
  const legend = h("ul", { class: "legend" });
  const figures = new Map(SERIES.map((one) => {
    const figure = h("b");
    legend.append(h("li", { title: one.told }, h("i", { class: `dot series-${one.key}`, "aria-hidden": "true" }), `${one.name} `, figure, " /s"));
    return [one.key, figure];
  }));
  const element = h("div", { class: "charted" }, h("div", { class: "over" }, legend, when), svg);

  let history = [];
  let marks = [];
  let top = 0;
  let pointed = null;

  svg.addEventListener("pointermove", (event) => {
    pointed = event.clientX - svg.getBoundingClientRect().left;
    draw();
  });
  svg.addEventListener("pointerleave", () => {
    pointed = null;
    draw();
  });
  const resized = new ResizeObserver(() => draw());
  resized.observe(svg);

  function draw() {
    const width = svg.clientWidth;
    if (width === 0) return;
    const now = history.at(-1)?.at ?? Date.now();
    const millis = reach(history, most);
    const [right, bottom] = [width - box.right, height - box.bottom];
    const x = (at) => right - (right - box.left) * ((now - at) / millis);
    const shown = history.filter((sample) => sample.at > now - millis);
    const highest = Math.max(1, ...shown.flatMap((sample) => SERIES.map((one) => sample[one.key] ?? 0)));
    // The scale changes rarely, so that one sees the line move and not the axis.
    if (highest > top || highest < top * 0.4) top = nice(highest * 1.08);
    const y = (value) => bottom - (bottom - box.top) * (value / top);

    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    grid.replaceChildren(
      ...[0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
        s("line", { x1: box.left, x2: right, y1: y(top * part), y2: y(top * part) }),
        s("text", { x: box.left - 8, y: y(top * part) + 4, "text-anchor": "end" }, rate(top * part)),
      ]),
      ...times(millis, (right - box.left) / 90).map((seconds) =>
        s("text", { x: x(now - seconds * 1000), y: height - 6, "text-anchor": seconds === 0 ? "end" : "middle" },
          seconds === 0 ? "now" : seconds % 60 === 0 ? `−${seconds / 60} min` : `−${seconds} s`)),
    );
    for (const { key, line } of drawn) {
      const points = shown.filter((sample) => (sample[key] ?? null) !== null)
        .map((sample) => ({ at: sample.at, x: x(sample.at), y: y(sample[key]) }));
      mark(line, "d", paths(points));
    }
    notes.replaceChildren(...marks.filter((one) => one.at > now - millis && one.at <= now).flatMap((one) => [
      s("line", { x1: x(one.at), x2: x(one.at), y1: box.top, y2: bottom }),
      s("text", { x: x(one.at) + (x(one.at) > width / 2 ? -6 : 6), y: box.top + 10, "text-anchor": x(one.at) > width / 2 ? "end" : "start" }, one.text),
    ]));
    const near = pointed === null ? null : shown.reduce((best, sample) =>
      best === null || Math.abs(x(sample.at) - pointed) < Math.abs(x(best.at) - pointed) ? sample : best, null);
    hair.toggleAttribute("hidden", near === null);
    if (near) {
      hair.setAttribute("x1", x(near.at));
      hair.setAttribute("x2", x(near.at));
    }
    const told = near ?? shown.at(-1) ?? {};
    for (const [key, figure] of figures) tell(figure, rate(told[key]));
    tell(when, near ? `at ${moment(near.at)}` : "");
    mark(svg, "aria-label", `Rates of the last minutes. Now, in messages a second: ${
      SERIES.map((one) => `${one.name.toLowerCase()} ${rate(shown.at(-1)?.[one.key])}`).join(", ")}.`);
  }

  return {
    element,
    /** Shows the samples, and what happened meanwhile: `{ at, text }`. */
    show(samples, happened) {
      history = samples;
      marks = happened;
      draw();
    },
    end: () => resized.disconnect(),
  };
}

/** Seconds ago that are written on an axis with room for so many. */
function times(millis, room) {
  const step = STEPS.find((seconds) => millis / 1000 / seconds <= room) ?? STEPS.at(-1);
  return Array.from({ length: Math.floor(millis / 1000 / step) + 1 }, (_, place) => place * step);
}

/** The path through the points, interrupted at gaps; closed down to `bottom` where that is given. */
function paths(points, bottom) {
  const runs = [];
  for (const point of points) {
    const run = runs.at(-1);
    if (run && point.at - run.at(-1).at < GAP_MILLIS) run.push(point);
    else runs.push([point]);
  }
  const there = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  return runs.map((run) => {
    const line = run.map(there).join("L");
    return bottom === undefined ? `M${line}${run.length === 1 ? "h.1" : ""}`
      : `M${run[0].x.toFixed(1)} ${bottom}L${line}L${run.at(-1).x.toFixed(1)} ${bottom}Z`;
  }).join("");
}

/** The next figure that divides well by four. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 6, 8, 10].find((step) => step * power >= value) * power;
}
