// Which rows a decision is about: some by id, or everything that the filter matches.

export class Selection {
  constructor(changed) {
    this.ids = new Set();
    this.everything = false;
    this.changed = changed;
    this.anchor = -1;
    this.extending = false;
  }

  get empty() {
    return !this.everything && this.ids.size === 0;
  }

  has(id) {
    return this.everything || this.ids.has(id);
  }

  toggle(id, position) {
    if (this.everything) return false;
    if (!this.ids.delete(id)) this.ids.add(id);
    this.anchor = position;
    this.changed();
    return true;
  }

  /** Everything between the anchor and `position`, instead of what was extended before. */
  extend(index, from, position) {
    if (this.everything) return;
    if (this.anchor < 0 || this.ids.size === 0) this.anchor = from;
    this.ids.clear();
    const [low, high] = this.anchor < position ? [this.anchor, position] : [position, this.anchor];
    for (let at = low; at <= high; at += 1) this.ids.add(index.id(at));
    this.changed();
  }

  all() {
    this.ids.clear();
    this.everything = true;
    this.extending = false;
    this.changed();
  }

  clear() {
    const there = !this.empty || this.extending;
    this.ids.clear();
    this.everything = false;
    this.extending = false;
    this.anchor = -1;
    if (there) this.changed();
    return there;
  }
}
