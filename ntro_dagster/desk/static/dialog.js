// Modal dialogs: what was asked, one way out, focus back to where it was.

import { h } from "./dom.js";

/** Whether one is open, so that keys are its own. */
export const dialogOpen = () => document.querySelector("dialog[open]") !== null;

/**
 * @returns {{body, foot, close, done}} `done` resolves with what `close` was given, null when it was left
 */
export function dialog(title, { size = "" } = {}) {
  const before = document.activeElement;
  const body = h("div", { class: "dialog-body" });
  const foot = h("div", { class: "dialog-foot" });
  const heading = h("h2", { id: `dialog-${(number += 1)}` }, title);
  const leave = h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => close(null) }, "Esc");
  const element = h(
    "dialog",
    // Keys typed before there is anything to type into must not press the button that leaves.
    { class: size ? `dialog-${size}` : "", "aria-labelledby": heading.id, tabindex: "-1", autofocus: "" },
    h("div", { class: "dialog-head" }, heading, leave),
    body,
    foot,
  );
  let settle;
  const done = new Promise((resolve) => (settle = resolve));
  function close(value) {
    if (!element.isConnected) return;
    element.close();
    element.remove();
    if (before?.isConnected) before.focus({ preventScroll: true });
    settle(value ?? null);
  }
  element.addEventListener("cancel", (event) => {
    event.preventDefault();
    close(null);
  });
  document.body.append(element);
  element.showModal();
  return { element, body, foot, close, done };
}

let number = 0;

/**
 * An input with a list under it: typing narrows, arrows choose, Enter takes.
 * @param options [{value, words, end}] by what is typed
 * @param ready promise of there being something to choose from; an Enter before that takes what is first then
 */
export function chooser({ label, options, take, text = "", free = false, ready = null }) {
  const list = h("ul", { class: "options", role: "listbox", id: `options-${(number += 1)}` });
  const input = h("input", {
    type: "text", value: text, "aria-label": label, placeholder: label, role: "combobox", "aria-expanded": "true", "aria-controls": list.id,
    "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
  });
  let shown = [];
  let at = free ? -1 : 0;
  let early = false;

  function draw() {
    list.replaceChildren(
      ...shown.map((option, position) =>
        h(
          "li",
          { role: "option", id: `${list.id}-${position}`, "aria-selected": String(position === at), onclick: () => take(option.value) },
          h("span", {}, option.words),
          option.end ? h("span", { class: "end muted" }, option.end) : null,
        ),
      ),
    );
    if (at >= 0 && shown[at]) input.setAttribute("aria-activedescendant", `${list.id}-${at}`);
    else input.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }
  function narrow(typed) {
    shown = options(typed);
    at = free ? -1 : 0;
    draw();
  }
  input.addEventListener("input", () => narrow(input.value));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      at = Math.max(free ? -1 : 0, Math.min(shown.length - 1, at + step));
      if (free && at >= 0) input.value = shown[at].value;
      draw();
      event.preventDefault();
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (shown[at] && !free) take(shown[at].value);
      else if (free) take(input.value);
      else if (ready) early = true;
    }
  });
  narrow(free ? "" : text);
  ready?.then(() => {
    ready = null;
    narrow(input.value);
    if (early && shown[at]) take(shown[at].value);
  });
  return { input, list };
}
