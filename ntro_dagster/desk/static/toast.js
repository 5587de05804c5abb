import { $, h } from "./dom.js";

const STAYS_MS = 6000;

/** Say something in passing. Errors are read out at once and stay until they are closed. */
export function toast(words, { loud = false, link } = {}) {
  const region = $(loud ? "alarms" : "toasts");
  const note = h("div", { class: loud ? "toast toast-loud" : "toast" }, h("span", {}, words));
  if (link) note.append(" ", h("a", link.attributes, link.words));
  if (loud) note.append(h("button", { type: "button", class: "quiet", "aria-label": "Close the message", onclick: () => note.remove() }, "✕"));
  else setTimeout(() => note.remove(), STAYS_MS);
  region.append(note);
  while (region.children.length > 4) region.firstChild.remove();
  return note;
}
