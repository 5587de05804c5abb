// Codes in words, and values as people read them.

const CODES = {
  ACCOUNT_NOT_ACTIVE: "it names an account that is not in use",
  ACCOUNT_UNKNOWN: "it names an account that is not in the chart",
  ALREADY_REINSTATED: "another row stands in its place already; its timeline leads there",
  CONTENT_CHANGED: "the row changed after it was looked at",
  CONTENT_MOVED: "rows moved after they were looked at",
  DECISION_WAITING: "another decision on it is waiting",
  DIMENSION_UNKNOWN: "it names a dimension that is not declared",
  FIELD_NOT_EDITABLE: "that field cannot be edited",
  ILLEGAL_TRANSITION: "its status does not allow that any more",
  MAKER_IS_NOT_CHECKER: "who made a row does not approve it",
  NOT_A_MEMBER: "you are no member of this tenant any more",
  NOT_YOUR_DECISION: "somebody else filed it",
  PERIOD_CLOSED: "its period is closed",
  POSTING_CONFLICT: "a journal under its id says something else",
  PROPOSAL_FAILED: "no journal could be made of it",
  RATE_MISSING: "there is no exchange rate for it yet",
  REASON_MISSING: "this decision needs a reason",
  REVERSAL_DIFFERS: "it does not mirror the journal it reverses",
  ROLE_MAY_NOT: "your role may not do that",
  ROW_NOT_FOUND: "the row is not there any more",
  SIGNAL_ALREADY_APPLIED: "a run has applied it already",
  STILL_INVALID: "the row would still not be complete",
  SUPERSEDED: "it was taken back",
  VALUES_INVALID: "a value is not valid",
  VALUES_NOT_CHECKED: "the values could not be looked over, try again",
  WITHDRAWN: "it was withdrawn",
};

export const words = (code) => CODES[code] ?? (code ? sentence(code) : "");

/** NEEDS_ATTENTION -> Needs attention. */
export function sentence(name) {
  const text = String(name).replaceAll("_", " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export const number = (count) => Number(count).toLocaleString("en-GB");
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** An amount of any size, digit by digit: it never becomes a float. Zeros beyond the second decimal are left out. */
export function money(text) {
  const parts = /^(-?)(\d+)(?:\.(\d*))?$/.exec(String(text));
  if (!parts) return String(text);
  const [, sign, whole, decimals = ""] = parts;
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const rest = decimals.replace(/0+$/, "").padEnd(2, "0");
  const zero = /^0*$/.test(whole + decimals);
  return `${sign && !zero ? "−" : ""}${grouped}.${rest}`;
}

/** A ratio from 0 to 1 in per cent, digit by digit. */
export function percent(text) {
  const parts = /^([01])(?:\.(\d+))?$/.exec(String(text));
  if (!parts) return String(text);
  const digits = parts[1] + (parts[2] ?? "").padEnd(4, "0").slice(0, 4);
  const rest = digits.slice(3).replace(/0+$/, "");
  return `${Number(digits.slice(0, 3))}${rest ? `.${rest}` : ""} %`;
}

/** A cell's value as text, by the column's type. */
export function shown(value, type) {
  if (value === null || value === undefined) return "";
  if (type === "money") return money(value);
  if (type === "boolean") return value ? "yes" : "no";
  if (type === "instant" || type === "timestamp") return when(value);
  if (type === "ratio") return percent(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

/** As in the table, where a list is as long as it is. */
export const short = (value, type) => (type === "json" && Array.isArray(value) ? plural(value.length, "line") : shown(value, type));

/** What an editor begins with, and what an edit is compared with. */
export function plain(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
export const when = (text) => (text && !Number.isNaN(Date.parse(text)) ? MOMENT.format(new Date(text)) : String(text ?? ""));

/** How long ago, in the largest unit that says something. */
export function age(text) {
  const seconds = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
  if (Number.isNaN(seconds)) return "";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return "now";
}
