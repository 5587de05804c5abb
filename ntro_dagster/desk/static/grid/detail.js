// The row beside the table: where it came from, what was changed, what happened, what was said.

import { ask } from "../api.js";
import { $, h, keep, kept } from "../dom.js";
import { plain, sentence, shown, when, words } from "../words.js";
import { colour, finding } from "./cells.js";
import { Source } from "./document.js";

const SETTLE_MS = 120;
const TABS = { document: "Document", changes: "Changes", timeline: "Timeline", comments: "Comments" };
const WIDTH = "ntro.detail";

export class Detail {
  #timer = 0;
  #asked = null;
  #story = null;
  #said = new Map();

  constructor(grid) {
    this.grid = grid;
    this.tab = kept(localStorage, "ntro.tab", "document");
    if (!(this.tab in TABS)) this.tab = "document";
    this.source = new Source();
    this.head = h("div", { class: "row-head" });
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "About the row" });
    this.panel = h("div", { class: "tab-panel", role: "tabpanel", tabindex: "0", id: "tab-panel" });
    $("detail").replaceChildren(this.head, this.tabs, this.panel);
    this.tabs.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.turn(step);
      this.tabs.querySelector('[aria-selected="true"]').focus();
    });
    this.width = kept(localStorage, WIDTH, 38);
    this.#resize(0);
    this.#splitter();
  }

  get open() {
    return !$("panes").classList.contains("panes-alone");
  }

  /** Show the row, once nobody has moved on for a moment. */
  show(id, { again = false } = {}) {
    if (!again && id === this.id) return;
    this.id = id;
    clearTimeout(this.#timer);
    this.#asked?.abort();
    if (!id) return this.#draw(null);
    this.#timer = setTimeout(() => this.#fetch(id), SETTLE_MS);
  }

  async #fetch(id) {
    if (!this.open) return;
    this.#asked = new AbortController();
    try {
      const story = await ask("GET", `/v1/subledgers/${this.grid.ledger}/rows/${id}`, undefined, { signal: this.#asked.signal });
      if (this.id === id) this.#draw(story);
    } catch (error) {
      if (error.name !== "AbortError") this.panel.replaceChildren(h("p", { class: "notice notice-bad" }, `The row could not be read: ${error.message}.`));
    }
  }

  toggle() {
    $("panes").classList.toggle("panes-alone");
    if (this.open) this.show(this.id, { again: true });
  }

  turn(step) {
    const names = Object.keys(TABS);
    this.pick(names[(names.indexOf(this.tab) + step + names.length) % names.length]);
  }

  pick(tab) {
    this.tab = tab;
    keep(localStorage, "ntro.tab", tab);
    this.#drawTabs();
    this.#drawPanel();
  }

  comment() {
    if (!this.open) this.toggle();
    this.pick("comments");
    this.panel.querySelector("textarea")?.focus();
  }

  wider(step) {
    this.#resize(step * 4);
  }

  #resize(by) {
    this.width = Math.max(18, Math.min(70, this.width + by));
    $("panes").style.setProperty("--detail", `${this.width}%`);
    $("splitter").setAttribute("aria-valuenow", Math.round(this.width));
    keep(localStorage, WIDTH, this.width);
  }

  #splitter() {
    const splitter = $("splitter");
    splitter.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: 2, ArrowRight: -2 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.#resize(step);
    });
    splitter.addEventListener("pointerdown", (event) => splitter.setPointerCapture(event.pointerId));
    splitter.addEventListener("pointermove", (event) => {
      if (!splitter.hasPointerCapture(event.pointerId)) return;
      const { right, width } = $("panes").getBoundingClientRect();
      this.#resize(((right - event.clientX) / width) * 100 - this.width);
    });
  }

  #draw(story) {
    this.#keepComment();
    this.#story = story;
    this.#drawHead();
    this.#drawTabs();
    this.#drawPanel();
  }

  #drawHead() {
    const row = this.#story;
    this.tabs.hidden = !row;
    if (!row) return void this.head.replaceChildren(h("p", { class: "muted" }, "No row."));
    const made = row.made_by ? `made by ${row.made_by}` : "";
    const approved = row.approved_by ? `approved by ${row.approved_by}` : "";
    const findings = row.findings.map((found) => h("li", { class: "finding" }, `${found.field ? `${sentence(found.field)}: ` : ""}${found.message}`));
    const held = row.held ? h("li", { class: "finding" }, `Not posted: ${words(row.held.code)}${row.held.detail ? ` (${row.held.detail})` : ""}. It is tried again when the row, the chart, a rate or the runbook changes.`) : null;
    const twins = row.duplicates.map((twin) =>
      h("li", { class: "twin" }, "Looks the same as ", h("a", { href: `?row=${twin.id}` }, `${twin.period} ${shortRef(twin.source_ref)}`), `, ${sentence(twin.status)}`, twin.posted_journal_ref ? `, journal ${twin.posted_journal_ref}` : ""));
    const kin = row.timeline.filter((step) => step.row).map((step) => h("li", { class: "twin" }, ...otherOf(step)));
    this.head.replaceChildren(
      h("h2", {}, `${row.entity} · ${row.period}`),
      h("div", { class: "badges" }, h("span", { class: `badge ${colour(row.status)}` }, sentence(row.status)),
        row.waiting ? h("span", { class: "badge badge-accent" }, `${row.waiting.kind} by ${row.waiting.filed_by} waits`) : null,
        [made, approved].filter(Boolean).map((text) => h("span", { class: "badge" }, text))),
      h("ul", {}, held, findings, twins, kin),
    );
  }

  #drawTabs() {
    const counts = { timeline: this.#story?.timeline.length, comments: this.#story?.comments.length, changes: this.#story?.edits.length };
    const buttons = Object.entries(TABS).map(([name, title]) =>
      h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "tab-panel", "aria-selected": String(name === this.tab), tabindex: name === this.tab ? "0" : "-1", onclick: () => this.pick(name) },
        counts[name] ? `${title} ${counts[name]}` : title));
    this.tabs.replaceChildren(...buttons);
    this.panel.setAttribute("aria-labelledby", `tab-${this.tab}`);
  }

  #drawPanel() {
    this.#keepComment();
    this.panel.classList.toggle("flush", this.tab === "document");
    const row = this.#story;
    if (!row) return void this.panel.replaceChildren();
    if (this.tab === "document") this.source.show(this.panel, row.source);
    else this.panel.replaceChildren({ changes: () => this.#changes(row), timeline: () => timeline(row), comments: () => this.#comments(row) }[this.tab]());
  }

  /** By field: as it was read, each edit, as it is now, what is typed and not filed. */
  #changes(row) {
    const raw = row.raw_payload ?? {};
    const drafts = this.grid.edits.of(row.id);
    const types = new Map(this.grid.type.columns.map((column) => [column.name, column.type]));
    const fields = [...types.keys(), ...Object.keys(raw).filter((name) => !types.has(name))];
    const compared = fields.map((field) => {
      const type = types.get(field);
      const read = field in raw ? plain(raw[field]) : "";
      let before = read;
      const cells = row.edits.map((edit) => {
        const text = field in edit.values ? plain(edit.values[field]) : "";
        const differs = field in edit.values && text !== before;
        if (differs) before = text;
        return h("td", { class: differs ? "differs" : "same" }, field in edit.values ? text || "empty" : "");
      });
      const now = type ? shown(row.values[field], type) : "";
      const differs = type && field in raw && plain(row.values[field]) !== read && now !== shown(raw[field], type);
      const draft = drafts?.get(field);
      const wrong = finding(row, field);
      return h("tr", {}, h("th", { scope: "row" }, sentence(field), wrong ? h("div", { class: "field-error small" }, `▲ ${wrong}`) : null), h("td", { class: "same" }, read), cells,
        h("td", { class: differs ? "differs" : "" }, lines(row.values[field]) ?? now), drafts ? h("td", { class: draft ? "differs" : "" }, draft?.text ?? "") : null);
    });
    const heads = row.edits.map((edit) => h("th", {}, `${edit.kind} ${edit.by}`, h("div", { class: "muted" }, `${when(edit.at)}, ${outcome(edit)}`)));
    return h("table", { class: "table changes" },
      h("thead", {}, h("tr", {}, h("th", {}, "Field"), h("th", {}, "As read"), heads, h("th", {}, "Now"), drafts ? h("th", {}, "Typed, not filed") : null)),
      h("tbody", {}, compared));
  }

  #comments(row) {
    const text = h("textarea", { "aria-label": "Comment", placeholder: "Say something about this row", maxlength: "4000" });
    text.value = this.#said.get(row.id) ?? "";
    const error = h("p", { class: "field-error", role: "alert", hidden: true });
    const file = async () => {
      if (!text.value.trim()) return;
      try {
        await ask("POST", `/v1/subledgers/${this.grid.ledger}/rows/${row.id}/comments`, { text: text.value });
        text.value = "";
        this.#said.delete(row.id);
        this.grid.focus(this.grid.position);
        this.show(row.id, { again: true });
      } catch (failed) {
        error.hidden = false;
        error.textContent = `Not kept: ${failed.message}. What you typed is still here.`;
      }
    };
    text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) file();
      else if (event.key === "Escape") this.grid.focus(this.grid.position);
    });
    const list = row.comments.map((comment) => h("div", { class: "comment" }, h("div", { class: "muted small" }, `${comment.by}, ${when(comment.at)}`), comment.text));
    return h("div", {}, list, h("div", { class: "comment-form" }, text, error, h("button", { type: "button", onclick: file }, "Comment (Ctrl Enter)")));
  }

  // A comment that is not filed yet belongs to its row, wherever one goes.
  #keepComment() {
    const text = this.panel.querySelector("textarea");
    if (text && this.#story) this.#said.set(this.#story.id, text.value);
  }
}

/** A list of records, such as the lines of a journal, as a table; null where the value is none. */
function lines(value) {
  if (!Array.isArray(value) || !value.length || value.some((each) => each === null || typeof each !== "object")) return null;
  const names = [...new Set(value.flatMap(Object.keys))];
  const amounts = new Set(names.filter((name) => value.every((each) => each[name] === undefined || each[name] === null || /^-?\d+\.\d+$/.test(each[name]))));
  return h("table", { class: "table" },
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { class: amounts.has(name) ? "amount" : null }, sentence(name))))),
    h("tbody", {}, value.map((each) => h("tr", {}, names.map((name) => h("td", { class: amounts.has(name) ? "amount" : null }, shown(each[name], amounts.has(name) ? "money" : "text")))))));
}

function timeline(row) {
  if (!row.timeline.length) return h("p", { class: "muted" }, "Nothing has happened yet.");
  return h("ol", { class: "timeline" }, row.timeline.toReversed().map((step) => {
    const way = step.action === "ASSIGNED" ? `to ${step.to}` : step.to && step.from !== step.to ? `${step.from ? `${sentence(step.from)} → ` : ""}${sentence(step.to)}` : "";
    return h("li", { class: step.code ? "refused" : "" },
      h("strong", {}, sentence(step.action)), way ? ` ${way}` : "",
      h("div", { class: "muted small" }, `${step.actor ?? ""}${step.actor_kind && step.actor_kind !== "person" ? ` (${step.actor_kind})` : ""}, ${when(step.at)}`),
      step.code ? h("div", { class: "field-error" }, `Refused: ${words(step.code)}`) : null,
      step.row ? h("div", {}, ...otherOf(step)) : null,
      step.reason ? h("div", {}, `“${step.reason}”`) : null,
      step.run_id ? h("div", { class: "small" }, h("a", { href: `/runs/${step.run_id}` }, "The run")) : null);
  }));
}

/** Of a row that was reinstated and the one that was made of it: from each the way to the other. */
const otherOf = (step) =>
  step.action === "REINSTATED" ? [h("a", { href: `?row=${step.row}` }, "The row in its place")] : ["In the place of ", h("a", { href: `?row=${step.row}` }, "the row it was made of")];

const outcome = (edit) => ({ APPLIED: "applied", REFUSED: "refused" })[edit.outcome] ?? (edit.outcome ? sentence(edit.outcome) : "waiting");
const shortRef = (ref) => /#(.*)/.exec(ref ?? "")?.[1] ?? "";
