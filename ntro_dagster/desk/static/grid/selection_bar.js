// What is selected, and what a decision about all of it would come to.

import { ask } from "../api.js";
import { $, h } from "../dom.js";
import { money, number, plural, sentence } from "../words.js";
import { keySign } from "./keys.js";

const LIKELY = ["approve", "accept"];

export class SelectionBar {
  #asked = 0;

  constructor(grid) {
    this.grid = grid;
    this.bar = $("selection-bar");
  }

  draw() {
    const { grid } = this;
    const turn = (this.#asked += 1);
    this.bar.hidden = !grid.selection || grid.selection.empty;
    if (this.bar.hidden) return;
    const { everything, ids } = grid.selection;
    const told = h("span", {});
    const count = everything ? grid.index.count : ids.size;
    const keys = grid.type.signals
      .filter((signal) => signal.allowed !== false && signal.kind !== "edit" && grid.keys.of(signal.kind).length)
      .map((signal) => h("span", {}, h("kbd", {}, keySign(grid.keys.of(signal.kind)[0])), ` ${signal.kind.replaceAll("_", " ")}`));
    this.bar.replaceChildren(h("strong", {}, everything ? `Everything that matches: ${plural(count, "row")}` : `${plural(count, "row")} selected`), told, ...keys,
      h("span", {}, h("kbd", {}, keySign(".")), " others"), h("span", {}, h("kbd", {}, "Esc"), " none"));
    if (everything) this.#sum(turn, told);
  }

  // Counted for the decision that most of the rows wait for; the dialog counts again for the one that is taken.
  async #sum(turn, told) {
    const tally = this.grid.index.tally();
    const takes = (each) => each.sources.reduce((all, status) => all + tally.get(status), 0);
    const may = this.grid.type.signals.filter((each) => each.allowed !== false && LIKELY.includes(each.kind));
    const signal = may.toSorted((one, other) => takes(other) - takes(one) || LIKELY.indexOf(one.kind) - LIKELY.indexOf(other.kind))[0];
    if (!signal) return;
    told.textContent = "adding up …";
    try {
      const summary = await ask("POST", `/v1/subledgers/${this.grid.ledger}/summary`, { kind: signal.kind, filter: this.grid.filter.body() });
      if (turn !== this.#asked) return;
      const totals = Object.entries(summary.totals).map(([currency, total]) => `${currency} ${money(total)}`);
      const skipped = summary.skipped.reduce((all, each) => all + each.count, 0);
      told.textContent = [`${sentence(signal.kind)}: ${number(summary.count)}`, ...totals, skipped ? `${number(skipped)} left out` : "", `${number(summary.findings)} with findings`].filter(Boolean).join(" · ");
    } catch (error) {
      told.textContent = `not added up: ${error.message}`;
    }
  }
}
