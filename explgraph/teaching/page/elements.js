// Making elements, colours of parts, what is read aloud. Texts are put in as text, never as markup.

export const $ = id => document.getElementById(id);

export function el(tag, { text, class: name, click, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (click) made.addEventListener("click", click);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter(Boolean));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

let unsaid = [], timer = null;
/** Tells people who don't see the page what changed; what comes at the same time is one message. */
export function say(text) {
  unsaid.push(text);
  clearTimeout(timer);
  timer = setTimeout(() => { $("said").textContent = unsaid.join(" "); unsaid = []; }, 150);
}

// Okabe and Ito's, which colour-blind people can tell apart, the brightest first: on photographs
const PALETTE = ["#F0E442", "#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#0072B2", "#999999"];
export const colour_of = k => PALETTE[k % PALETTE.length];
export function ink_on(colour) {
  const [r, g, b] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
  return .299 * r + .587 * g + .114 * b > 100 ? "#000" : "#fff";
}

/** A part's sign: its number on its colour. */
export function badge(k) {
  const made = el("span", { class: "badge", text: String(k + 1), "aria-hidden": "true" });
  made.style.background = colour_of(k);
  made.style.color = ink_on(colour_of(k));
  return made;
}

/** What an object holds under a name that people chose: "constructor" is one like others. */
export const own = (object, key) => Object.hasOwn(object, key) ? object[key] : undefined;
export const percent = share => `${(100 * share).toFixed(share < .0995 ? 1 : 0)} %`;
export const counted = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
/** "a", "a and b", "a, b and c" */
export const listed = names => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
