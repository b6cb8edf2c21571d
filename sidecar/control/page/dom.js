// Elements, and changes to them. Only what differs is written, and always as text: nothing here makes markup of a text.

"use strict";

const byId = (id) => document.getElementById(id);

const written = new WeakMap();

// Show `text` in an element that holds nothing else.
function put(node, text) {
  if (written.get(node) === text) return;
  written.set(node, text);
  node.textContent = text;
}

function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

// Set a data attribute, which the style looks at; null takes it away.
function mark(node, name, value) {
  if (value === null) delete node.dataset[name];
  else if (node.dataset[name] !== value) node.dataset[name] = value;
}

// Fill a bar to a share from 0 to 1. A style that a program sets is no inline style to a Content-Security-Policy.
function fill(bar, share) {
  const width = `${Math.round(Math.min(1, share) * 100)}%`;
  if (bar.firstElementChild.style.width !== width) bar.firstElementChild.style.width = width;
}

// Show one line of a list for each text.
function putList(list, texts) {
  const all = texts.join("\n");
  if (written.get(list) === all) return;
  written.set(list, all);
  list.replaceChildren(...texts.map((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
}

// Make the element of a template. Its parts are known by their `data-f`, the element itself is `node`. A part `toggle`
// opens and closes the part `inside`.
function made(template) {
  const node = byId(template).content.firstElementChild.cloneNode(true);
  const parts = { node };
  if (node.dataset.f) parts[node.dataset.f] = node;
  for (const part of node.querySelectorAll("[data-f]")) parts[part.dataset.f] = part;
  if (parts.toggle !== undefined) {
    parts.toggle.addEventListener("click", () => {
      parts.inside.hidden = !parts.inside.hidden;
      parts.toggle.setAttribute("aria-expanded", String(!parts.inside.hidden));
      redraw();
    });
  }
  return parts;
}

// Whoever works by keyboard must not be thrown back to the top: an element that was moved gets its focus back, and for one
// that is gone, hidden or disabled now the verdict does.
function keepFocus(focused) {
  const there = focused.isConnected && !focused.disabled && focused.closest("[hidden]") === null;
  if (there && focused === document.activeElement) return;
  (there ? focused : byId("verdict")).focus({ preventScroll: true });
}

// Elements that stand for things with a key: each is made once, changed as its thing changes, and goes with it.
class Rows {
  constructor(parent, template, change) {
    this.parent = parent;
    this.template = template;
    this.change = change;
    this.byKey = new Map();
  }

  show(things, keyOf) {
    const focused = document.activeElement;
    const gone = new Set(this.byKey.keys());
    const head = this.parent.querySelector(":scope > thead");
    let place = head === null ? this.parent.firstElementChild : head.nextElementSibling;
    for (const thing of things) {
      const key = keyOf(thing);
      gone.delete(key);
      let row = this.byKey.get(key);
      if (row === undefined) {
        row = made(this.template);
        this.byKey.set(key, row);
      }
      this.change(row, thing);
      if (row.node === place) place = place.nextElementSibling;
      else this.parent.insertBefore(row.node, place);
    }
    for (const key of gone) {
      this.byKey.get(key).node.remove();
      this.byKey.delete(key);
    }
    keepFocus(focused);
  }
}
