// What rows say: fetched in windows around what is looked at, kept for the last few thousand.

import { ask } from "../api.js";

const WINDOW = 200;
const MOST_KEPT = 6000;
const SETTLE_MS = 30;

export class Rows {
  #kept = new Map();
  #onTheWay = new Set();
  #wanted = null;
  #timer = 0;

  /** @param arrived called with the ids that came, and of which the content is another than before. */
  constructor(ledger, arrived, failed) {
    this.ledger = ledger;
    this.arrived = arrived;
    this.failed = failed;
    this.stale = new Set();
  }

  get(id) {
    return this.#kept.get(id);
  }

  /** Ask for what is missing of positions `from` to `to`. Only the last range counts: nobody waits for what was scrolled past. */
  want(index, from, to) {
    this.#wanted = { index, from, to };
    if (!this.#timer) this.#timer = setTimeout(() => this.#fetchWanted(), SETTLE_MS);
  }

  /** These rows as they are now, fetched if need be. */
  async now(ids) {
    const found = [];
    for (let at = 0; at < ids.length; at += 500) found.push(...(await this.#fetch(ids.slice(at, at + 500))));
    return found;
  }

  /** Fetch again what is kept of these; without ids, everything when it is looked at again. */
  outdate(ids) {
    for (const id of ids ?? this.#kept.keys()) if (this.#kept.has(id)) this.stale.add(id);
  }

  /** Change what is kept of a row until the desk says what it is. */
  patch(id, changes) {
    const row = this.#kept.get(id);
    if (row) this.#kept.set(id, { ...row, ...changes });
  }

  async #fetchWanted() {
    this.#timer = 0;
    if (!this.#wanted || this.#onTheWay.size > WINDOW) return;
    const { index, from, to } = this.#wanted;
    const ids = [];
    for (let at = Math.max(0, from); at <= Math.min(to, index.count - 1) && ids.length < WINDOW; at += 1) {
      const id = index.id(at);
      if ((!this.#kept.has(id) || this.stale.has(id)) && !this.#onTheWay.has(id)) ids.push(id);
    }
    if (!ids.length) return;
    for (const id of ids) this.#onTheWay.add(id);
    try {
      await this.#fetch(ids);
    } catch (error) {
      this.failed(error);
      return;
    } finally {
      for (const id of ids) this.#onTheWay.delete(id);
    }
    this.#fetchWanted();
  }

  async #fetch(ids) {
    for (const id of ids) this.stale.delete(id);
    const { rows } = await ask("POST", `/v1/subledgers/${this.ledger}/rows`, { ids });
    const moved = [];
    for (const row of rows) {
      const before = this.#kept.get(row.id);
      if (before && before.digest !== row.digest) moved.push({ before, after: row });
      this.#kept.delete(row.id);
      this.#kept.set(row.id, row);
    }
    for (const id of this.#kept.keys()) {
      if (this.#kept.size <= MOST_KEPT) break;
      this.#kept.delete(id);
    }
    this.arrived(rows, moved);
    return rows;
  }
}
