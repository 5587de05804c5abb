// Before many rows are decided: how many, how much, what is left out and why.

import { dialog } from "../dialog.js";
import { h } from "../dom.js";
import { money, number, plural, sentence, words } from "../words.js";
import { reasonField } from "./reason.js";

/** Totals and the rest of a dry run, as a list of sums. */
export function sums(summary) {
  const totals = Object.entries(summary.totals);
  const skipped = summary.skipped.reduce((all, each) => all + each.count, 0);
  return [
    h("dl", { class: "sums" },
      h("dt", {}, "Rows"), h("dd", { class: "sum-main" }, number(summary.count)),
      totals.map(([currency, total]) => [h("dt", {}, `Total ${currency}`), h("dd", { class: `sum-main${total.startsWith("-") ? " negative" : ""}` }, money(total))]),
      h("dt", {}, "With findings"), h("dd", {}, number(summary.findings)),
    ),
    skipped
      ? h("div", { class: "notice notice-warn" }, `${plural(skipped, "row is", "rows are")} left out:`,
          h("ul", {}, summary.skipped.map((each) => h("li", {}, `${number(each.count)}: ${words(each.code)}`))))
      : null,
  ].filter(Boolean);
}

/**
 * Opens at once, so that what is typed meanwhile is a reason and not keys of the grid; files only what was added up.
 * @param counting promise of {summary, takers}
 * @returns {{reason, summary, takers}} where the person files, null where they leave
 */
export async function confirmBulk(signal, counting, title) {
  const shown = dialog(`${sentence(signal.kind)}: ${title}`, { size: "narrow" });
  const told = h("div", { role: "status" }, h("p", { class: "muted" }, "Adding up …"));
  const button = h("button", { type: "button", disabled: true }, sentence(signal.kind));
  let counted = null;
  const file = (reason) => counted?.summary.count && shown.close({ reason, ...counted });
  shown.body.append(told);
  shown.foot.append(h("span", { class: "muted" }, "Enter files, Esc leaves"), button);
  let field = null;
  if (signal.needs_reason) {
    field = reasonField(signal.kind, file);
    shown.body.append(field.input, field.list);
    field.input.focus();
    field.input.select();
  }
  button.addEventListener("click", () => (field ? field.input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" })) : file(null)));
  counting.then(
    (found) => {
      counted = found;
      const { summary, takers } = found;
      told.replaceChildren(...sums(summary));
      if (takers && takers.length !== summary.count) {
        told.append(h("p", { class: "notice notice-warn" }, `This page shows ${plural(takers.length, "row")} that can take it; the desk counts ${number(summary.count)}. Where rows have moved the desk files nothing.`));
      }
      button.textContent = `${sentence(signal.kind)} ${plural(summary.count, "row")}`;
      button.disabled = summary.count === 0;
      if (!field && summary.count) button.focus();
    },
    (error) => told.replaceChildren(h("p", { class: "notice notice-bad" }, `Not added up: ${error.message}. Nothing was filed.`)),
  );
  return shown.done;
}
