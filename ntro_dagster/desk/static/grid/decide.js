// Decisions: filed with the digest that was seen, shown as waiting at once, taken back where that still goes.

import { ask, me } from "../api.js";
import { sentence, plural, words } from "../words.js";
import { toast } from "../toast.js";
import { confirmBulk } from "./bulk.js";
import { showConflict } from "./conflict.js";
import { askReason } from "./reason.js";

const MOST_BY_ID = 10000;
const JUST_NOW_MS = 1000;

export class Decisions {
  #notes = new Map();
  #onTheWay = new Map();
  #mine = [];
  #queue = Promise.resolve();

  constructor(grid) {
    this.grid = grid;
  }

  note(id) {
    return this.#notes.get(id);
  }

  /** New values of the row that are filed and not applied yet. */
  onTheWay(id) {
    return this.#onTheWay.get(id);
  }

  /** Whether a decision of this page is being filed for the row, so that nobody is led there again. */
  busy(id) {
    return this.#notes.get(id)?.filing ?? false;
  }

  signal(kind) {
    return this.grid.type.signals.find((signal) => signal.kind === kind);
  }

  /** What takes back where the rows that are meant stand: the selected ones, else the present one. */
  takingBack() {
    const { grid } = this;
    const { everything, empty, ids } = grid.selection;
    const among = everything ? [...grid.index.tally()].filter(([, count]) => count).map(([status]) => status)
      : empty ? [grid.index.status(grid.position)] : [...ids].map((id) => grid.index.status(grid.index.position(id)));
    const leads = (kind) => among.some((status) => this.signal(kind)?.sources.includes(status));
    return !leads("undo") && leads("reinstate") ? "reinstate" : "undo";
  }

  /** What a key or the palette asks for: about the selection where there is one, else about the present row. */
  async decide(kind) {
    const { grid } = this;
    const signal = this.signal(kind);
    if (!signal) return void grid.say(`${grid.title} has no decision "${kind}".`);
    grid.edits.close();
    if (!grid.selection.empty) return this.#several(signal);
    return this.#one(signal);
  }

  async #one(signal) {
    const { grid } = this;
    const { kind } = signal;
    const id = grid.presentId;
    const row = id && grid.rows.get(id);
    if (!row) return void grid.say(id ? "Still loading this row." : "There is no row.");
    const values = grid.edits.values(id);
    if (values && kind === "approve") return this.fileEdit(id, { approving: true });
    if (values && !signal.takes_values) {
      return void grid.say("This row has an edit that is not filed: Enter on the cell files it, Esc reverts it.");
    }
    if (kind === "edit") return values ? this.fileEdit(id) : grid.edits.start(grid.position, grid.columnName);
    const why = this.#cannot(signal, row, grid.index.status(grid.position));
    if (why) return void grid.say(why);
    if (performance.now() - grid.movedAt(id) < JUST_NOW_MS) return void grid.say("This row has just changed. Look at it again.");
    const fine = values ? this.#valid(id) : undefined;
    const reason = signal.needs_reason ? await askReason(kind, { title: values ? "Repair and accept: why?" : undefined, fine }) : null;
    if (signal.needs_reason && !reason) return;
    if (values) grid.edits.filed(id);
    this.#file(kind, [row], { reason, values });
    grid.advance();
  }

  /** Why the row cannot take the decision, in words; "" where it can. */
  #cannot(signal, row, status) {
    if (signal.allowed === false) return "Your role may not do that.";
    if (row.waiting) return `${row.waiting.kind} by ${row.waiting.filed_by} is waiting on this row.`;
    if (this.busy(row.id)) return "A decision on this row is being filed.";
    if (signal.kind === "reinstate" && row.successor) return "Another row stands in its place already.";
    if (!signal.sources.includes(status)) {
      return `${sentence(signal.kind)} does not lead on from ${sentence(status)}. Press . for what does.`;
    }
    return "";
  }

  /** File the row's drafts. Approving with an open edit comes here too: who edits has made the row, and somebody else approves it. */
  async fileEdit(id, { approving = false } = {}) {
    const { grid } = this;
    const row = grid.rows.get(id);
    const values = grid.edits.values(id);
    if (!row || !values) return;
    // A row in doubt is edited to repair it: one act, one reason.
    const accept = this.signal("accept");
    if (grid.presentId === id && accept?.allowed && accept.sources.includes(row.status)) return this.#one(accept);
    const why = this.#cannot(this.signal("edit") ?? { sources: [], kind: "edit" }, row, grid.index.status(grid.index.position(id)));
    if (why) return void grid.say(why);
    const note = approving ? "Your edit is filed, not an approval: who edits a row has made it, and somebody else approves it." : undefined;
    const reason = await askReason("edit", { title: `Edit of ${Object.keys(values).map(sentence).join(", ")}: why?`, note, fine: this.#valid(id) });
    if (!reason) return;
    grid.edits.filed(id);
    this.#file("edit", [row], { reason, values });
    if (approving) toast("Edit filed. Somebody else approves this row.");
    if (grid.presentId === id) grid.advance();
  }

  // The dialog is gone before the cell is opened: it would take the keyboard back.
  async #valid(id) {
    const { grid } = this;
    const valid = await grid.edits.valid(id);
    if (!valid) {
      setTimeout(() => grid.focusWrong(id));
      grid.say("A value is not valid. See the cell.");
    }
    return valid;
  }

  async #several(signal) {
    const { grid } = this;
    const { kind } = signal;
    if (kind === "edit") return void grid.say("Cells are edited one row at a time. Esc drops the selection.");
    if (signal.allowed === false) return void grid.say("Your role may not do that.");
    const { everything } = grid.selection;
    const ids = everything ? null : [...grid.selection.ids];
    if (ids?.length > MOST_BY_ID) return void grid.say("That many rows are decided by filter: narrow it, then press *.");
    const drafts = grid.edits.ids.filter((id) => (everything ? grid.index.position(id) >= 0 : grid.selection.has(id)));
    if (drafts.length) return void grid.say(`${plural(drafts.length, "of these rows has an edit", "of these rows have edits")} that is not filed.`);
    const filter = grid.filter.body();
    const counting = async () => {
      const rows = ids && (await this.#seen(ids));
      const takers = rows?.filter((row) => !this.#cannot(signal, row, row.status) && !(kind === "approve" && row.made_by === me()));
      const summary = await ask("POST", `/v1/subledgers/${grid.ledger}/summary`, ids ? { kind, ids } : { kind, filter });
      return { summary, takers };
    };
    const answer = await confirmBulk(signal, counting(), grid.title);
    if (!answer) return;
    grid.selection.clear();
    if (answer.takers) this.#file(kind, answer.takers, { reason: answer.reason });
    else this.#fileMatching(kind, filter, answer.summary, answer.reason);
    grid.advance();
  }

  /** Rows as this page showed them; those it never showed are fetched before the summary is. */
  async #seen(ids) {
    const missing = ids.filter((id) => !this.grid.rows.get(id));
    const fetched = new Map((await this.grid.rows.now(missing)).map((row) => [row.id, row]));
    return ids.map((id) => this.grid.rows.get(id) ?? fetched.get(id)).filter(Boolean);
  }

  #file(kind, rows, { reason, values }) {
    for (const row of rows) {
      this.#notes.set(row.id, { filing: true, short: `… ${kind}`, look: "badge-accent", words: "being filed" });
      if (values) this.#onTheWay.set(row.id, values);
      this.grid.redraw(row.id);
    }
    // One after another: an undo must find what it undoes.
    this.#queue = this.#queue.then(() => this.#post(kind, rows, reason, values));
  }

  async #post(kind, rows, reason, values) {
    const { grid } = this;
    const body = { kind, reason, values: values ?? {}, rows: rows.map(({ id, digest }) => ({ id, digest })) };
    try {
      const { signals } = await ask("POST", `/v1/subledgers/${grid.ledger}/signals`, body);
      const ids = rows.map((row) => row.id);
      const filedAt = new Date().toISOString();
      for (const row of rows) {
        const signal = signals.find((each) => each.entity === row.entity && each.period === row.period) ?? signals[0];
        grid.rows.patch(row.id, { waiting: { signal_id: signal.id, kind, filed_by: me(), filed_at: filedAt } });
        this.#notes.delete(row.id);
      }
      this.#mine.push({ kind, ids, signals, values });
      grid.live.follow(signals, { kind, ids, values });
    } catch (error) {
      this.#notFiled(error, kind, rows, values);
    }
    for (const row of rows) grid.redraw(row.id);
    grid.statusLine();
  }

  #notFiled(error, kind, rows, values) {
    const { grid } = this;
    const moved = new Map((error.body?.rows ?? []).map((row) => [row.id, row]));
    for (const row of rows) {
      const why = moved.has(row.id) ? words(moved.get(row.id).code) : error.message;
      this.#notes.set(row.id, { short: "not filed", look: "badge-bad", words: `${kind} was not filed: ${why}` });
      this.#onTheWay.delete(row.id);
      if (values) grid.edits.restore(row.id, values, error.body?.fields ?? `not filed: ${why}`);
    }
    if (moved.size) return void showConflict(grid, kind, rows, moved);
    if (error.body?.fields) grid.edits.mark(rows[0].id, error.body.fields);
    grid.fail(error, `${sentence(kind)} was not filed`);
  }

  #fileMatching(kind, filter, summary, reason) {
    const { grid } = this;
    toast(`Filing ${kind} for ${plural(summary.count, "row")}.`);
    this.#queue = this.#queue.then(async () => {
      try {
        const { filed, signals } = await ask("POST", `/v1/subledgers/${grid.ledger}/signals`, { kind, reason, filter, seen: summary.seen });
        toast(`${sentence(kind)} filed for ${plural(filed, "row")}.`);
        this.#mine.push({ kind, ids: null, signals });
        grid.live.follow(signals, { kind, ids: null });
        grid.outdate();
      } catch (error) {
        if (error.status === 409 || error.code === "CONTENT_MOVED") {
          await grid.reload();
          toast(`Rows moved since you looked: ${words(error.code)}. Nothing was filed. Press * and look at the sums again.`, { loud: true });
        } else grid.fail(error, `${sentence(kind)} was not filed`);
      }
    });
  }

  /** What became of a signal of ours. */
  settled(signal, { kind, ids, values }) {
    const { grid } = this;
    const refused = new Map(signal.refused.map((row) => [row.row_id, row.code]));
    for (const [id, code] of refused) {
      this.#notes.set(id, { short: `${kind} refused`, look: "badge-bad", words: `${kind} was refused: ${words(code)}` });
      if (values) grid.edits.restore(id, values, `refused: ${words(code)}`);
    }
    for (const id of ids ?? []) this.#onTheWay.delete(id);
    if (refused.size) {
      const codes = [...new Set(refused.values())].map(words).join("; ");
      toast(`${sentence(kind)} refused for ${plural(refused.size, "row")}: ${codes}.`, { loud: true });
    } else if (signal.signed) toast(`Signed for ${plural(signal.signed, "row")}: the amount takes a second approver.`);
    else if (signal.rows > 1) toast(`${sentence(kind)} applied to ${plural(signal.applied, "row")}.`);
    grid.outdate(ids ?? undefined);
  }

  /** Withdraw the last decision; where it was applied, file its reverse if the lifecycle has one. */
  undo() {
    this.#queue = this.#queue.then(() => this.#undo());
    return this.#queue;
  }

  async #undo() {
    const { grid } = this;
    const row = grid.rows.get(grid.presentId ?? "");
    // Whoever went to a row that is final means that one.
    if (row && !row.successor && this.takingBack() === "reinstate" && row.waiting?.filed_by !== me()) return this.#one(this.signal("reinstate"));
    const mineHere = row?.waiting?.filed_by === me() ? { kind: row.waiting.kind, ids: [row.id], signals: [{ id: row.waiting.signal_id }] } : null;
    const last = this.#mine.pop() ?? mineHere;
    if (!last) return this.#reverse([row?.id].filter(Boolean), "You have no decision to take back here.");
    try {
      for (const signal of last.signals) await ask("POST", `/v1/signals/${signal.id}/withdraw`);
    } catch (error) {
      if (error.status === 409) return this.#reverse(last.ids, `${sentence(last.kind)} has been applied, and is final.`);
      this.#mine.push(last);
      return void grid.fail(error, "Not taken back");
    }
    grid.live.forget(last.signals);
    for (const id of last.ids ?? []) {
      this.#onTheWay.delete(id);
      grid.rows.patch(id, { waiting: null });
      if (last.values) grid.edits.restore(id, last.values);
    }
    grid.outdate(last.ids ?? undefined);
    if (last.ids) grid.goTo(last.ids[0]);
    toast(`${sentence(last.kind)} taken back${last.ids?.length === 1 ? "" : ` for ${last.ids ? plural(last.ids.length, "row") : "all rows"}`}.`);
  }

  async #reverse(ids, otherwise) {
    const { grid } = this;
    const now = ids?.length ? await grid.rows.now(ids.slice(0, MOST_BY_ID)).catch(() => []) : [];
    for (const [kind, what] of [["undo", (count) => `Take back ${plural(count, "approval")}`], ["reinstate", (count) => `Reinstate ${plural(count, "row")}`]]) {
      const signal = this.signal(kind);
      const rows = signal ? now.filter((row) => !this.#cannot(signal, row, row.status)) : [];
      if (!rows.length) continue;
      // Outside the queue: the person may take their time.
      return void askReason(kind, { title: `${what(rows.length)}: why?` }).then((reason) => reason && this.#file(kind, rows, { reason }));
    }
    grid.say(otherwise);
  }
}
