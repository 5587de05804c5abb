// Rows given to somebody to look after: the present one, a selection, or everything that matches.

import { ask, me } from "../api.js";
import { chooser, dialog } from "../dialog.js";
import { plural } from "../words.js";

const NOBODY = "";

export async function assign(grid) {
  const { everything } = grid.selection;
  const ids = grid.selection.empty ? [grid.presentId].filter(Boolean) : [...grid.selection.ids];
  if (!everything && !ids.length) return void grid.say("There is no row.");
  const count = everything ? grid.index.count : ids.length;
  const filter = grid.filter.body();
  // What is assigned is what is listed now, whatever moves while a name is typed.
  const counted = everything ? ask("POST", `/v1/subledgers/${grid.ledger}/assignments/summary`, { filter }) : null;
  counted?.catch(() => {});
  const view = dialog(`Assign ${plural(count, "row")} to`, { size: "narrow" });
  let all = [];
  const first = (member) => (member.login === me() ? 0 : 1);
  const ready = ask("GET", "/v1/members")
    .catch((error) => {
      grid.fail(error, "The members could not be read");
      view.close(null); // before anything typed ahead could choose
      return [];
    })
    .then((members) => {
      const listed = members.toSorted((one, other) => first(one) - first(other));
      all = [...listed.map(({ login, name, role }) => ({ value: login, words: login === me() ? `${name} (me)` : name, end: role })), { value: NOBODY, words: "Nobody" }];
    });
  const options = (typed) => all.filter((option) => `${option.words} ${option.value}`.toLowerCase().includes(typed.toLowerCase()));
  const field = chooser({ label: "Member", options, take: (value) => view.close({ assignee: value || null }), ready });
  view.body.append(field.input, field.list);
  field.input.focus();
  const chosen = await view.done;
  if (!chosen) return;
  try {
    const rows = everything ? { filter, seen: (await counted).seen } : { ids };
    const { assigned } = await ask("POST", `/v1/subledgers/${grid.ledger}/assignments`, { ...chosen, ...rows });
    grid.selection.clear();
    grid.say(chosen.assignee ? `${plural(assigned, "row")} assigned to ${chosen.assignee === me() ? "you" : chosen.assignee}.` : `${plural(assigned, "row is", "rows are")} nobody's now.`);
    grid.outdate(everything ? undefined : ids);
    grid.filter.countGroups();
  } catch (error) {
    if (error.status === 409) await grid.reload();
    grid.fail(error, "Not assigned");
  }
}
