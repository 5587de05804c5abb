// How far this member has looked at a view: kept by the desk when the view is left, or when the member says so.

import { ask } from "../api.js";

export class Looks {
  constructor(grid) {
    this.grid = grid;
    addEventListener("pagehide", () => this.left());
  }

  /** A list that is narrowed to some of the view's rows says nothing of the others. */
  left() {
    const { q, status, group } = this.grid.filter.value;
    if (this.grid.index && !q && !status && !group) this.#tell().catch(() => {});
  }

  async all() {
    const { grid } = this;
    if (!grid.index) return;
    try {
      await this.#tell();
      grid.say("Marked as looked at.");
      if (grid.filter.value.group === "changed") await grid.reload();
      grid.outdate();
      grid.filter.countGroups();
    } catch (error) {
      grid.fail(error, "Not marked");
    }
  }

  #tell() {
    const { filter, index, ledger } = this.grid;
    const { entity, period } = filter.value;
    // The page may be gone before the answer is.
    return ask("POST", `/v1/subledgers/${ledger}/look`, { entity: entity || null, period: period || null, change: index.change }, { keepalive: true });
  }
}
