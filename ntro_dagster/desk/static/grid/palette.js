// Every decision that a row's status allows, those of the type's own included.

import { chooser, dialog } from "../dialog.js";
import { sentence } from "../words.js";
import { keySign } from "./keys.js";

/** @returns the kind that was chosen, null for none */
export async function choose(grid) {
  const status = grid.position >= 0 ? grid.index.status(grid.position) : null;
  const bulk = !grid.selection.empty;
  const fits = grid.type.signals.filter((signal) => signal.allowed !== false && (bulk || signal.sources.includes(status)));
  if (!fits.length) return void grid.say(status ? `Nothing leads on from ${sentence(status)} for you.` : "There is no row.");
  const view = dialog(bulk ? "Decide about the selection" : `Decide: ${sentence(status)}`, { size: "narrow" });
  const options = (typed) =>
    fits
      .filter((signal) => signal.kind.replaceAll("_", " ").includes(typed.toLowerCase()))
      .map((signal, at) => ({ value: signal.kind, words: sentence(signal.kind), end: end(grid, signal, bulk ? null : status, at) }));
  const field = chooser({ label: "Decision", options, take: view.close });
  view.body.append(field.input, field.list);
  field.input.addEventListener("keydown", (event) => {
    // Digits choose at once: kinds of a type's own have no letter.
    const chosen = field.input.value === "" && /^[1-9]$/.test(event.key) ? options("")[event.key - 1] : null;
    if (!chosen) return;
    event.preventDefault();
    view.close(chosen.value);
  });
  field.input.focus();
  return view.done;
}

function end(grid, signal, status, at) {
  const target = status && signal.targets[status];
  const key = grid.keys.of(signal.kind)[0] ?? "";
  return [target ? `→ ${sentence(target)}` : "", key ? keySign(key) : "", String(at + 1)].filter(Boolean).join(" · ");
}
