// The table and where one is in it. Other modules ask it for the present row, and tell it what to draw again.

import { ask, send } from "../api.js";
import { $, h } from "../dom.js";
import { toast } from "../toast.js";
import { number, plural, sentence } from "../words.js";
import { columnsOf, drawRow, finding, makeHead, makeRow } from "./cells.js";
import { Decisions } from "./decide.js";
import { Detail } from "./detail.js";
import { draftsInWords, Edits } from "./edit.js";
import { Filter } from "./filter.js";
import { RowIndex } from "./index.js";
import { keySign } from "./keys.js";
import { Live } from "./live.js";
import { Looks } from "./looks.js";
import { Rows } from "./rows.js";
import { Selection } from "./selection.js";
import { SelectionBar } from "./selection_bar.js";
import { Window } from "./window.js";

const AHEAD = 120;
const MOVED_MS = 2500;
const GROUPS_MS = 10_000;

export class Grid {
  #moved = new Map();
  #reading = null;
  #countedAt = 0;
  #place = new Text();
  #said = null;

  constructor(ledger) {
    this.ledger = ledger;
    this.title = sentence(ledger);
    this.position = -1;
    this.column = 2;
    this.columns = [];
    this.elsewhere = 0;
    this.viewport = $("grid");
    this.rows = new Rows(ledger, (rows, moved) => this.#arrived(rows, moved), (error) => this.fail(error, "Rows could not be read"));
    this.selectionBar = new SelectionBar(this);
    this.selection = new Selection(() => this.#selected());
    this.edits = new Edits(this);
    this.decisions = new Decisions(this);
    this.detail = new Detail(this);
    this.live = new Live(this);
    this.looks = new Looks(this);
    this.filter = new Filter(this, (row) => this.#refiltered(row));
    this.window = new Window(this.viewport, $("grid-body"), {
      make: () => makeRow(this.columns),
      draw: (element, position) => this.#draw(element, position),
      looked: (first, last, step) => this.index && this.rows.want(this.index, step < 0 ? first - AHEAD : first, step < 0 ? last : last + AHEAD),
      left: (element) => this.#left(element),
    });
    this.viewport.addEventListener("mousedown", (event) => this.#clicked(event));
    this.viewport.addEventListener("dblclick", () => this.edits.start(this.position, this.columnName));
    this.viewport.addEventListener("focus", () => this.position >= 0 && this.window.element(this.position) && this.focus(this.position));
  }

  async start() {
    const types = await ask("GET", "/v1/subledgers");
    this.type = types.find((type) => type.name === this.ledger);
    if (!this.type) throw new Error("there is no such subledger");
    this.title = sentence(this.type.title || this.type.name);
    document.title = document.title.replace(/^Rows/, this.title);
    $("grid-title").textContent = this.title;
    this.undecided = this.type.statuses.filter((status) => this.type.open.includes(status) && this.#forPeople(status));
    await this.reload({ at: this.filter.row });
    this.live.start();
  }

  #forPeople(status) {
    return this.type.initial.includes(status) || this.type.signals.some((signal) => ["approve", "accept"].includes(signal.kind) && signal.sources.includes(status));
  }

  // -- the list

  /** Read the list again; the row that is present when it comes stays so where it is still in it. @param at another to go to */
  async reload({ at } = {}) {
    this.#reading?.abort();
    const reading = (this.#reading = new AbortController());
    this.viewport.setAttribute("aria-busy", "true");
    try {
      const answer = await send("GET", `/v1/subledgers/${this.ledger}/index?${this.filter.query()}`, undefined, { signal: reading.signal });
      const header = (name) => answer.headers.get(name) ?? "";
      const index = new RowIndex(await answer.arrayBuffer(), header("X-Ntro-Statuses").split(","), Number(header("X-Ntro-Change")));
      if (reading.signal.aborted) return;
      this.#take(index, at ?? this.presentId);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.fail(error, "The list could not be read");
      if (!this.index) this.#empty("The list could not be read.", error.message);
    }
    this.viewport.setAttribute("aria-busy", "false");
  }

  #take(index, before) {
    this.edits.close();
    this.index = index;
    this.elsewhere = 0;
    this.rows.outdate();
    this.columns = columnsOf(this.type, this.filter.value);
    this.column = Math.min(this.column, this.columns.length - 1);
    this.viewport.style.setProperty("--columns", this.columns.map((column) => column.width).join(" "));
    this.viewport.style.setProperty("--least", `${this.columns.reduce((all, column) => all + Number(/(\d+)px/.exec(column.width)[1]), 0)}px`);
    this.viewport.setAttribute("aria-rowcount", index.count + 1);
    this.viewport.setAttribute("aria-colcount", this.columns.length);
    $("grid-head").replaceChildren(makeHead(this.columns, this.filter.sort, (name) => this.filter.sortBy(name)));
    const found = before ? index.position(before) : -1;
    this.position = index.count ? Math.max(0, found >= 0 ? found : Math.min(this.position, index.count - 1)) : -1;
    this.window.rebuild();
    this.window.setCount(index.count);
    $("grid-empty").hidden = index.count > 0;
    if (!index.count) this.#empty("No rows.", this.filter.query().size ? "Nothing matches the filter." : "Nothing has come in yet.");
    this.filter.draw(this.type, index.tally());
    this.filter.countGroups();
    this.selectionBar.draw();
    if (this.position >= 0) this.goToPosition(this.position);
    else this.detail.show(null);
    this.statusLine();
  }

  #empty(words, why) {
    $("grid-empty").hidden = false;
    $("grid-empty").replaceChildren(h("h2", {}, words), h("p", { class: "muted" }, why));
  }

  #refiltered(row) {
    this.selection.clear();
    if (!row) this.position = 0;
    this.reload({ at: row });
  }

  // -- where one is

  get presentId() {
    return this.index && this.position >= 0 ? this.index.id(this.position) : null;
  }

  get columnName() {
    return this.columns[this.column]?.name;
  }

  cell(position, name) {
    return this.window.element(position)?.children[this.columns.findIndex((column) => column.name === name)] ?? null;
  }

  /** Move by rows. Args: extend: select what lies between. */
  move(by, { extend = false } = {}) {
    if (!this.index?.count) return;
    const from = this.position;
    const to = Math.max(0, Math.min(this.index.count - 1, from + by));
    if (extend || this.selection.extending) this.selection.extend(this.index, from, to);
    this.goToPosition(to);
  }

  goToPosition(position) {
    const before = this.position;
    this.position = position;
    this.window.show(position);
    if (before !== position) this.window.refresh(before);
    this.window.refresh(position);
    const id = this.index.id(position);
    this.detail.show(id);
    this.filter.at(id);
    this.statusLine();
    this.focus(position);
  }

  /** To a row of the list by its id; one that the filter leaves out is said to be. */
  goTo(id) {
    const position = this.index.position(id);
    if (position < 0) return void this.say("That row is not in this list.");
    this.goToPosition(position);
  }

  /** To the next row that nobody has decided, round the end; stays where there is none. */
  advance(step = 1) {
    const free = (at) => {
      const id = this.index.id(at);
      return !this.decisions.busy(id) && !this.rows.get(id)?.waiting;
    };
    let next = this.index.next(this.position + step, step, this.undecided, free);
    if (next < 0) next = this.index.next(step > 0 ? 0 : this.index.count - 1, step, this.undecided, free);
    if (next < 0) return void this.say("Nothing is left to decide in this list.");
    this.goToPosition(next);
  }

  toColumn(by) {
    this.column = Math.max(0, Math.min(this.columns.length - 1, this.column + by));
    this.window.refresh(this.position);
    this.focus(this.position);
    this.window.element(this.position)?.children[this.column].scrollIntoView({ inline: "nearest", block: "nearest" });
  }

  /** Put the keyboard into the present cell, unless it is in a field or a dialog. */
  focus(position, column = this.column) {
    if (column !== this.column) {
      this.column = column;
      this.window.refresh(position);
    }
    const cell = this.window.element(position)?.children[this.column];
    const active = document.activeElement;
    const elsewhere = active && active !== document.body && !this.viewport.contains(active) && active.closest("input, textarea, dialog, .tabs");
    if (!cell) return void this.viewport.focus({ preventScroll: true });
    if (elsewhere && !active.closest("#filters, .comment-form")) return;
    if (elsewhere && performance.now() - this.#typedAt(active) < 500) return;
    cell.focus({ preventScroll: true });
    this.#explain(position, cell);
  }

  // What is wrong with the cell one is on: of what is typed, else of what is there.
  #explain(position, cell) {
    const row = this.rows.get(this.index.id(position));
    const { name } = this.columns[this.column];
    const draft = row && this.edits.of(row.id)?.get(name);
    this.bubble(cell, draft ? (draft.error ?? "") : row ? finding(row, name) : "");
  }

  // A list that arrives while somebody types its filter must not take the field away.
  #typedAt(element) {
    return element.closest("#filters") && this.viewport.getAttribute("aria-busy") === "true" ? performance.now() : -Infinity;
  }

  /** What is wrong with a cell, under it. */
  bubble(cell, words) {
    const bubble = $("bubble");
    bubble.hidden = !words;
    if (!words) return void cell.removeAttribute("aria-describedby");
    bubble.textContent = words;
    cell.setAttribute("aria-describedby", "bubble");
    const { left, bottom } = cell.getBoundingClientRect();
    bubble.style.left = `${Math.max(4, Math.min(left, innerWidth - 390))}px`;
    bubble.style.top = `${bottom + 3}px`;
  }

  focusWrong(id) {
    const position = this.index.position(id);
    const wrong = [...(this.edits.of(id) ?? [])].find(([, draft]) => draft.error);
    if (position >= 0 && wrong) this.edits.start(position, wrong[0]);
  }

  #left(element) {
    if (element.querySelector("input.editor")) this.edits.close();
    $("bubble").hidden = true;
    this.viewport.focus({ preventScroll: true });
  }

  #clicked(event) {
    const cell = event.target.closest(".cell");
    const position = Number(cell?.closest(".grid-body .grid-row")?.dataset.position ?? -1);
    if (position < 0 || event.target.closest("input.editor")) return;
    event.preventDefault();
    this.column = [...cell.parentElement.children].indexOf(cell);
    if (event.shiftKey) this.selection.extend(this.index, this.position, position);
    else if (this.column === 0) this.pick(position);
    this.goToPosition(position);
  }

  // -- what is drawn

  #draw(element, position) {
    const id = this.index.id(position);
    const row = this.rows.get(id);
    const status = this.index.status(position);
    drawRow(element, this.columns, position, {
      id, row, status,
      present: position === this.position,
      selected: this.selection.has(id),
      column: this.column,
      drafts: this.edits.of(id),
      onTheWay: this.decisions.onTheWay(id),
      note: this.decisions.note(id),
      over: !this.type.open.includes(status),
      moved: this.#moved.get(id)?.columns,
    });
  }

  redraw(id) {
    const position = this.index?.position(id) ?? -1;
    if (position < 0) return;
    this.window.refresh(position);
    const cell = document.activeElement;
    if (position === this.position && cell?.matches(".grid-body .cell")) this.#explain(position, cell);
  }

  /** Fetch again what is shown of these rows, or of all. */
  outdate(ids) {
    this.rows.outdate(ids);
    this.window.paint();
    const present = this.presentId;
    if (present && (!ids || ids.includes(present))) this.detail.show(present, { again: true });
  }

  #arrived(rows, moved) {
    for (const { before, after } of moved) {
      const columns = new Set(Object.keys(after.values).filter((name) => JSON.stringify(after.values[name]) !== JSON.stringify(before.values[name])));
      this.#moved.set(after.id, { at: performance.now(), columns });
      setTimeout(() => this.#moved.delete(after.id), MOVED_MS);
    }
    for (const row of rows) {
      const position = this.index.position(row.id);
      if (position < 0) continue;
      this.index.setStatus(position, row.status);
      this.redraw(row.id);
    }
    this.filter.offer(rows);
    if (rows.some((row) => row.id === this.presentId)) this.statusLine();
  }

  /** When the content of a row last became another under one's eyes. */
  movedAt(id) {
    return this.#moved.get(id)?.at ?? -Infinity;
  }

  /** Rows that changed at the desk or in a run: new statuses at once, contents when they are looked at. */
  changed(rows) {
    const here = rows.filter((row) => this.index.position(row.id) >= 0);
    this.elsewhere += rows.length - here.length;
    for (const { id, status } of here) this.index.setStatus(this.index.position(id), status);
    this.outdate(here.map((row) => row.id));
    for (const { id } of here) this.redraw(id);
    this.filter.draw(this.type, this.index.tally());
    if (performance.now() - this.#countedAt > GROUPS_MS) {
      this.#countedAt = performance.now();
      this.filter.countGroups();
    }
    this.statusLine();
  }

  #onScreen() {
    const ids = [];
    for (let at = this.window.first; this.index && at <= this.window.last; at += 1) ids.push(this.index.id(at));
    return ids;
  }

  anyWaiting() {
    return this.#onScreen().some((id) => this.rows.get(id)?.waiting);
  }

  /** What others filed is no change of a row yet, so it is looked for. */
  lookAgain() {
    this.rows.outdate(this.#onScreen());
    this.window.paint();
  }

  // -- the selection

  pick(position = this.position) {
    if (position < 0 || this.selection.toggle(this.index.id(position), position)) return;
    this.say("Everything is selected. Esc drops that; narrow the filter to leave rows out.");
  }

  #selected() {
    this.window.refreshAll();
    this.selectionBar.draw();
  }

  takesEdits(position) {
    return this.type.signals.some((signal) => signal.kind === "edit" && signal.allowed !== false && signal.sources.includes(this.index.status(position)));
  }

  // -- what is said

  say(words) {
    toast(words);
  }

  fail(error, what = "That did not work") {
    toast(error.status === undefined ? `${what}: the desk cannot be reached.` : `${what}: ${error.message}.`, { loud: true });
  }

  statusLine() {
    const { index, edits, live } = this;
    if (!index) return;
    // Written at every key: what has not changed is left alone.
    const place = index.count ? `Row ${number(this.position + 1)} of ${number(index.count)}` : "No rows";
    if (this.#place.data !== place) this.#place.data = place;
    const said = [edits.count, live.waiting, live.reachable, this.elsewhere, this.keys ? 1 : 0].join();
    if (said === this.#said) return;
    this.#said = said;
    const key = (name) => h("kbd", {}, keySign(this.keys?.of(name)[0] ?? ""));
    const parts = [];
    if (edits.count) parts.push(h("span", { class: "draft-count" }, draftsInWords(edits.count)));
    if (live.waiting) parts.push(h("span", {}, `${plural(live.waiting, "decision")} waiting`));
    if (!live.reachable) parts.push(h("span", { class: "offline" }, "The desk cannot be reached: what you see may be old."));
    if (this.elsewhere) parts.push(h("button", { type: "button", class: "quiet", onclick: () => this.reload() }, `${plural(this.elsewhere, "row")} changed outside this list`));
    const hints = [["approve", "approve"], ["reject", "reject"], ["edit", "edit"], ["everything", "all"], ["legend", "keys"]];
    parts.push(h("span", { class: "hints" }, hints.map(([name, words]) => h("span", {}, key(name), ` ${words}`))));
    $("status-line").replaceChildren(h("span", {}, this.#place), ...parts);
  }

  /** Keys were changed, so what is said of them. */
  keysChanged() {
    this.#said = null;
    this.statusLine();
    this.selectionBar.draw();
  }
}
