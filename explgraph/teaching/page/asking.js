// Which question is open, and what becomes of answers.

import { $, el, say } from "./elements.js";
import { state, refresh } from "./state.js";
import { complain, tell, tell_answer, tell_unsent } from "./server.js";
import * as marking from "./marking.js";
import * as choices from "./choices.js";
import * as strip from "./strip.js";
import * as parts from "./parts.js";

let last = Promise.resolve(), under_way = 0; // what people want is done one after the other; nothing is dropped

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
/** Does what changes the question, after what is under way. */
function then(what) {
  under_way += 1; document.body.setAttribute("aria-busy", "true");
  last = last.then(what).catch(error => complain(error.message)).finally(() => {
    under_way -= 1;
    if (!under_way) document.body.removeAttribute("aria-busy");
  });
  return last;
}
async function send(question, said, name = "") {
  marking.end(); choices.end(); // what comes now is not meant for this question any more
  await then(async () => {
    let next;
    try { next = await tell_answer({ question: question.id, said, name }); } catch (error) {
      await show(question); // it was refused: asked again
      throw error;
    }
    refresh(strip.shown(), true).then(() => strip.tell_moved(next.moved)).catch(error => complain(error.message));
    await show(next.question);
  });
}
marking.on_answer(said => send(marking.open_question(), said));
choices.on_answer((said, name) => send(choices.open_question(), said, name));
strip.on_choice(name => then(async () => show((await tell("question", { image: name })).question)));
parts.on_added(question => { if (choices.open_question() === null && marking.open_question() === null) then(() => show(question)); });

/** Takes back what was done in this image or, if nothing was, the last answer. */
export function undo() {
  if (marking.undo()) return;
  then(async () => {
    const { question } = await tell("undo");
    if (!question) throw new Error("There is nothing to undo.");
    refresh(strip.shown(), true).catch(error => complain(error.message));
    await show(question);
  });
}
export const finish = () => then(async () => {
  const { out } = await tell("finish");
  $("written").replaceChildren(out === null ? el("p", { text: "Nothing is on disk, for no folder was named (--out)." })
    : el("p", {}, document.createTextNode("marks.csv, marks.json (COCO), and the graph with its names, graph.explgraph, are in "), el("code", { text: out })),
  el("p", { class: "quiet", text: "Close this tab and stop the command with Ctrl-C, or go on marking." }));
  $("finished").showModal();
});
export async function start() {
  await then(async () => {
    await tell_unsent();
    await refresh([], true);
    await show(state.parts.length ? (await tell("question")).question : null);
  });
}
export const is_busy = () => under_way > 0;
