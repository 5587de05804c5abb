// Requests to the desk's own API.

import { toast } from "./toast.js";
import { words } from "./words.js";

export class ApiError extends Error {
  constructor(status, body) {
    super(words(body.error) || body.message || `the desk answered ${status}`);
    this.status = status;
    this.code = body.error || "";
    this.body = body;
  }
}

const meta = (name) => document.querySelector(`meta[name="${name}"]`);
export const me = () => meta("member")?.content ?? "";
export const role = () => meta("member")?.dataset.role ?? "";

/** The answer's body as JSON. Raises `ApiError`, TypeError where the desk cannot be reached. */
export async function ask(method, path, body, options = {}) {
  const response = await send(method, path, body, options);
  return response.status === 204 ? null : response.json();
}

/** The answer as it is. Raises as `ask`. */
export async function send(method, path, body, { signal, again = true, keepalive = false } = {}) {
  const headers = method === "GET" ? {} : { "X-Ntro-CSRF": meta("csrf").content };
  let content = body;
  if (body !== undefined && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    content = JSON.stringify(body);
  }
  const response = await fetch(path, { method, headers, body: content, signal, keepalive, credentials: "same-origin", redirect: "error" });
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  // Logged in again in another tab: this one's token is of the session before, what is typed here is not.
  if (again && /CSRF/.test(told.error ?? "") && (await renewed())) return send(method, path, body, { signal, again: false });
  if (response.status === 401) tellOfLogin();
  throw new ApiError(response.status, told);
}

async function renewed() {
  const response = await fetch(location.href, { credentials: "same-origin" });
  if (!response.ok) return false;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const found = page.querySelector('meta[name="csrf"]')?.content;
  const sameMember = page.querySelector('meta[name="member"]')?.content === me();
  if (!found || !sameMember || found === meta("csrf").content) return false;
  meta("csrf").content = found;
  return true;
}

let told = null;

function tellOfLogin() {
  if (told?.isConnected) return;
  const link = { words: "Log in in a new tab", attributes: { href: "/login", target: "_blank", rel: "noopener" } };
  told = toast("Your session has ended. What you typed is still here.", { loud: true, link });
}
