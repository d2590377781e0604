// Other images: small, with their guesses, which move when something was learnt.

import { $, el, svg, colour_of, counted, own, say } from "./elements.js";
import { state, watch, refresh } from "./state.js";

const REST = 1300; // ms that people see guesses move, before the least sure take their places

const cells = new Map(); // row -> { li, marks: part -> { ring, dot, trail } }
let open = () => {}, timer = null;
/** Says who is told that an image was chosen: `open(name)`. */
export function on_choice(call) { open = call; }
export const shown = () => [...cells.keys()].filter(row => cells.get(row).li.isConnected);

function cell(row) {
  if (cells.has(row)) return cells.get(row);
  const { name } = state.seen[row], overlay = svg("svg", { viewBox: `0 0 ${state.size.join(" ")}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const button = el("button", { class: "thumb", title: name, click: () => open(name) }, el("span", { class: "frame" }, el("img", { src: `thumbnail/${row}`, alt: "", loading: "lazy", draggable: "false" }), overlay));
  const made = { li: el("li", {}, button), button, overlay, marks: new Map() };
  cells.set(row, made);
  return made;
}

/** Puts a cell's guesses where they are now; those that are drawn already glide there. */
function update(row) {
  const { button, overlay, marks } = cell(row), { name, guesses, marked } = state.seen[row], said = [];
  state.parts.forEach((part, k) => {
    const mark = own(marked, part), guess = own(guesses, part), place = mark === undefined ? guess && (guess[3] !== null && guess[3] < .5 ? null : guess.slice(0, 2)) : mark;
    said.push(`${part}: ${mark === undefined ? (guess ? (place ? "guess" : "perhaps not visible") : "unknown") : (mark ? "marked" : "not visible")}`);
    if (!place) {
      for (const one of Object.values(marks.get(part) ?? {})) one.remove();
      marks.delete(part);
      return;
    }
    const [x, y] = place, r = mark === undefined ? guess[2] ?? 0 : 0;
    if (!marks.has(part)) {
      marks.set(part, { trail: svg("line", { class: "trail", stroke: colour_of(k), x1: x, y1: y, x2: x, y2: y }), ring: svg("circle", { class: "ring", stroke: colour_of(k) }), dot: svg("circle", { class: "dot", fill: colour_of(k) }) });
      overlay.append(...Object.values(marks.get(part)));
    }
    const { trail, ring, dot } = marks.get(part), x0 = Number(dot.getAttribute("cx") ?? x), y0 = Number(dot.getAttribute("cy") ?? y);
    if (Math.hypot(x - x0, y - y0) > .01 * Math.hypot(...state.size)) {
      for (const [key, value] of Object.entries({ x1: x0, y1: y0, x2: x, y2: y })) trail.setAttribute(key, value);
      trail.classList.remove("fading"); void trail.getBoundingClientRect(); trail.classList.add("fading");
    }
    for (const one of [ring, dot]) { one.setAttribute("cx", x); one.setAttribute("cy", y); }
    ring.setAttribute("r", r); dot.setAttribute("r", (mark === undefined ? .018 : .028) * Math.hypot(...state.size));
    dot.classList.toggle("said", mark !== undefined);
  });
  button.setAttribute("aria-label", `${name}. ${said.join(", ")}`);
}

/** Shows the images that are listed, in their order. */
function arrange() {
  const listed = new Set(state.rows);
  for (const row of shown()) if (!listed.has(row)) cells.get(row).li.remove();
  const focused = document.activeElement;
  // moving an element stops its glide and takes its focus: only those that aren't at their place
  state.rows.forEach((row, k) => { const { li } = cell(row), at = $("strip").children[k]; if (at !== li) $("strip").insertBefore(li, at ?? null); });
  if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  for (const row of cells.keys()) if (cells.size > 600 && !listed.has(row)) cells.delete(row);
  $("more").hidden = !state.more;
}
watch(() => {
  const first = !shown().length;
  for (const row of new Set([...shown(), ...state.rows])) if (state.seen[row]) update(row);
  clearTimeout(timer);
  // the ones on the page move where they are; a moment later the least sure take their places
  if (first || state.rows.some(row => !cell(row).li.isConnected) === false) arrange(); else timer = setTimeout(arrange, REST);
});

/** Tells what an answer did. */
export function tell_moved(moved) {
  const text = moved ? `Your answer moved the guess in ${counted(moved, "other image")}.` : "Your answer moved no guess elsewhere: they agree with it.";
  $("moved").textContent = text; say(text);
}
$("order").addEventListener("change", event => { state.order = event.target.value; state.count = 24; for (const row of shown()) cells.get(row).li.remove(); refresh([], true); });
$("more").addEventListener("click", () => { state.count = Math.min(480, state.count + 24); refresh(shown(), true); });
