// An edited sheet back in: what it would change is shown first, and filed with a reason.

import { ask } from "../api.js";
import { dialog } from "../dialog.js";
import { h } from "../dom.js";
import { toast } from "../toast.js";
import { number, plural, sentence, words } from "../words.js";
import { reasonField } from "./reason.js";

const MOST_SHOWN = 50;

export async function takeSheet(grid, file) {
  const path = `/v1/subledgers/${grid.ledger}/import`;
  const body = () => {
    const form = new FormData();
    form.append("file", file);
    return form;
  };
  try {
    const found = await ask("POST", path, body());
    const reason = await confirm(found, file.name);
    if (!reason) return;
    const { filed, signals } = await ask("POST", `${path}?file=true&reason=${encodeURIComponent(reason)}`, body());
    toast(`${plural(filed, "edit")} filed from ${file.name}.`);
    grid.live.follow(signals, { kind: "edit", ids: found.proposals.map((each) => each.id) });
    await grid.reload();
  } catch (error) {
    grid.fail(error, `${file.name} was not taken`);
  }
}

/** @returns the reason, null where the person leaves or there is nothing to file */
function confirm({ lines, unchanged, proposals, refused }, name) {
  const shown = dialog(`Edits in ${name}`, { size: "wide" });
  shown.body.append(h("p", {}, `${plural(lines, "line")}: ${number(proposals.length)} edited, ${number(unchanged)} as they were, ${number(refused.length)} not taken.`));
  if (refused.length) {
    shown.body.append(h("div", { class: "notice notice-warn" }, "Not taken:",
      h("ul", {}, refused.slice(0, MOST_SHOWN).map((each) => h("li", {}, `line ${number(each.line)}: ${words(each.code)}`)))));
  }
  if (proposals.length) {
    shown.body.append(h("table", { class: "table" },
      h("thead", {}, h("tr", {}, h("th", {}, "Row"), h("th", {}, "New values"))),
      h("tbody", {}, proposals.slice(0, MOST_SHOWN).map(({ id, values }) =>
        h("tr", {}, h("td", {}, id.slice(0, 8)), h("td", {}, Object.entries(values).map(([column, value]) => `${sentence(column)}: ${value ?? "empty"}`).join("; ")))))));
    if (proposals.length > MOST_SHOWN) shown.body.append(h("p", { class: "muted" }, `And ${plural(proposals.length - MOST_SHOWN, "more row")}.`));
    const field = reasonField("edit", shown.close);
    shown.body.append(field.input, field.list);
    shown.foot.append(h("span", { class: "muted" }, "Enter files, Esc leaves"),
      h("button", { type: "button", onclick: () => field.input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" })) }, `File ${plural(proposals.length, "edit")}`));
    field.input.focus();
    field.input.select();
  } else {
    shown.foot.append(h("span", { class: "muted" }, "Nothing to file."), h("button", { type: "button", onclick: () => shown.close(null) }, "Close"));
  }
  return shown.done;
}
