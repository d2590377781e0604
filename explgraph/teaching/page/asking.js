// Which question is open, and what becomes of answers.

import { $, el, say } from "./elements.js";
import { state, refresh } from "./state.js";
import { complain, tell, tell_answer, tell_unsent } from "./server.js";
import * as marking from "./marking.js";
import * as choices from "./choices.js";
import * as strip from "./strip.js";
import * as parts from "./parts.js";

let busy = false; // an answer is under way: keys mean nothing until the next question is there

/** Shows a question, or that there is none. */
async function show(question) {
  const kind = !state.parts.length ? "first" : !question ? "none" : question.kind === "mark" ? "mark" : "choice";
  marking.end(); choices.end();
  $("marking").hidden = kind !== "mark"; $("choosing").hidden = kind !== "choice"; $("first").hidden = kind !== "first";
  document.body.dataset.asked = kind;
  if (kind === "mark") { await marking.begin(question); say(`${$("ask").textContent} Image ${question.image}.`); }
  else if (kind === "choice") { choices.begin(question); say($("ask").textContent); }
  else {
    $("ask").textContent = kind === "first" ? "Teach it a part: you mark it in a few images, it finds it in all others." : "There is nothing left that is worth asking. Press Finish, or choose an image to mark it.";
    $("why").textContent = "";
    if (kind === "first") $("first-part").focus();
  }
}
/** Runs what changes the question, one at a time. */
async function alone(what) {
  if (busy) return;
  busy = true; document.body.setAttribute("aria-busy", "true");
  try { await what(); } catch (error) { complain(error.message); }
  busy = false; document.body.removeAttribute("aria-busy");
}
function answered({ moved, question }) {
  // the next image and the guesses that moved, at the same time
  return Promise.all([show(question), refresh(strip.shown(), true).then(() => strip.tell_moved(moved))]);
}
function send(question, said, name = "") {
  return alone(async () => answered(await tell_answer({ question: question.id, said, name })));
}
marking.on_answer(said => send(marking.open_question(), said));
choices.on_answer((said, name) => send(choices.open_question(), said, name));
strip.on_choice(name => alone(async () => show((await tell("question", { image: name })).question)));
parts.on_added(question => { if (choices.open_question() === null && marking.open_question() === null) alone(() => show(question)); });

/** Takes back what was done in this image or, if nothing was, the last answer. */
export function undo() {
  if (busy || marking.undo()) return;
  alone(async () => {
    const { question } = await tell("undo");
    if (!question) { say("There is nothing to undo."); complain("There is nothing to undo."); return; }
    await refresh(strip.shown(), true);
    await show(question);
  });
}
export async function finish() {
  await alone(async () => {
    const { out } = await tell("finish");
    $("written").replaceChildren(out === null ? el("p", { text: "Nothing is on disk, for no folder was named (--out)." })
      : el("p", {}, document.createTextNode("marks.csv, marks.json (COCO), and the graph with its names, graph.explgraph, are in "), el("code", { text: out })),
    el("p", { class: "quiet", text: "Close this tab and stop the command with Ctrl-C, or go on marking." }));
    $("finished").showModal();
  });
}
export async function start() {
  await alone(async () => {
    await tell_unsent();
    await refresh([], true);
    await show(state.parts.length ? (await tell("question")).question : null);
  });
}
export const is_busy = () => busy;
