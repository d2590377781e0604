// The parts that are marked: choosing one, adding one.

import { $, el, badge } from "./elements.js";
import { state, watch, refresh } from "./state.js";
import { complain, tell } from "./server.js";
import * as marking from "./marking.js";

let drawn = "", added = () => {};
/** Says who is told of the question that is asked after a part was added. */
export function on_added(call) { added = call; }

watch(() => {
  const now = JSON.stringify(state.parts);
  if (now !== drawn) {
    drawn = now;
    $("parts").replaceChildren(...state.parts.map((part, k) => el("button", { role: "radio", "aria-checked": "false", "data-k": k, title: `${part} (${k + 1})`, click: () => { marking.choose(part); $("stage").focus({ preventScroll: true }); } },
      badge(k), el("span", { class: "name", text: part }), el("span", { class: "state" }))));
    marking.parts_changed();
  }
  $("how-many").textContent = `${state.images} images`;
});
async function add(name) {
  try {
    const { question } = await tell("part", { name });
    await refresh([], true);
    added(question);
    return true;
  } catch (error) { complain(error.message); return false; }
}
export function ask_for_name() { $("new-part").value = ""; $("naming").showModal(); }
$("add-part").addEventListener("click", ask_for_name);
$("naming-close").addEventListener("click", () => $("naming").close());
$("naming-form").addEventListener("submit", async event => { event.preventDefault(); if (await add($("new-part").value)) $("naming").close(); });
$("first").addEventListener("submit", async event => { event.preventDefault(); await add($("first-part").value); });
