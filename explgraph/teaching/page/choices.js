// Questions about the graph: "are these the same thing?", "is this noise?", shown in several images.

import { $, el, svg, colour_of, badge } from "./elements.js";
import { UNSEEN } from "./marking.js";
import { state } from "./state.js";

let question = null, shown = 0, send = () => {};
/** Says who is told of an answer: `send(true | false | null, name)`. */
export function on_answer(call) { send = call; }
export const open_question = () => question;
export const end = () => { question = null; };

/** Begins a question. */
export function begin(asked) {
  question = asked; shown = performance.now();
  const two = asked.things.length === 2;
  $("ask").textContent = two ? "Are the two marked things the same part of the object?" : "Is what is marked noise, rather than a part of the object?";
  $("why").textContent = asked.reason ? `Why this one: ${asked.reason}` : "";
  $("called").value = "";
  const [w, h] = state.size;
  const head = asked.things.map((thing, k) => el("span", { class: "thing" }, badge(k), el("span", { text: asked.titles[k] })));
  $("sights").replaceChildren(el("p", { class: "legend" }, ...head), el("ul", {}, ...asked.sights.map(({ row, name, places }) => {
    const marks = places.map(([x, y], k) => svg("circle", { cx: x, cy: y, r: .05 * Math.min(w, h), stroke: colour_of(k) }));
    const whole = el("span", { class: "frame" }, el("img", { src: `thumbnail/${row}`, alt: name }), svg("svg", { viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "none" }, ...marks));
    const patches = places.map(([x, y], k) => {
      const patch = el("img", { class: "patch", src: `patch/${row}/${Math.max(0, x).toFixed(2)}/${Math.max(0, y).toFixed(2)}`, alt: `${asked.titles[k]} in ${name}` });
      patch.style.borderColor = colour_of(k);
      return patch;
    });
    return el("li", {}, whole, ...patches);
  })));
  $("yes").focus({ preventScroll: true });
}
export function answer(said) { if (question && performance.now() - shown > UNSEEN) send(said, $("called").value.trim()); }
