// Which key does what. People may choose others; what they chose stays in this browser.

import { keep, kept, takesText } from "../dom.js";

const STORE = "ntro.keys";
const PAUSE_MS = 1200;

/** Every action of the grid: name, group in the legend, words, keys. `g i` is g, then i. */
export const ACTIONS = [
  ["down", "Move", "Next row", "j", "ArrowDown"],
  ["up", "Move", "Previous row", "k", "ArrowUp"],
  ["next_undecided", "Move", "Next row to decide", "J"],
  ["previous_undecided", "Move", "Previous row to decide", "K"],
  ["left", "Move", "Column to the left", "h", "ArrowLeft"],
  ["right", "Move", "Column to the right", "l", "ArrowRight"],
  ["page_down", "Move", "A screen down", "PageDown"],
  ["page_up", "Move", "A screen up", "PageUp"],
  ["first", "Move", "First row", "g g", "Home"],
  ["last", "Move", "Last row", "G", "End"],
  ["approve", "Decide", "Approve", "a"],
  ["reject", "Decide", "Reject", "x"],
  ["exclude", "Decide", "Exclude", "e"],
  ["accept", "Decide", "Accept, as it is or repaired", "c"],
  ["edit", "Decide", "Edit the cell", "Enter", "F2"],
  ["palette", "Decide", "Every decision on this row", "."],
  ["undo", "Decide", "Take my last decision back; reinstate what is rejected or excluded", "u"],
  ["assign", "Decide", "Assign to a member", "@"],
  ["select", "Select", "Select the row", " "],
  ["extend_down", "Select", "Extend downwards", "Shift+ArrowDown"],
  ["extend_up", "Select", "Extend upwards", "Shift+ArrowUp"],
  ["extend", "Select", "Moving selects, on and off", "v"],
  ["everything", "Select", "Everything that matches the filter", "*"],
  ["escape", "Select", "Drop the selection, revert the cell", "Escape"],
  ["filter", "Find", "Find in texts", "/"],
  ["assigned", "Find", "Rows assigned to me, on and off", "g m"],
  ["changed", "Find", "Changed since I looked, on and off", "g c"],
  ["looked", "Find", "I have looked at all of this", "L"],
  ["views", "Find", "Saved views", "s"],
  ["sort", "Find", "Sort by this column", "o"],
  ["reload", "Find", "Read the list again", "r"],
  ["document", "Look", "Document: open, close", "d"],
  ["next_tab", "Look", "Next tab of the detail", "t"],
  ["comment", "Look", "Comment", "m"],
  ["narrower", "Look", "Detail narrower", "["],
  ["wider", "Look", "Detail wider", "]"],
  ["legend", "Look", "These keys", "?"],
  ["inbox", "Go", "Inbox", "g i"],
  ["board", "Go", "Board", "g b"],
  ["trial_balance", "Go", "Trial balance of the row's month", "g t"],
  ["history", "Go", "History", "g h"],
].map(([name, group, words, ...keys]) => ({ name, group, words, keys }));

export class Keys {
  #chosen = kept(localStorage, STORE, {});
  #pending = "";
  #pendingSince = 0;

  /** @param run called with an action's name; @param quiet whether keys mean something else at the moment. */
  constructor(run, quiet) {
    this.asking = null;
    document.addEventListener("keydown", (event) => {
      if (this.asking) return void this.#answer(event);
      if (quiet() || takesText(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest?.(MEANS_ITSELF) && (event.key === "Enter" || event.key === " ")) return;
      if (event.target.closest?.('[role="tablist"]') && /^Arrow(Left|Right)$/.test(event.key)) return;
      const action = this.#action(event);
      if (!action) return;
      event.preventDefault();
      run(action, event);
    });
  }

  of(name) {
    return this.#chosen[name] ?? ACTIONS.find((action) => action.name === name)?.keys ?? [];
  }

  /** Give `name` another key instead of all it has. What had that key is named in the answer, and loses it. */
  change(name, key) {
    const loser = ACTIONS.find((action) => action.name !== name && this.of(action.name).includes(key));
    if (loser) this.#chosen[loser.name] = this.of(loser.name).filter((other) => other !== key);
    this.#chosen[name] = [key];
    keep(localStorage, STORE, this.#chosen);
    return loser ?? null;
  }

  reset() {
    this.#chosen = {};
    localStorage.removeItem(STORE);
  }

  /** The next key that is pressed, as its name; null for Escape. */
  ask() {
    return new Promise((resolve) => {
      this.asking = resolve;
    });
  }

  #answer(event) {
    if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const resolve = this.asking;
    this.asking = null;
    resolve(event.key === "Escape" ? null : keyName(event));
  }

  #action(event) {
    const key = keyName(event);
    const begun = performance.now() - this.#pendingSince < PAUSE_MS ? this.#pending : "";
    this.#pending = "";
    const said = begun ? `${begun} ${key}` : key;
    const found = ACTIONS.find((action) => this.of(action.name).includes(said));
    if (found) return found.name;
    if (ACTIONS.some((action) => this.of(action.name).some((other) => other.startsWith(`${key} `)))) {
      this.#pending = key;
      this.#pendingSince = performance.now();
      event.preventDefault();
      return null;
    }
    return begun ? this.#action(event) : null;
  }
}

const MEANS_ITSELF = "button, a, summary, [role=separator]";

function keyName(event) {
  return event.shiftKey && event.key.length > 1 ? `Shift+${event.key}` : event.key;
}

const SIGNS = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", " ": "Space", Escape: "Esc", PageDown: "PgDn", PageUp: "PgUp" };

/** `Shift+ArrowDown` -> `Shift ↓`. */
export const keySign = (key) =>
  key
    .split(/(?<=.)[+ ](?=.)/)
    .map((part) => SIGNS[part] ?? part)
    .join(" ");
