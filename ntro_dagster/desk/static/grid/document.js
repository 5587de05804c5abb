// The document a row came from, at its line or page.

import { ask } from "../api.js";
import { h } from "../dom.js";
import { number } from "../words.js";

const AROUND = 100;
const MOST_TEXT = 2_000_000;

export class Source {
  #shown = null;
  #asked = 0;

  /** Into `panel`. Args: source: {document_id, name, line, media_type, page} or null. */
  async show(panel, source) {
    const turn = (this.#asked += 1);
    if (!source) {
      this.#shown = null;
      panel.replaceChildren(h("p", { class: "empty" }, "This row names no document."));
      return;
    }
    const same = this.#shown?.id === source.document_id && this.#shown.view.isConnected && panel.contains(this.#shown.view);
    if (same && this.#shown.moveTo?.(source)) return;
    const address = `/v1/documents/${source.document_id}/content`;
    const view = h("div", { class: "source-view", tabindex: "0", role: "region", "aria-label": "Document" });
    const place = h("span", { class: "muted" });
    panel.replaceChildren(h("div", { class: "source-name" }, h("a", { href: address, target: "_blank", rel: "noopener" }, source.name), place), view);
    this.#shown = { id: source.document_id, view };
    placed(place, source);
    try {
      const moveTo = await this.#fill(view, source, address);
      if (turn !== this.#asked) return;
      this.#shown.moveTo = moveTo && ((next) => (placed(place, next), moveTo(next)));
    } catch (error) {
      view.replaceChildren(h("p", { class: "notice notice-bad" }, `The document could not be read: ${error.message}.`));
    }
  }

  async #fill(view, source, address) {
    if (source.media_type === "application/pdf") {
      view.replaceChildren(h("iframe", { src: `${address}#page=${source.page ?? 1}`, title: source.name }));
      return null;
    }
    if (source.media_type.startsWith("image/")) {
      view.replaceChildren(h("img", { src: address, alt: source.name }));
      return () => true;
    }
    if (source.line !== null) {
      const table = new Table(view, source.document_id);
      if (await table.moveTo(source.line)) return (next) => table.moveTo(next.line) && true;
    }
    if (!source.media_type.startsWith("text/")) {
      view.replaceChildren(h("p", { class: "empty" }, h("a", { href: address }, "Open the document")));
      return null;
    }
    const text = (await (await fetch(address)).text()).slice(0, MOST_TEXT);
    const lines = text.split(/\r?\n/).map((line, at) => h("span", { class: at + 1 === source.line ? "here" : null }, `${line}\n`));
    view.replaceChildren(h("pre", {}, lines));
    view.querySelector(".here")?.scrollIntoView({ block: "center" });
    return null;
  }
}

const placed = (place, { line, page }) => (place.textContent = line !== null ? `line ${number(line)}` : page ? `page ${page}` : "");

/** Lines of a table around one, more of them when they are scrolled to. */
class Table {
  constructor(view, documentId) {
    Object.assign(this, { view, documentId, first: 0, last: -1, lines: new Map(), header: [] });
    view.addEventListener("scroll", () => this.#more(), { passive: true });
  }

  /** @returns whether there is such a table */
  async moveTo(line) {
    this.line = line;
    if (!this.lines.has(line)) {
      this.lines.clear();
      this.first = Math.max(0, line - AROUND);
      this.last = line + AROUND;
      await this.#fetch(this.first, this.last);
    }
    if (!this.lines.size) return false;
    this.#draw();
    const here = this.view.querySelector(".here");
    if (here) this.view.scrollTop = here.offsetTop - this.view.clientHeight / 2;
    return true;
  }

  async #fetch(from, to) {
    const { header, lines } = await ask("GET", `/v1/documents/${this.documentId}/lines?from=${from}&to=${to}`);
    if (header.length >= this.header.length) this.header = header;
    for (const { line, cells } of lines) this.lines.set(line, cells);
    return lines.length;
  }

  async #more() {
    const { scrollTop, scrollHeight, clientHeight } = this.view;
    if (this.busy || !this.lines.size) return;
    this.busy = true;
    try {
      if (scrollTop + clientHeight > scrollHeight - 40 && !this.ended) {
        this.ended = (await this.#fetch(this.last + 1, this.last + AROUND)) === 0;
        this.last += AROUND;
        if (!this.ended) this.#draw();
      } else if (scrollTop < 40 && this.first > 0) {
        const from = Math.max(0, this.first - AROUND);
        const found = await this.#fetch(from, this.first - 1);
        this.first = from;
        if (found) {
          this.#draw();
          this.view.scrollTop = scrollTop + this.view.scrollHeight - scrollHeight;
        }
      }
    } finally {
      this.busy = false;
    }
  }

  #draw() {
    const lines = [...this.lines].sort(([one], [other]) => one - other);
    this.view.replaceChildren(
      h("table", { class: "table" },
        h("thead", {}, h("tr", {}, h("th", { class: "line-number" }, "Line"), this.header.map((name) => h("th", {}, name)))),
        h("tbody", {}, lines.map(([line, cells]) =>
          h("tr", line === this.line ? { class: "here", "aria-current": "true" } : {}, h("td", { class: "line-number" }, number(line)), cells.map((cell) => h("td", {}, cell ?? "")))))),
    );
  }
}
