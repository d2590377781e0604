// Keys and buttons.

import { $ } from "./elements.js";
import * as marking from "./marking.js";
import * as choices from "./choices.js";
import * as picture from "./picture.js";
import { ask_for_name } from "./parts.js";
import { state } from "./state.js";
import { undo, finish } from "./asking.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function press(button, call) {
  $(button).addEventListener("click", () => { call(); if (!$("marking").hidden) $("stage").focus({ preventScroll: true }); });
}
press("accept", marking.accept); press("absent", marking.absent); press("skip", marking.skip); press("undo", undo);
press("yes", () => choices.answer(true)); press("no", () => choices.answer(false)); press("pass", () => choices.answer(null)); press("take-back", undo);
$("finish").addEventListener("click", finish); $("stop-finish").addEventListener("click", finish);
$("help-button").addEventListener("click", () => $("help").showModal());

addEventListener("keydown", event => {
  if (event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target, typing = target.matches("input:not([type=checkbox]), select"), on_button = target.matches("button, summary, input");
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) { if (key === "z" && !typing) { event.preventDefault(); undo(); } return; }
  if (typing) { if (key === "Escape") target.blur(); return; }
  if (key === "?") { $("help").showModal(); return; }
  if (key === "p") { event.preventDefault(); ask_for_name(); return; }
  if (key === "z") { undo(); return; }
  if (choices.open_question()) {
    if (key in { y: 1, n: 1, s: 1 }) { event.preventDefault(); choices.answer({ y: true, n: false, s: null }[key]); }
    return;
  }
  if (!marking.open_question()) return;
  const by = event.shiftKey ? 10 : 1;
  if (key in ARROWS) {
    // to the right is "skip", too, as long as nothing was placed; with Shift it always moves
    const [dx, dy] = ARROWS[key];
    if (marking.nudge(by * dx, by * dy, key !== "ArrowRight" || event.shiftKey)) event.preventDefault();
    else if (key === "ArrowRight" && !event.repeat) { event.preventDefault(); marking.skip(); }
  } else if (key === "Enter" && !on_button) { event.preventDefault(); if (!event.repeat) marking.accept(); }
  else if (key === "Tab" && target === $("stage")) { if (marking.step(event.shiftKey ? -1 : 1)) event.preventDefault(); }
  else if (/^[1-9]$/.test(key) && state.parts[key - 1] !== undefined) marking.choose(state.parts[key - 1]);
  else if (key === "n") marking.absent();
  else if (key === "s") { if (!event.repeat) marking.skip(); }
  else if (key === "+" || key === "=") picture.zoom(1.5);
  else if (key === "-") picture.zoom(1 / 1.5);
  else if (key === "0") picture.zoom_out();
  else if (key === " " && !on_button) event.preventDefault(); // held, it moves the picture: see picture.js
});
