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

/** @returns {{reason}} where the person files, null where they leave */
export async function confirmBulk(signal, summary, { known, title }) {
  const shown = dialog(`${sentence(signal.kind)}: ${title}`, { size: "narrow" });
  shown.body.append(...sums(summary));
  if (known !== undefined && known !== summary.count) {
    shown.body.append(h("p", { class: "notice notice-warn" }, `This page shows ${plural(known, "row")} that can take it; the desk counts ${number(summary.count)}. Rows that moved make the desk refuse all.`));
  }
  const words_ = `${sentence(signal.kind)} ${plural(summary.count, "row")}`;
  const file = h("button", { type: "button", disabled: summary.count === 0 }, words_);
  shown.foot.append(h("span", { class: "muted" }, "Enter files, Esc leaves"), file);
  if (summary.count === 0) {
    shown.element.querySelector(".dialog-head button").focus();
  } else if (signal.needs_reason) {
    const field = reasonField(signal.kind, (reason) => shown.close({ reason }));
    shown.body.append(field.input, field.list);
    file.addEventListener("click", () => field.input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" })));
    field.input.focus();
    field.input.select();
  } else {
    file.addEventListener("click", () => shown.close({ reason: null }));
    file.focus();
  }
  return shown.done;
}
