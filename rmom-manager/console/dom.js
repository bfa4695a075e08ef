// Elements without markup: all text becomes text nodes, so nothing that a message or a label holds is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element; an attribute that begins with "on" is a listener. */
export const h = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** An SVG element. */
export const s = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Changes a text only where it differs, so that a selection in it lasts. */
export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute where it differs, or removes it. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/**
 * Makes the children of an element those of a list: those that are there already are kept, with what is focused in
 * them. `make(item)` returns `{ element, update(item) }`.
 */
export class List {
  #parent;
  #key;
  #make;
  #parts = new Map();

  constructor(parent, key, make) {
    this.#parent = parent;
    this.#key = key;
    this.#make = make;
  }

  show(items) {
    const kept = new Map(items.map((item) => {
      const key = this.#key(item);
      return [key, this.#parts.get(key) ?? this.#make(item)];
    }));
    // These first: an element that is moved out of their way would lose the focus.
    for (const [key, part] of this.#parts) if (!kept.has(key)) part.element.remove();
    let place = this.#parent.firstElementChild;
    for (const item of items) {
      const part = kept.get(this.#key(item));
      part.update?.(item);
      if (part.element === place) place = place.nextElementSibling;
      else this.#parent.insertBefore(part.element, place);
    }
    this.#parts = kept;
  }
}
