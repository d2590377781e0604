// How far it is: the expected error after each answer, the target, and whether to stop.

import { $, svg, percent, counted, colour_of, own, say } from "./elements.js";
import { state, watch } from "./state.js";

const W = 320, H = 120, LEFT = 34, BOTTOM = 18, TOP = 8, RIGHT = 8;
let declined = false; // whether the suggestion to stop was turned down

function draw() {
  const known = state.curve.filter(point => point.error !== null), last = state.curve.at(-1);
  $("answered").textContent = `${state.answers} of ${state.images} answered`;
  $("error").textContent = known.length ? percent(known.at(-1).error) : "";
  if (last && last.advice) $("advice").textContent = last.advice;
  $("stop").hidden = !(last && last.stop) || declined;
  if (last && last.stop) $("stop-why").textContent = last.advice; else declined = false;
  $("advice").hidden = !$("stop").hidden; // the same sentence once
  const curve = $("curve");
  curve.setAttribute("aria-label", known.length ? `Expected error ${percent(known.at(-1).error)} of the diagonal after ${counted(known.at(-1).answers, "answer")}${state.target ? `; the target is ${percent(state.target)}` : ""}` : "Expected error: not known yet");
  if (!known.length) { curve.replaceChildren(axis(10, .1)); return; }
  const most = Math.max(10, known.at(-1).answers), top = nice(1.05 * Math.max(state.target ?? 0, ...known.flatMap(point => [point.error, ...Object.values(point.errors).filter(e => e !== null)])));
  const x = n => LEFT + (W - LEFT - RIGHT) * n / most, y = e => H - BOTTOM - (H - BOTTOM - TOP) * Math.min(1, e / top);
  const path = (points, attributes) => svg("polyline", { points: points.map(p => p.join(",")).join(" "), ...attributes });
  const lines = state.parts.length < 2 ? [] : state.parts.map((part, k) => path(known.filter(p => (own(p.errors, part) ?? null) !== null).map(p => [x(p.answers), y(p.errors[part])]), { class: "of-part", stroke: colour_of(k) }));
  const target = state.target ? [svg("line", { x1: LEFT, x2: W - RIGHT, y1: y(state.target), y2: y(state.target), class: "target" }), label(W - RIGHT, y(state.target) - 3, `target ${percent(state.target)}`, "end", "target-text")] : [];
  const [nx, ny] = [x(known.at(-1).answers), y(known.at(-1).error)];
  curve.replaceChildren(axis(most, top), ...target, ...lines, path(known.map(p => [x(p.answers), y(p.error)]), { class: "mean" }), svg("circle", { cx: nx, cy: ny, r: 4, class: "now" }));
}
function nice(value) { const step = 10 ** Math.floor(Math.log10(value)); return [1, 1.5, 2, 3, 4, 5, 7.5, 10].map(f => f * step).find(v => v >= value); }
function label(x, y, text, anchor, name = "") { const made = svg("text", { x, y, "text-anchor": anchor, class: name }); made.textContent = text; return made; }
function axis(most, top) {
  const base = H - BOTTOM;
  return svg("g", { class: "axis" }, svg("line", { x1: LEFT, x2: W - RIGHT, y1: base, y2: base }), svg("line", { x1: LEFT, x2: W - RIGHT, y1: TOP, y2: TOP, class: "faint" }),
    label(LEFT - 5, base + 3, "0", "end"), label(LEFT - 5, TOP + 5, `${+(100 * top).toPrecision(3)} %`, "end"), label(W - RIGHT, H - 4, `${most} answers`, "end"), label(LEFT, H - 4, "0", "start"));
}
let stopped = false;
watch(() => {
  draw();
  const stop = !$("stop").hidden;
  if (stop && !stopped) say(`You can stop here. ${$("stop-why").textContent}`);
  stopped = stop;
});
$("stop-on").addEventListener("click", () => { declined = true; draw(); $("stage").focus(); });
