// Which rows are listed. All of it stands in the address, so that a list can be sent to somebody.

import { ask } from "../api.js";
import { $, h } from "../dom.js";
import { age, number, sentence } from "../words.js";

const NAMES = ["q", "entity", "period", "status", "group", "sort"];
const PAUSE_MS = 180;
const GROUPS = { "": "All", ready: "Ready", mine: "Needs me", waiting: "Waiting", assigned: "Assigned to me", changed: "Changed" };

export class Filter {
  #timer = 0;
  #groups = {};

  /** @param changed called when other rows are asked for */
  constructor(grid, changed) {
    this.grid = grid;
    this.changed = changed;
    this.form = $("filters");
    this.read();
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => {
      if (!["q", "entity", "period"].includes(event.target.name)) return;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#typed(), PAUSE_MS);
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.target.tagName !== "INPUT" || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      clearTimeout(this.#timer);
      event.target.blur();
      this.#typed();
      grid.focus(grid.position);
    });
    $("clear").addEventListener("click", () => this.set(Object.fromEntries(NAMES.map((name) => [name, ""]))));
    addEventListener("popstate", () => {
      this.read();
      this.changed(this.row);
    });
  }

  /** From the address. */
  read() {
    const query = new URLSearchParams(location.search);
    this.value = Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));
    this.row = query.get("row");
    for (const name of ["q", "entity", "period"]) this.form.elements[name].value = this.value[name];
  }

  get sort() {
    return this.value.sort;
  }

  get statuses() {
    return this.value.status ? this.value.status.split(",") : [];
  }

  /** For the list and its exports. */
  query() {
    return new URLSearchParams(Object.entries(this.value).filter(([, value]) => value));
  }

  /** For a summary or a decision. */
  body() {
    const { q, entity, period, group } = this.value;
    return { q: q || null, entity: entity || null, period: period || null, group: group || null, status: this.statuses };
  }

  set(changes) {
    const next = { ...this.value, ...changes };
    if (NAMES.every((name) => next[name] === this.value[name])) return;
    if (next.entity !== this.value.entity || next.period !== this.value.period) this.grid.looks.left();
    this.value = next;
    for (const name of ["q", "entity", "period"]) {
      if (this.form.elements[name] !== document.activeElement) this.form.elements[name].value = next[name];
    }
    history.pushState(null, "", this.#address());
    this.changed();
  }

  /** Put the present row into the address, so that it can be sent. */
  at(row) {
    this.row = row;
    clearTimeout(this.rowTimer);
    this.rowTimer = setTimeout(() => history.replaceState(null, "", this.#address()), 400);
  }

  #address() {
    const query = this.query();
    if (this.row) query.set("row", this.row);
    const text = query.toString();
    return text ? `?${text}` : location.pathname;
  }

  #typed() {
    const { q, entity, period } = this.form.elements;
    this.set({ q: q.value.trim(), entity: entity.value.trim(), period: period.validity.valid ? period.value.trim() : this.value.period });
  }

  focus() {
    this.form.elements.q.focus();
    this.form.elements.q.select();
  }

  sortBy(name) {
    const { sort } = this.value;
    this.set({ sort: sort === name ? `-${name}` : sort === `-${name}` ? "" : name });
  }

  draw(type, tally) {
    const chosen = this.statuses;
    $("statuses").replaceChildren(
      h("legend", {}, "Status"),
      ...type.statuses.map((status) => {
        const pressed = chosen.includes(status);
        const next = pressed ? chosen.filter((each) => each !== status) : [...chosen, status];
        const count = tally.get(status) ? h("span", { class: "count" }, number(tally.get(status))) : null;
        return h("button", { type: "button", "aria-pressed": String(pressed), "data-status": status, onclick: () => this.set({ status: next.join(",") }) }, sentence(status), count);
      }),
    );
    this.#drawGroups();
    $("clear").hidden = !NAMES.some((name) => this.value[name]);
    const query = this.query();
    $("export-csv").href = `/v1/subledgers/${this.grid.ledger}/export.csv?${query}`;
    $("export-xlsx").href = `/v1/subledgers/${this.grid.ledger}/export.xlsx?${query}`;
  }

  /** Entities and periods that rows were seen of, to choose from. */
  offer(rows) {
    for (const [list, name] of [["entities", "entity"], ["periods", "period"]]) {
      const known = new Set([...$(list).options].map((option) => option.value));
      for (const value of new Set(rows.map((row) => row[name]))) if (!known.has(value)) $(list).append(h("option", { value }));
    }
  }

  /** How many rows wait for whom, and since when the oldest does. */
  async countGroups() {
    const { entity, period } = this.value;
    const query = new URLSearchParams(Object.entries({ entity, period }).filter(([, value]) => value));
    this.#groups = await ask("GET", `/v1/subledgers/${this.grid.ledger}/groups?${query}`).catch(() => this.#groups);
    this.#drawGroups();
  }

  #drawGroups() {
    const focused = document.activeElement?.dataset.group;
    $("groups").replaceChildren(
      h("legend", {}, "Rows"),
      ...Object.entries(GROUPS).map(([group, title]) => {
        const { count, oldest } = this.#groups[group] ?? {};
        const told = count === undefined ? null : h("span", { class: "count", title: oldest ? `the oldest for ${age(oldest)}` : null }, oldest ? `${number(count)} · ${age(oldest)}` : number(count));
        const pressed = this.value.group === group;
        return h("button", { type: "button", "aria-pressed": String(pressed), "data-group": group, onclick: () => this.set({ group }) }, title, told);
      }),
    );
    if (focused !== undefined) $("groups").querySelector(`[data-group="${focused}"]`)?.focus();
  }
}
