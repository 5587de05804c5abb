// Elements and keys of the page. Text from documents only ever becomes text nodes: nothing here reads HTML.

export const $ = (id) => document.getElementById(id);

/** An element: `h("button", {class: "quiet", onclick: close}, "Close")`. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** What was kept under `key`, or `otherwise` where nothing readable was. */
export function kept(store, key, otherwise) {
  try {
    return JSON.parse(store.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keep it; a store that is full or switched off costs the convenience, not the page. */
export function keep(store, key, value) {
  try {
    store.setItem(key, JSON.stringify(value));
  } catch {
    /* see above */
  }
}

/** Whether keys typed into `element` are text. */
export function takesText(element) {
  return element instanceof HTMLElement && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));
}
