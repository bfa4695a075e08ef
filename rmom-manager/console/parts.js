// What several views have: notes of what was done, questions before something is lost, states.

import { h, tell } from "./dom.js";

/** How the interface spells that a message or channel has no topic. */
export const NO_TOPIC = "__none__";

/** What is legal in a label or topic, for a field. */
export const NAME = {
  autocomplete: "off",
  spellcheck: "false",
  maxlength: "255",
  pattern: "[A-Za-z0-9._:\\-]+",
  title: "1 to 255 of the characters a-z A-Z 0-9 . _ - :",
};

let hiding = null;

/** Says in passing that something was done. */
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  clearTimeout(hiding);
  hiding = setTimeout(() => place.textContent = "", 6_000);
}

/** Runs what a button stands for, once at a time; what goes wrong is said in `output`. */
export async function run(button, output, work) {
  if (button.ariaDisabled === "true") return;
  // Not `disabled`: that would take the focus away.
  button.ariaDisabled = "true";
  if (output) tell(output, "");
  try {
    await work();
  } catch (error) {
    const text = error.message || String(error);
    if (output) tell(output, text);
    else toast(text);
  } finally {
    button.ariaDisabled = null;
  }
}

/** A place where it is said what went wrong. */
export const complaint = () => h("output", { class: "bad", role: "alert" });

/**
 * Asks before something is lost. `lost` are sentences that name it; `work` is done if the user agrees, and the dialog
 * stays open with the reason if it fails. Returns whether it was done.
 */
export function confirm({ title, lost, verb, work }) {
  const trouble = complaint();
  const keep = h("button", { type: "button", class: "quiet", autofocus: true }, "Cancel");
  const go = h("button", { type: "button", class: "danger" }, verb);
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-lost" },
    h("h2", { id: "dialog-title" }, title),
    h("div", { id: "dialog-lost" }, ...lost.map((sentence) => h("p", {}, sentence))),
    trouble,
    h("div", { class: "row end" }, keep, go));
  return new Promise((resolve) => {
    let done = false;
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
    keep.addEventListener("click", () => dialog.close());
    go.addEventListener("click", () => run(go, trouble, async () => {
      await work();
      done = true;
      dialog.close();
    }));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** The state of a MoM: by word and shape, not by colour alone. */
export function momState(mom) {
  if (!mom.is_up) return { word: "Down", tone: "bad" };
  return mom.draining ? { word: "Draining", tone: "warn" } : { word: "Up", tone: "good" };
}

/** A definition list of figures: `set(key, text, title)` changes one. */
export function facts(label, entries) {
  const figures = new Map();
  const element = h("dl", { class: "facts", "aria-label": label }, ...entries.map(([key, name]) => {
    const figure = h("dd", {}, "–");
    figures.set(key, figure);
    return h("div", {}, h("dt", {}, name), figure);
  }));
  return { element, set: (key, text) => tell(figures.get(key), text) };
}

/** What stands where there is nothing yet. */
export const empty = (title, text) => h("div", { class: "empty" }, h("strong", {}, title), h("p", {}, text));

let ids = 0;

/** A field with its name above it. */
export function field(name, control, hint) {
  ids += 1;
  control.id ||= `field-${ids}`;
  return h("label", { class: "field", for: control.id }, h("span", {}, name, hint ? h("small", {}, ` ${hint}`) : null), control);
}
