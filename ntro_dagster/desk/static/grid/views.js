// Filters under a name.

import { ask } from "../api.js";
import { dialog } from "../dialog.js";
import { h } from "../dom.js";

export async function showViews(grid) {
  // Open before anything is asked: what is typed meanwhile is a name, not keys of the grid.
  const view = dialog("Saved views", { size: "narrow" });
  const name = h("input", { type: "text", maxlength: "100", placeholder: "Name for what is listed now", "aria-label": "Name for what is listed now", autocomplete: "off" });
  view.body.append(name);
  const save = async () => {
    if (!name.value.trim()) return;
    try {
      await ask("PUT", `/v1/views/${encodeURIComponent(name.value.trim())}`, { subledger: grid.ledger, query: Object.fromEntries(grid.filter.query()) });
      grid.say(`Kept as "${name.value.trim()}".`);
      view.close(null);
    } catch (error) {
      grid.fail(error);
    }
  };
  name.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), save()));
  name.focus();
  const all = await ask("GET", "/v1/views").catch((error) => (grid.fail(error), []));
  const own = all.filter((each) => each.subledger === grid.ledger);
  const list = h("ul", { class: "options" }, own.map((each) => {
    const open = h("button", { type: "button", class: "quiet", onclick: () => view.close(each) }, each.name);
    const drop = h("button", { type: "button", class: "quiet", "aria-label": `Delete ${each.name}`, onclick: () => remove(each, drop.closest("li")) }, "Delete");
    return h("li", {}, open, h("span", { class: "end" }, drop));
  }));
  const remove = (each, line) =>
    ask("DELETE", `/v1/views/${encodeURIComponent(each.name)}`).then(() => line.remove()).catch((error) => grid.fail(error));
  view.body.prepend(own.length ? list : h("p", { class: "muted" }, "None yet."));
  view.foot.append(h("button", { type: "button", onclick: save }, "Keep"));
  if (own.length && name.value === "") list.querySelector("button").focus();
  const chosen = await view.done;
  if (chosen) grid.filter.set({ q: "", entity: "", period: "", status: "", group: "", sort: "", ...chosen.query });
}
