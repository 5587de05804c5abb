// Filters under a name.

import { ask } from "../api.js";
import { dialog } from "../dialog.js";
import { h } from "../dom.js";

export async function showViews(grid) {
  const all = await ask("GET", "/v1/views").catch((error) => (grid.fail(error), null));
  if (!all) return;
  const view = dialog("Saved views", { size: "narrow" });
  const own = all.filter((each) => each.subledger === grid.ledger);
  const list = h("ul", { class: "options" }, own.map((each) => {
    const open = h("button", { type: "button", class: "quiet", onclick: () => view.close(each) }, each.name);
    const drop = h("button", { type: "button", class: "quiet", "aria-label": `Delete ${each.name}`, onclick: () => remove(each, drop.closest("li")) }, "Delete");
    return h("li", {}, open, h("span", { class: "end" }, drop));
  }));
  const remove = (each, line) =>
    ask("DELETE", `/v1/views/${encodeURIComponent(each.name)}`).then(() => line.remove()).catch((error) => grid.fail(error));
  const name = h("input", { type: "text", maxlength: "100", placeholder: "Name for what is listed now", "aria-label": "Name for what is listed now", autocomplete: "off" });
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
  view.body.append(own.length ? list : h("p", { class: "muted" }, "None yet."), name);
  view.foot.append(h("button", { type: "button", onclick: save }, "Keep"));
  (own.length ? list.querySelector("button") : name).focus();
  const chosen = await view.done;
  if (chosen) grid.filter.set({ q: "", entity: "", period: "", status: "", group: "", sort: "", ...chosen.query });
}
