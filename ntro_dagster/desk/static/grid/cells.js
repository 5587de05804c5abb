// A row's element and what stands in it.

import { me } from "../api.js";
import { h } from "../dom.js";
import { sentence, short, words } from "../words.js";

const LOW_CONFIDENCE = 0.8;
const WIDTHS = { money: "minmax(112px, 0.8fr)", ratio: "92px", integer: "80px", date: "116px", instant: "150px", timestamp: "150px", boolean: "70px", json: "90px" };
const NARROW = { currency: "82px" };
const RIGHT = new Set(["money", "ratio", "integer"]);

/** What the table shows, in order. Ids are for the detail: in a line they say nothing. Of lists it says how long they are. */
export function columnsOf(type, { entity, period }) {
  const columns = [
    { name: "pick", title: "", width: "30px", kind: "pick" },
    { name: "status", title: "Status", width: "178px", kind: "state", sortable: true },
  ];
  if (!entity) columns.push({ name: "entity", title: "Entity", width: "minmax(90px, 0.6fr)", kind: "key" });
  if (!period) columns.push({ name: "period", title: "Period", width: "76px", kind: "key", sortable: true });
  const who = type.columns.find((column) => column.type === "text");
  for (const column of type.columns) {
    if (column.type === "uuid") continue;
    const width = NARROW[column.name] ?? WIDTHS[column.type] ?? (column === who ? "minmax(170px, 1.6fr)" : "minmax(110px, 1fr)");
    columns.push({ ...column, title: sentence(column.name), width, kind: "value", sortable: true, right: RIGHT.has(column.type) });
  }
  columns.push({ name: "source_ref", title: "Source", width: "minmax(70px, 0.4fr)", kind: "source" });
  return columns;
}

export function makeHead(columns, sort, onsort) {
  const cells = columns.map((column, at) => {
    const sorted = sort.replace(/^-/, "") === column.name ? (sort.startsWith("-") ? "descending" : "ascending") : "none";
    const arrow = { ascending: " ↑", descending: " ↓", none: "" }[sorted];
    const button = column.sortable
      ? h("button", { type: "button", tabindex: "-1", onclick: () => onsort(column.name) }, column.title + arrow)
      : h("span", { class: "cell" }, column.title);
    if (column.kind === "pick") button.replaceChildren(h("span", { class: "unseen" }, "Selected"));
    const look = `cell cell-head${column.right ? " amount" : ""}${column.kind === "pick" ? " cell-pick" : ""}`;
    return h("div", { role: "columnheader", class: look, "aria-colindex": at + 1, "aria-sort": column.sortable ? sorted : null }, button);
  });
  return h("div", { role: "row", class: "grid-row", "aria-rowindex": 1 }, cells);
}

export function makeRow(columns) {
  const row = h("div", { role: "row", class: "grid-row" });
  row.append(
    ...columns.map((column, at) =>
      h("div", { role: "gridcell", class: "cell", tabindex: "-1", "aria-colindex": at + 1, "data-column": column.name }),
    ),
  );
  return row;
}

/**
 * Fill `element` for a position.
 * @param state {id, row, status, present, selected, column, drafts, onTheWay, note, over, moved} - `row` undefined while it is fetched
 */
export function drawRow(element, columns, position, state) {
  if (element.dataset.position !== String(position)) {
    element.dataset.position = position;
    element.dataset.row = state.id;
    element.ariaRowIndex = String(position + 2);
  }
  if (element.ariaSelected !== String(state.selected)) element.ariaSelected = String(state.selected);
  const look = ["grid-row"];
  if (state.present) look.push("present");
  if (!state.row) look.push("loading");
  if (state.over) look.push("over");
  if (element.className !== look.join(" ")) element.className = look.join(" ");
  columns.forEach((column, at) => {
    const cell = element.children[at];
    const stop = state.present && at === state.column ? 0 : -1;
    if (cell.tabIndex !== stop) cell.tabIndex = stop;
    // An editor is not drawn over: what is typed in it is nobody else's.
    if (!cell.querySelector("input.editor")) drawCell(cell, column, state);
  });
}

// Attributes are written only where they change: a screen has a thousand cells, and each write costs a recalculation.
function put(cell, look, text, { wrong = false, fixed = null } = {}) {
  if (cell.className !== look) cell.className = look;
  if (cell.hasAttribute("aria-invalid") !== wrong) {
    if (wrong) cell.setAttribute("aria-invalid", "true");
    else cell.removeAttribute("aria-invalid");
  }
  if (fixed !== null && cell.ariaReadOnly !== String(fixed)) cell.ariaReadOnly = String(fixed);
  if (text === null) return;
  // One text node for good: replacing it is what costs.
  const only = cell.firstChild;
  if (only?.nodeType === Node.TEXT_NODE && only === cell.lastChild) {
    if (only.data !== text) only.data = text;
  } else cell.textContent = text;
}

function drawCell(cell, column, state) {
  if (cell.hasAttribute("aria-describedby")) cell.removeAttribute("aria-describedby");
  if (column.kind === "pick") return put(cell, "cell cell-pick", null);
  if (column.kind === "state") return drawState(cell, state);
  if (!state.row) return put(cell, "cell", column.kind === "value" ? "…" : "");
  if (column.kind !== "value") {
    return put(cell, "cell muted", column.kind === "source" ? sourceShort(state.row.source_ref) : state.row[column.name]);
  }
  const draft = state.drafts?.get(column.name);
  const filed = state.onTheWay?.[column.name];
  const value = draft?.text ?? (filed === undefined ? state.row.values[column.name] : (filed ?? ""));
  const text = draft || filed !== undefined ? String(value) : short(value, column.type);
  const wrong = Boolean(draft ? draft.error : finding(state.row, column.name));
  let look = column.right ? "cell amount" : "cell";
  if (column.type === "money" && /^[−-]/.test(text)) look += " negative";
  if (draft) look += " draft";
  else if (filed !== undefined) look += " on-its-way";
  if (wrong) look += " wrong";
  if (state.moved?.has(column.name)) look += " moved";
  const plainText = column.name !== "confidence" || !text;
  put(cell, look, plainText ? text : null, { wrong, fixed: !column.editable });
  if (!plainText) cell.replaceChildren(confidence(text, state.row.values));
}

function drawState(cell, state) {
  const { row, status, note } = state;
  const said = [status, row?.waiting?.signal_id, row?.waiting?.kind, note?.short, note?.words, row?.findings.length, row?.duplicate_of, row?.signed_by.length, row?.assigned_to, row?.changed, row?.successor, row?.held?.at].join("|");
  if (cell.dataset.said === said) return;
  cell.dataset.said = said;
  cell.className = "cell cell-state";
  cell.replaceChildren(...stateOf(state));
}

function stateOf({ row, status, note }) {
  const parts = [h("span", { class: `badge ${colour(status)}` }, sentence(status))];
  const waiting = row?.waiting;
  if (note) parts.push(h("span", { class: `badge ${note.look}`, title: note.words }, note.short));
  else if (waiting) parts.push(h("span", { class: "badge badge-accent", title: `by ${waiting.filed_by}` }, `→ ${waiting.kind}`));
  if (row?.signed_by.length) parts.push(h("span", { class: "badge badge-accent", title: `approved by ${row.signed_by.join(", ")}; its amount needs a second approver` }, "1 of 2"));
  if (row?.changed) parts.unshift(h("span", { class: "badge badge-new", title: "changed since you last looked" }, "●", h("span", { class: "unseen" }, "changed since you last looked")));
  if (row?.assigned_to) {
    const mine = row.assigned_to === me();
    parts.push(h("span", { class: mine ? "badge badge-accent" : "badge", title: `assigned to ${row.assigned_to}` }, mine ? "@ me" : `@ ${row.assigned_to.replace("user:", "")}`));
  }
  if (row?.successor) parts.push(h("span", { class: "badge", title: "another row stands in its place" }, "reinstated"));
  if (row?.held) parts.push(h("span", { class: "badge badge-bad", title: `${words(row.held.code)}: ${row.held.detail}` }, "not posted"));
  if (row?.findings.length) parts.push(h("span", { class: "badge badge-bad", title: row.findings.map((found) => found.message).join("; ") }, `▲ ${row.findings.length}`));
  if (row?.duplicate_of) parts.push(h("span", { class: "badge badge-warn", title: `${row.duplicate_of} more that look the same` }, `×${row.duplicate_of + 1}`));
  return parts;
}

function confidence(text, values) {
  const low = Number(values.confidence) < LOW_CONFIDENCE;
  const why = values.confidence_reason ?? values.category_source;
  return h("span", { class: `badge ${low ? "badge-warn" : ""}`, title: why ? String(why) : null }, `${low ? "? " : ""}${text}`);
}

export function colour(status) {
  if (/ATTENTION|DEFAULT|FAIL/.test(status)) return "badge-warn";
  if (/REJECT/.test(status)) return "badge-bad";
  if (/APPROV|POST|PAID|SIGNED/.test(status)) return "badge-good";
  return "";
}

/** What the desk says is wrong with a column of the row, in words. */
export const finding = (row, column) =>
  row.findings
    .filter((found) => found.field === column)
    .map((found) => found.message)
    .join("; ");

const sourceShort = (ref) => (/#(L\d+|p\d+)/.exec(ref ?? "")?.[1] ?? ref ?? "");
