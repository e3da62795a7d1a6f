// Small helpers for what is on the page.

/**
 * An element of the page that must be there.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/**
 * A new element. Attributes whose value is false or null are left out; functions are listeners.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | null | ((event: any) => void)>} [attributes]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/**
 * An icon, which says nothing to a screen reader.
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `/static/icon.svg#${name}`);
  svg.append(use);
  return svg;
}

/**
 * "1:02:03", or "2:03.5" with a decimal.
 * @param {number} seconds
 * @param {number} [decimals]
 */
export function clock(seconds, decimals = 0) {
  const scale = 10 ** decimals;
  const units = Math.round(Math.max(seconds, 0) * scale);
  const whole = Math.floor(units / scale);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const head = hours ? `${hours}:${two(minutes)}` : String(minutes);
  const tail = decimals ? `.${String(units % scale).padStart(decimals, "0")}` : "";
  return `${head}:${two(whole % 60)}${tail}`;
}

/**
 * "1 video", "2 videos"
 * @param {number} count
 * @param {string} what
 */
export function counted(count, what) {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/**
 * "1.2 GB"
 * @param {number} bytes
 */
export function size(bytes) {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${Math.max(bytes / 2 ** 20, 0.1).toFixed(1)} MB`;
}

/**
 * Show a message, or with an empty one hide its place.
 * @param {HTMLElement} place
 * @param {string} message
 */
export function tell(place, message) {
  place.textContent = message;
  place.hidden = !message;
}

/**
 * Say something to a screen reader alone.
 * @param {string} message
 */
export function announce(message) {
  byId("status", HTMLElement).textContent = message;
}

let toastTimer = 0;

/**
 * Say something to everybody, for some seconds.
 * @param {string} message
 */
export function toast(message) {
  const place = byId("toast", HTMLElement);
  tell(place, message);
  window.clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => tell(place, ""), 5000);
}

/**
 * The words of whatever was thrown.
 * @param {unknown} error
 */
export function words(error) {
  return error instanceof Error ? error.message : String(error);
}
