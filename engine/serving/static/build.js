// Elements made of names, attributes and children; texts are never taken as markup.

/** Make an element; a function as a property listens, `class` and the like are attributes. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Place an element along its axis: a share of 0 to 1, kept inside. */
export function placed(element, share) {
  element.style.setProperty("--at", Math.min(1, Math.max(0, share)));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}
