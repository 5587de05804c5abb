// Virtual scroll: as many elements as the screen has lines, however many rows there are.

const SPARE = 8;

export class Window {
  #pool = [];
  #drawn = [];

  /**
   * @param make makes an empty row element
   * @param draw fills one for a position
   * @param looked called with the first and last position on the screen, and the direction of the last move
   */
  constructor(viewport, body, { make, draw, looked, left }) {
    Object.assign(this, { viewport, body, make, draw, looked, left, count: 0, first: 0, last: -1 });
    this.height = Number.parseFloat(getComputedStyle(viewport).getPropertyValue("--row")) || 34;
    viewport.addEventListener("scroll", () => this.paint(), { passive: true });
    new ResizeObserver(() => this.paint()).observe(viewport);
  }

  /** Other columns, so other elements. */
  rebuild() {
    this.#pool = [];
    this.#drawn = [];
    this.body.replaceChildren();
  }

  setCount(count) {
    this.count = count;
    this.#drawn = [];
    this.body.style.height = `${count * this.height}px`;
    this.paint();
  }

  /** Lines on a screen, less the head. */
  get lines() {
    return Math.max(1, Math.floor(this.viewport.clientHeight / this.height) - 1);
  }

  show(position) {
    const top = position * this.height;
    const seen = this.viewport.clientHeight - this.height;
    if (top < this.viewport.scrollTop) this.viewport.scrollTop = top;
    else if (top + this.height > this.viewport.scrollTop + seen) this.viewport.scrollTop = top + this.height - seen;
    this.paint();
  }

  /** The element that shows `position`, if one does. */
  element(position) {
    const slot = this.#pool.length ? position % this.#pool.length : -1;
    return this.#drawn[slot] === position ? this.#pool[slot] : null;
  }

  refresh(position) {
    const element = this.element(position);
    if (element) this.draw(element, position);
  }

  refreshAll() {
    this.#drawn.forEach((position, slot) => {
      if (position !== undefined && position < this.count) this.draw(this.#pool[slot], position);
    });
  }

  paint() {
    const first = Math.max(0, Math.floor(this.viewport.scrollTop / this.height));
    const onScreen = Math.ceil(this.viewport.clientHeight / this.height) + 1;
    this.#grow(onScreen + SPARE);
    const from = Math.max(0, Math.min(first - SPARE / 2, this.count - this.#pool.length));
    const to = Math.min(this.count, from + this.#pool.length);
    for (let position = from; position < to; position += 1) {
      const slot = position % this.#pool.length;
      if (this.#drawn[slot] === position) continue;
      const element = this.#pool[slot];
      if (element.contains(document.activeElement)) this.left(element);
      this.#drawn[slot] = position;
      element.hidden = false;
      element.style.transform = `translateY(${position * this.height}px)`;
      this.draw(element, position);
    }
    for (let slot = 0; slot < this.#pool.length; slot += 1) {
      if (this.#drawn[slot] === undefined || this.#drawn[slot] >= this.count) this.#pool[slot].hidden = true;
    }
    const direction = first >= this.first ? 1 : -1;
    this.first = first;
    this.last = Math.min(this.count - 1, first + onScreen);
    this.looked(this.first, this.last, direction);
  }

  #grow(lines) {
    if (lines <= this.#pool.length) return;
    // Another number of slots puts every position into another slot.
    while (this.#pool.length < lines) {
      const element = this.make();
      this.#pool.push(element);
      this.body.append(element);
    }
    this.#drawn = [];
  }
}
