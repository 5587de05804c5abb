// What every page has: the switch of colours, the menu of subledgers, a log-out that leaves nothing typed behind.

import { ask } from "./api.js";
import { $, h } from "./dom.js";
import { sentence } from "./words.js";

const THEMES = { "": "as the system", light: "light", dark: "dark" };

function showTheme() {
  const chosen = document.documentElement.dataset.theme ?? "";
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[chosen]}`);
  $("theme").title = `Colours: ${THEMES[chosen]}`;
  $("theme").textContent = { "": "◐", light: "☀", dark: "☾" }[chosen];
}

$("theme").addEventListener("click", () => {
  const order = Object.keys(THEMES);
  const next = order[(order.indexOf(document.documentElement.dataset.theme ?? "") + 1) % order.length];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("ntro.theme", next);
  showTheme();
});
showTheme();

$("logout")?.addEventListener("submit", () => sessionStorage.clear());

const menu = $("subledger-menu");
menu?.addEventListener("toggle", async () => {
  if (!menu.open || menu.dataset.filled) return;
  const types = await ask("GET", "/v1/subledgers").catch(() => []);
  $("subledger-list").replaceChildren(
    ...types.map((type) => h("li", {}, h("a", { href: `/subledgers/${encodeURIComponent(type.name)}` }, type.title || sentence(type.name)))),
  );
  menu.dataset.filled = "yes";
});

for (const open of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => {
    if (!open.contains(event.target)) open.open = false;
  });
  open.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !open.open) return;
    open.open = false;
    open.querySelector("summary").focus();
    event.stopPropagation();
  });
}

// What was handed in is not handed in again by the next press.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && event.target.matches?.("form.hand-in")) event.target.reset();
});

// A part that did not come says so in its place.
for (const trouble of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(trouble, (event) => {
    event.detail.target.replaceChildren(h("p", { class: "notice notice-bad", role: "alert" }, "This part could not be loaded. Load the page again."));
  });
}
