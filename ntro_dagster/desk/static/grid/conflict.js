// A decision that could not be filed because rows moved: what one had beside what is there now.

import { dialog } from "../dialog.js";
import { h } from "../dom.js";
import { plural, sentence, shown as asText, words } from "../words.js";

const MOST_SHOWN = 20;

/**
 * @param had rows as they stood on this page when the decision was taken
 * @param moved by id, {code, by} as the desk answered
 */
export async function showConflict(grid, kind, had, moved) {
  const ids = [...moved.keys()];
  const now = new Map((await grid.rows.now(ids.slice(0, MOST_SHOWN)).catch(() => [])).map((row) => [row.id, row]));
  const view = dialog(`${sentence(kind)} was not filed`, { size: "wide" });
  view.body.append(h("p", {}, `${ids.length === 1 ? "The row is not as you saw it" : `${plural(ids.length, "row is", "rows are")} not as you saw them`} any more. Nothing was filed, and nothing you typed is lost.`));
  for (const id of ids.slice(0, MOST_SHOWN)) {
    const before = had.find((row) => row.id === id);
    view.body.append(compared(grid, moved.get(id), before, now.get(id)));
  }
  if (ids.length > MOST_SHOWN) view.body.append(h("p", { class: "muted" }, `And ${plural(ids.length - MOST_SHOWN, "more row")}.`));
  const go = h("button", { type: "button", onclick: () => view.close(true) }, ids.length > 1 ? "Go to the first row" : "Go to the row");
  view.foot.append(h("span", { class: "muted" }, "Decide again on what stands there now."), go);
  go.focus();
  if (await view.done) grid.goTo(ids[0]);
}

function compared(grid, { code, by }, before, now) {
  const lines = [];
  const line = (title, was, is) => {
    if (was !== is) lines.push(h("tr", {}, h("th", { scope: "row" }, title), h("td", {}, was || "empty"), h("td", { class: "differs" }, is || "empty")));
  };
  line("Status", sentence(before.status), now ? sentence(now.status) : "not there any more");
  for (const column of grid.type.columns) {
    if (now) line(sentence(column.name), asText(before.values[column.name], column.type), asText(now.values[column.name], column.type));
  }
  if (now) line("Waiting", before.waiting?.kind ?? "", now.waiting ? `${now.waiting.kind} by ${now.waiting.filed_by}` : "");
  const name = `${before.entity} ${before.period} ${/#(.*)/.exec(before.source_ref ?? "")?.[1] ?? ""}`;
  const head = h("h3", {}, `${name}: ${words(code)}${by ? ` (${by})` : ""}`);
  if (!lines.length) return h("section", {}, head);
  return h("section", {}, head, h("table", { class: "table changes" },
    h("thead", {}, h("tr", {}, h("th", {}, "Field"), h("th", {}, "You had"), h("th", {}, "Now"))),
    h("tbody", {}, lines)));
}
