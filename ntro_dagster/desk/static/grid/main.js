// The grid page: actions by name, keys for them, the first list.

import { $, takesText } from "../dom.js";
import { dialogOpen } from "../dialog.js";
import { assign } from "./assign.js";
import { warnBeforeLeaving } from "./edit.js";
import { Grid } from "./grid.js";
import { Keys } from "./keys.js";
import { showLegend } from "./legend.js";
import { choose } from "./palette.js";
import { takeSheet } from "./sheet.js";
import { showViews } from "./views.js";

const grid = new Grid(decodeURIComponent(location.pathname.split("/")[2]));

const go = (address) => location.assign(address);

function trialBalance() {
  const row = grid.rows.get(grid.presentId ?? "");
  const entity = row?.entity ?? grid.filter.value.entity;
  const period = row?.period ?? grid.filter.value.period;
  if (!entity || !period) return grid.say("Go to a row of the month first.");
  go(`/entities/${encodeURIComponent(entity)}/periods/${period}/trial-balance`);
}

function escape() {
  if (grid.selection.clear()) return;
  const id = grid.presentId;
  if (id && grid.edits.of(id)) {
    const column = grid.edits.of(id).has(grid.columnName) ? grid.columnName : null;
    if (column) grid.edits.revert(id, column);
    else grid.say("Go to an edited cell and press Esc to revert it.");
  }
}

async function palette() {
  const kind = await choose(grid);
  if (kind) await grid.decisions.decide(kind);
}

const onAndOff = (group) => grid.filter.set({ group: grid.filter.value.group === group ? "" : group });
const decide = (kind) => () => grid.decisions.decide(kind);
const actions = {
  down: () => grid.move(1),
  up: () => grid.move(-1),
  next_undecided: () => grid.advance(1),
  previous_undecided: () => grid.advance(-1),
  left: () => grid.toColumn(-1),
  right: () => grid.toColumn(1),
  page_down: () => grid.move(grid.window.lines),
  page_up: () => grid.move(-grid.window.lines),
  first: () => grid.move(-Infinity),
  last: () => grid.move(Infinity),
  approve: decide("approve"),
  reject: decide("reject"),
  exclude: decide("exclude"),
  accept: decide("accept"),
  edit: () => (grid.position >= 0 ? grid.edits.start(grid.position, grid.columnName) : null),
  palette,
  assign: () => assign(grid),
  assigned: () => onAndOff("assigned"),
  changed: () => onAndOff("changed"),
  looked: () => grid.looks.all(),
  undo: () => (grid.selection.empty ? grid.decisions.undo() : grid.decisions.decide(grid.decisions.takingBack())),
  select: () => grid.pick(),
  extend_down: () => grid.move(1, { extend: true }),
  extend_up: () => grid.move(-1, { extend: true }),
  extend: () => {
    grid.selection.extending = !grid.selection.extending;
    if (grid.selection.extending) grid.move(0);
    grid.say(grid.selection.extending ? "Moving selects." : "Moving does not select any more.");
  },
  everything: () => grid.index?.count && grid.selection.all(),
  escape,
  filter: () => grid.filter.focus(),
  views: () => showViews(grid),
  sort: () => grid.columns[grid.column]?.sortable && grid.filter.sortBy(grid.columnName),
  reload: () => grid.reload(),
  document: () => grid.detail.toggle(),
  next_tab: () => grid.detail.turn(1),
  comment: () => grid.detail.comment(),
  narrower: () => grid.detail.wider(-1),
  wider: () => grid.detail.wider(1),
  legend: () => showLegend(grid.keys, () => grid.keysChanged()),
  inbox: () => go("/"),
  board: () => go("/board"),
  trial_balance: trialBalance,
  history: () => go("/history"),
};

grid.keys = new Keys((action, event) => {
  // A key that is held may move, and must not decide row after row.
  if (event.repeat && !MAY_REPEAT.has(action)) return;
  if (grid.index) actions[action]();
}, dialogOpen);
const MAY_REPEAT = new Set(["down", "up", "left", "right", "page_down", "page_up", "extend_down", "extend_up", "next_undecided", "previous_undecided"]);

$("help").addEventListener("click", () => showLegend(grid.keys, () => grid.keysChanged()));
$("views").addEventListener("click", () => showViews(grid));
$("import").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) await takeSheet(grid, file);
  event.target.value = "";
});
warnBeforeLeaving(grid.edits);

try {
  await grid.start();
  if (!takesText(document.activeElement)) grid.focus(grid.position);
} catch (error) {
  grid.fail(error, "The page could not be opened");
}
