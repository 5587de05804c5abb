// The keys as they are now; Enter on one, then another key, changes it.

import { dialog } from "../dialog.js";
import { h } from "../dom.js";
import { ACTIONS, keySign } from "./keys.js";

export async function showLegend(keys, changed) {
  const view = dialog("Keys", { size: "wide" });
  const told = h("span", { class: "muted", role: "status" }, "Enter on a line, then the key it should have.");
  const draw = (focused) => {
    const groups = [...new Set(ACTIONS.map((action) => action.group))];
    view.body.replaceChildren(
      h("div", { class: "legend" }, groups.map((group) =>
        h("div", { class: "legend-group" }, h("h3", {}, group), ACTIONS.filter((action) => action.group === group).map(line)))),
    );
    view.body.querySelector(`[data-action="${focused}"]`)?.focus();
  };
  const line = (action) => {
    const signs = keys.of(action.name).map((key) => h("kbd", {}, keySign(key)));
    const button = h("button", { type: "button", class: "legend-line", "data-action": action.name }, h("span", {}, action.words),
      h("span", { class: "keys" }, signs.length ? signs : h("span", { class: "muted" }, "no key")));
    button.addEventListener("click", async () => {
      button.classList.add("asking");
      told.textContent = `${action.words}: press its new key, or Esc.`;
      const key = await keys.ask();
      const loser = key && keys.change(action.name, key);
      told.textContent = !key ? "Nothing changed." : `${action.words} is ${keySign(key)} now.${loser ? ` ${loser.words} has lost it.` : ""}`;
      draw(action.name);
    });
    return button;
  };
  const reset = h("button", { type: "button", class: "quiet", onclick: () => { keys.reset(); draw(); told.textContent = "As it was at first."; } }, "As at first");
  view.foot.append(told, reset);
  draw(ACTIONS[0].name);
  await view.done;
  changed();
}
