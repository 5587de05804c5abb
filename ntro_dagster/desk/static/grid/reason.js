// Why a decision was taken: the reasons used last come first, Enter files.

import { chooser, dialog } from "../dialog.js";
import { h, keep, kept } from "../dom.js";
import { sentence } from "../words.js";

const STORE = "ntro.reasons";
const MOST = 9;
const USUAL = {
  reject: ["Duplicate", "Not ours", "Wrong amount", "No document"],
  exclude: ["Another period", "Booked elsewhere", "Below the limit"],
  edit: ["Misread", "Wrong account", "Wrong date"],
  accept: ["Checked against the document"],
  undo: ["Approved too early"],
  reinstate: ["Wrong row", "Turned down by mistake"],
};

const used = (kind) => [...new Set([...(kept(localStorage, STORE, {})[kind] ?? []), ...(USUAL[kind] ?? [])])].slice(0, MOST);

export function remember(kind, reason) {
  const all = kept(localStorage, STORE, {});
  all[kind] = [reason, ...(all[kind] ?? []).filter((other) => other !== reason)].slice(0, MOST);
  keep(localStorage, STORE, all);
}

/** The field of a reason, with the one used last in it. */
export function reasonField(kind, take) {
  const known = used(kind);
  return chooser({
    label: "Reason",
    text: known[0] ?? "",
    free: true,
    options: (typed) => {
      const begun = typed.toLowerCase();
      return known.filter((reason) => reason.toLowerCase().includes(begun)).map((reason) => ({ value: reason, words: reason }));
    },
    take: (reason) => {
      if (!reason.trim()) return;
      remember(kind, reason.trim());
      take(reason.trim());
    },
  });
}

/**
 * Ask for one. @returns the reason, null where the person left, or where there is nothing to give one for any more.
 * @param fine whether the decision can be filed at all, as a promise: it is asked while the person types
 */
export async function askReason(kind, { title, note, fine } = {}) {
  const shown = dialog(title ?? `${sentence(kind)}: why?`, { size: "narrow" });
  const field = reasonField(kind, shown.close);
  if (note) shown.body.append(h("p", { class: "notice" }, note));
  shown.body.append(field.input, field.list);
  shown.foot.append(h("span", { class: "muted" }, "↑ ↓ choose"), h("button", { type: "button", onclick: () => field.input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" })) }, "File"));
  field.input.focus();
  field.input.select();
  fine?.then((can) => can || shown.close(null));
  const reason = await shown.done;
  return (await (fine ?? true)) ? reason : null;
}
