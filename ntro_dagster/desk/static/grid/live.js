// What others and the runs do meanwhile: asked every second while something waits, every five seconds otherwise.

import { ask } from "../api.js";

const BUSY_MS = 1000;
const IDLE_MS = 5000;
const AWAY_MS = 20 * 60 * 1000;
const AT_ONCE = 100;

export class Live {
  #waiting = new Map();
  #timer = 0;
  #asking = false;
  #touched = Date.now();

  constructor(grid) {
    this.grid = grid;
    this.reachable = true;
    document.addEventListener("visibilitychange", () => !document.hidden && this.#soon(0));
    for (const sign of ["keydown", "pointerdown"]) document.addEventListener(sign, () => this.#here(), { passive: true });
  }

  get waiting() {
    return this.#waiting.size;
  }

  start() {
    this.#soon(IDLE_MS);
  }

  /** Look what becomes of these signals of ours. */
  follow(signals, decision) {
    for (const { id } of signals) this.#waiting.set(id, decision);
    this.#soon(BUSY_MS / 2);
  }

  forget(signals) {
    for (const { id } of signals) this.#waiting.delete(id);
  }

  // A page that nobody looks at does not ask: else it would keep its log-in alive for ever.
  #here() {
    const away = Date.now() - this.#touched > AWAY_MS;
    this.#touched = Date.now();
    if (away) this.#soon(0);
  }

  #soon(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), ms);
  }

  async #look() {
    if (this.#asking) return;
    if ((document.hidden || Date.now() - this.#touched > AWAY_MS) && !this.#waiting.size) return;
    this.#asking = true;
    try {
      await this.#signals();
      await this.#changes();
      if (!this.#waiting.size) this.grid.lookAgain();
      this.#reached(true);
    } catch (error) {
      // An answer, even a refusal, was heard; silence means that what is shown may be old.
      this.#reached(error.status !== undefined && error.status < 500);
    } finally {
      this.#asking = false;
      this.#soon(this.#waiting.size || this.grid.anyWaiting() ? BUSY_MS : IDLE_MS);
    }
  }

  #reached(reachable) {
    if (reachable === this.reachable) return;
    this.reachable = reachable;
    this.grid.statusLine();
  }

  async #signals() {
    const ids = [...this.#waiting.keys()].slice(0, AT_ONCE);
    if (!ids.length) return;
    for (const signal of await ask("GET", `/v1/signals?ids=${ids.join(",")}`)) {
      if (!(signal.applied_at || signal.withdrawn_at) || !this.#waiting.has(signal.id)) continue;
      const decision = this.#waiting.get(signal.id);
      this.#waiting.delete(signal.id);
      this.grid.decisions.settled(signal, decision);
    }
    this.grid.statusLine();
  }

  async #changes() {
    const { grid } = this;
    const { index } = grid;
    if (!index) return;
    const { change, rows, more } = await ask("GET", `/v1/subledgers/${grid.ledger}/changes?after=${index.change}`);
    if (grid.index !== index || change === index.change) return;
    if (more) return void (await grid.reload());
    index.change = change;
    grid.changed(rows);
  }
}
