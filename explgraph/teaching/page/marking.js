// A question of the kind "where is it in this image?": what was placed so far, and what is sent.

import { $, say, listed, own } from "./elements.js";
import { state } from "./state.js";
import * as picture from "./picture.js";
import { complain } from "./server.js";

const MOMENT = 700; // ms in which one may still correct, before it goes on by itself
export const UNSEEN = 300; // ms after which somebody can have seen a new question: a key that comes before was meant for the last

let question = null, marks = new Map(), active = null, before = null, timer = null, shown = 0, send = () => {};

/** Says who is told of an answer: `send(said)`. */
export function on_answer(call) { send = call; }
export const open_question = () => question;

/** Begins a question. */
export async function begin(asked) {
  question = asked; shown = Infinity; stop_timer();
  marks = new Map(state.parts.map(part => [part, start_of(part)]));
  active = first_open();
  tell(); // first: it may take another line, and what is being clicked on must stay where it is
  if (await picture.open(asked.row, asked.image)) {
    draw();
    shown = performance.now();
    $("stage").dataset.image = asked.image;
    $("stage").focus({ preventScroll: true });
  }
}
export function end() { question = null; stop_timer(); delete $("stage").dataset.image; }

/** Which part is asked for first: one of which nothing is known, or else one that is guessed. */
function first_open() {
  const open = state.parts.filter(part => !done(part));
  return open.find(part => marks.get(part).by === "none") ?? open[0] ?? state.parts[0] ?? null;
}
const unseen = () => !touched() && performance.now() - shown < UNSEEN;
/** What is known of a part before anything is done: what was said earlier, or the guess. */
function start_of(part) {
  const said = own(question.marked, part);
  if (said !== undefined) return { place: said, by: "said" };
  const guess = own(question.guesses, part);
  if (!guess) return { place: undefined, by: "none" };
  const [x, y, , presence] = guess;
  // presence is null where absence was never told
  return { place: presence !== null && presence < .5 ? null : [x, y], by: "guess" };
}
const done = part => ["hand", "said"].includes(marks.get(part).by);
const touched = () => [...marks.values()].some(mark => mark.by === "hand");

function draw() {
  const said = state.parts.map((part, k) => {
    const { place, by } = marks.get(part) ?? { by: "none" }, guess = own(question.guesses, part);
    return { part, k, place, by, active: part === active, ring: guess && { place: guess.slice(0, 2), radius: guess[2] } };
  });
  picture.draw(said);
  tell();
}
/** Says in words what is open. */
function tell() {
  $("ask").replaceChildren(...sentence());
  $("why").textContent = question.reason ? `Why this one: ${question.reason}` : "";
  for (const chip of document.querySelectorAll("#parts [role=radio]")) {
    const part = state.parts[chip.dataset.k], chosen = part === active;
    chip.setAttribute("aria-checked", String(chosen));
    chip.querySelector(".state").textContent = state_of(part);
  }
}
function state_of(part) {
  const mark = marks.get(part);
  if (!mark || mark.by === "none") return "not placed";
  if (mark.place === null) return mark.by === "guess" ? "not visible?" : "not visible";
  return { hand: "placed", said: "marked", guess: "guess" }[mark.by];
}
// a finger has no Enter
const fingers = matchMedia("(pointer: coarse)"), go_on = () => bold(fingers.matches ? "Accept" : "Enter"), click = () => fingers.matches ? "tap" : "click";
const bold = text => Object.assign(document.createElement("b"), { textContent: text });
/** One sentence: what to do now. */
function sentence() {
  const open = state.parts.filter(part => !done(part)), guessed = open.filter(part => marks.get(part).by === "guess");
  if (timer) return ["Good. The next image comes at once; ", bold("Undo"), " takes it back."];
  if (!open.length) return ["Press ", go_on(), " to go on, or put a part elsewhere."];
  if (guessed.length === open.length) {
    if (open.length === 1 && marks.get(open[0]).place === null) return ["It thinks that this image doesn't show the ", bold(open[0]), ". Press ", go_on(), ` if so, or ${click()} where it is.`];
    return open.length === 1 ? ["Is the ring on the ", bold(open[0]), "? Press ", go_on(), `, or ${click()} where it really is.`]
      : ["Are the rings right? Press ", go_on(), `, or ${click()} where the `, bold(active), " really is."];
  }
  return [fingers.matches ? "Tap on the " : "Click on the ", bold(active), " in this image.", state.answers ? "" : " A few images later it finds the rest by itself."];
}

// --- what people do

function stop_timer() { clearTimeout(timer); timer = null; $("accept").classList.remove("soon"); }
function next_part() {
  const order = [...state.parts.slice(state.parts.indexOf(active) + 1), ...state.parts];
  const open = order.find(part => !done(part));
  if (open) active = open;
  stop_timer();
  if (!open && $("by-itself").checked) {
    $("accept").classList.add("soon");
    timer = setTimeout(accept, MOMENT);
  }
  draw();
}
function settle(part, place) {
  marks.set(part, { place, by: "hand" }); active = part;
  say(place ? `${part} at ${place.map(Math.round).join(", ")}` : `${part}: not visible`);
  next_part();
}
picture.handle({
  active: () => question && active !== null ? { part: active, k: state.parts.indexOf(active) } : null,
  started() { stop_timer(); before = structuredClone({ marks, active }); },
  place(part, place, final) {
    if (!question) return;
    if (part === null) { if (before) ({ marks, active } = before); draw(); return; }
    if (final) { settle(part, place); return; }
    marks.set(part, { place, by: "hand" }); active = part;
    draw();
  },
});

export function choose(part) {
  if (!question || !state.parts.includes(part)) return;
  stop_timer(); active = part; draw();
  say(`${part}: ${state_of(part)}`);
}
/** The next part, or the one before; false at the end. */
export function step(by) {
  const to = state.parts[state.parts.indexOf(active) + by];
  if (question && to !== undefined) choose(to);
  return to !== undefined;
}
export function absent() { if (question && active !== null && !unseen()) settle(active, null); }
/**
 * Moves the active part, or what was placed last while it is about to go on. What is nowhere begins in the middle, so that
 * no mouse is needed. False if nothing was placed by hand and `begin` is false: the key may mean something else then.
 */
export function nudge(dx, dy, begin) {
  if (!question || active === null) return false;
  const last = timer ? state.parts.findLast(part => marks.get(part).by === "hand" && marks.get(part).place) ?? active : active;
  const mark = marks.get(last), [w, h] = state.size;
  if (!begin && (!mark.place || mark.by === "guess")) return false;
  stop_timer(); active = last;
  const [x, y] = mark.place ?? [w / 2, h / 2];
  marks.set(last, { place: [Math.min(w, Math.max(0, x + dx)), Math.min(h, Math.max(0, y + dy))], by: "hand" });
  draw();
  return true;
}
export function accept() {
  if (!question || unseen()) return;
  stop_timer();
  const said = Object.fromEntries([...marks].filter(([, mark]) => mark.place !== undefined).map(([part, mark]) => [part, mark.place]));
  if (!Object.keys(said).length) { complain(`Click where the ${listed(state.parts)} is first; N if it can't be seen, S to skip the image.`); return; }
  send(said);
}
export function skip() { if (question && !unseen()) { stop_timer(); send({}); } }
/** Takes back what was done in this image; false if nothing was. */
export function undo() {
  if (!question || !touched()) return false;
  stop_timer();
  for (const part of state.parts) marks.set(part, start_of(part));
  active = first_open();
  draw(); say("Back to what it was.");
  return true;
}
/** Parts may have come in the meantime. */
export function parts_changed() {
  if (!question) return;
  for (const part of state.parts) if (!marks.has(part)) marks.set(part, start_of(part));
  active ??= first_open();
  draw();
}
