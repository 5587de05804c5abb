// Edits of cells. What is typed is kept per row and column until it is filed or reverted: nothing else makes it go away.

import { ask, me } from "../api.js";
import { $, h, keep, kept } from "../dom.js";
import { plain, plural } from "../words.js";
import { finding } from "./cells.js";

const PAUSE_MS = 250;
const ROW = "";

export class Edits {
  #drafts = new Map();
  #open = null;
  #timer = 0;

  constructor(grid) {
    this.grid = grid;
    this.store = `ntro.drafts ${me()} ${grid.ledger}`;
    for (const [id, cells] of kept(sessionStorage, this.store, [])) this.#drafts.set(id, new Map(cells));
  }

  get open() {
    return this.#open !== null;
  }

  get count() {
    return this.#drafts.size;
  }

  of(id) {
    return this.#drafts.get(id);
  }

  /** Rows with drafts, in no order. */
  get ids() {
    return [...this.#drafts.keys()];
  }

  /** New values as the desk takes them, null for an emptied cell; null where the row has no draft. */
  values(id) {
    const drafts = this.#drafts.get(id);
    return drafts ? Object.fromEntries([...drafts].map(([column, draft]) => [column, draft.text === "" ? null : draft.text])) : null;
  }

  /** Begin in `column`, or in the first cell that has something to say: one with a finding, else the first that can be edited. */
  start(position, column) {
    const id = this.grid.index.id(position);
    const row = this.grid.rows.get(id);
    if (!row) return void this.grid.say("Still loading this row.");
    if (!this.grid.takesEdits(position)) return void this.grid.say("A row in this status cannot be edited.");
    if (row.waiting) return void this.grid.say(`${row.waiting.kind} by ${row.waiting.filed_by} is waiting on this row.`);
    const editable = this.#editable();
    const chosen =
      editable.find((each) => each.name === column) ?? editable.find((each) => row.findings.some((found) => found.field === each.name)) ?? editable[0];
    if (!chosen) return void this.grid.say("This subledger has no cells to edit.");
    this.#begin(position, id, row, chosen);
  }

  #begin(position, id, row, column) {
    this.close();
    this.grid.focus(position, this.grid.columns.indexOf(column));
    const cell = this.grid.cell(position, column.name);
    if (!cell) return;
    const draft = this.#drafts.get(id)?.get(column.name);
    const input = h("input", { class: "editor", value: draft?.text ?? plain(row.values[column.name]), "aria-label": column.title, spellcheck: "false", autocomplete: "off" });
    this.#open = { position, id, row, column, input, cell };
    cell.append(input);
    input.focus({ preventScroll: true });
    input.select();
    input.addEventListener("input", () => {
      this.#keep();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#check(id), PAUSE_MS);
    });
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("blur", () => this.#open?.input === input && this.close());
    this.#tell(id, column.name, cell, input);
  }

  // A list is no text to type: it is put right where it came from.
  #editable() {
    return this.grid.columns.filter((each) => each.editable && each.type !== "json");
  }

  #key(event) {
    const { position, id, row, column } = this.#open;
    if (event.isComposing) return;
    if (event.key === "Escape") {
      this.#keep();
      this.revert(id, column.name);
      this.close();
    } else if (event.key === "Tab") {
      const editable = this.#editable();
      const next = editable[editable.indexOf(column) + (event.shiftKey ? -1 : 1)];
      this.close();
      this.#check(id);
      if (next) this.#begin(position, id, row, next);
      else this.grid.focus(position);
    } else if (event.key === "Enter") {
      this.close();
      this.grid.focus(position);
      if (this.#drafts.has(id)) this.grid.decisions.fileEdit(id);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** Close the editor; what was typed stays as the row's draft. */
  close() {
    if (!this.#open) return;
    const { input, id, position } = this.#open;
    this.#keep();
    this.#open = null;
    clearTimeout(this.#timer);
    const focused = document.activeElement === input;
    input.remove();
    $("bubble").hidden = true;
    if (this.#drafts.has(id)) this.#check(id);
    this.grid.redraw(id);
    if (focused) this.grid.focus(position);
  }

  #keep() {
    const { id, row, column, input } = this.#open;
    const now = (this.grid.rows.get(id) ?? row).values[column.name];
    const drafts = this.#drafts.get(id) ?? new Map();
    if (input.value === plain(now)) drafts.delete(column.name);
    else drafts.set(column.name, { ...drafts.get(column.name), text: input.value });
    this.#put(id, drafts);
  }

  revert(id, column) {
    const drafts = this.#drafts.get(id);
    if (!drafts) return;
    if (column) drafts.delete(column);
    else drafts.clear();
    this.#put(id, drafts);
    this.grid.redraw(id);
  }

  /** The row's drafts were filed: the desk has them now. */
  filed(id) {
    this.#put(id, new Map());
  }

  /** What could not be filed, or was refused, is a draft again. Args: errors: by column, or one text for all. */
  restore(id, values, errors) {
    const drafts = this.#drafts.get(id) ?? new Map();
    for (const [column, value] of Object.entries(values)) {
      // Typed anew meanwhile: the newer one stays.
      if (drafts.has(column)) continue;
      const error = typeof errors === "string" ? errors : errors?.[column];
      drafts.set(column, { text: value ?? "", error });
    }
    this.#put(id, drafts);
    this.grid.redraw(id);
  }

  /** Errors by column, "" for the row as a whole. Draws them where they belong. */
  mark(id, fields) {
    const drafts = this.#drafts.get(id);
    if (!drafts) return;
    for (const [column, draft] of drafts) draft.error = fields[column];
    const rest = Object.entries(fields).filter(([column]) => !drafts.has(column));
    if (rest.length) {
      const last = [...drafts.values()].at(-1);
      if (last) last.error ??= rest.map(([column, message]) => (column === ROW ? message : `${column}: ${message}`)).join("; ");
    }
    this.#put(id, drafts);
    this.grid.redraw(id);
    if (this.#open?.id === id) this.#tell(id, this.#open.column.name, this.#open.cell, this.#open.input);
  }

  /** Ask the row type's own rules. @returns whether nothing is wrong; true too where nobody could be asked: filing asks again. */
  async #check(id) {
    const drafts = this.#drafts.get(id);
    const values = this.values(id);
    if (!values) return true;
    try {
      const { fields } = await ask("POST", `/v1/subledgers/${this.grid.ledger}/validate`, { id, values });
      // Filed meanwhile, and come back as new drafts: what they say by now is why they came back.
      const asked = this.#drafts.get(id) === drafts && JSON.stringify(this.values(id)) === JSON.stringify(values);
      if (asked) this.mark(id, fields);
      return Object.keys(fields).length === 0;
    } catch {
      return true;
    }
  }

  valid(id) {
    return this.#check(id);
  }

  #tell(id, column, cell, input) {
    const draft = this.#drafts.get(id)?.get(column);
    const row = this.grid.rows.get(id);
    const error = draft ? draft.error : row && finding(row, column);
    cell.classList.toggle("wrong", Boolean(error));
    input.toggleAttribute("aria-invalid", Boolean(error));
    if (error) input.setAttribute("aria-invalid", "true");
    this.grid.bubble(input, error ?? "");
  }

  #put(id, drafts) {
    if (drafts.size) this.#drafts.set(id, drafts);
    else this.#drafts.delete(id);
    keep(sessionStorage, this.store, [...this.#drafts].map(([row, cells]) => [row, [...cells]]));
    this.grid.statusLine();
  }
}

/** Before the page is left with drafts that this tab alone has. */
export function warnBeforeLeaving(edits) {
  addEventListener("beforeunload", (event) => {
    if (edits.open) edits.close();
    if (edits.count) event.preventDefault();
  });
}

export const draftsInWords = (count) => `${plural(count, "row")} edited, not filed`;
