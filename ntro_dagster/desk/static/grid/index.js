// The order of rows: ids and statuses of everything that matches, 17 bytes a row, so that moving and finding ask nobody.

const STRIDE = 17;

export class RowIndex {
  #bytes;
  #view;
  #positions = null;

  /** @param statuses names by number, as the answer's header lists them. */
  constructor(buffer, statuses, change) {
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
    this.count = Math.floor(buffer.byteLength / STRIDE);
    this.statuses = statuses;
    this.change = change;
  }

  id(position) {
    let hex = "";
    for (let at = position * STRIDE, end = at + 16; at < end; at += 1) hex += HEX[this.#bytes[at]];
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }

  status(position) {
    return this.statuses[this.#bytes[position * STRIDE + 16]];
  }

  setStatus(position, status) {
    const number = this.statuses.indexOf(status);
    if (number >= 0) this.#bytes[position * STRIDE + 16] = number;
  }

  /** Where the row is, -1 where it is not. */
  position(id) {
    const bytes = id.replaceAll("-", "").match(/../g)?.map((pair) => Number.parseInt(pair, 16)) ?? [];
    if (bytes.length !== 16) return -1;
    const view = new DataView(Uint8Array.from(bytes).buffer);
    for (const position of this.#listed().get(short(view, 0)) ?? []) {
      if (this.id(position) === id) return position;
    }
    return -1;
  }

  /** The first position from `from` on, in direction `step`, whose status is one of `statuses` and that `test` takes; -1 for none. */
  next(from, step, statuses, test = () => true) {
    const wanted = new Uint8Array(256);
    for (const status of statuses) wanted[this.statuses.indexOf(status) & 255] = 1;
    for (let at = from; at >= 0 && at < this.count; at += step) {
      if (wanted[this.#bytes[at * STRIDE + 16]] && test(at)) return at;
    }
    return -1;
  }

  /** How many rows have each status. */
  tally() {
    const counts = new Map(this.statuses.map((status) => [status, 0]));
    for (let at = 0; at < this.count; at += 1) counts.set(this.status(at), counts.get(this.status(at)) + 1);
    return counts;
  }

  // Made when first needed. Keys are 52 bits of the id: a whole id as text would cost ten times the memory.
  #listed() {
    if (this.#positions) return this.#positions;
    this.#positions = new Map();
    for (let at = 0; at < this.count; at += 1) {
      const key = short(this.#view, at * STRIDE);
      const there = this.#positions.get(key);
      if (there) there.push(at);
      else this.#positions.set(key, [at]);
    }
    return this.#positions;
  }
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const short = (view, at) => view.getUint32(at) * 2 ** 20 + (view.getUint32(at + 4) >>> 12);
