// What the server told last, the same for all that show it: parts, the curve, other images.

import { read } from "./server.js";

export const state = {
  revision: "", size: [1, 1], parts: [], images: 0, target: null, answers: 0, curve: [], rows: [], more: false, seen: {},
  order: "unsure", count: 24, // of the other images: asked for, not told
};
const watchers = [];
/** Calls a function whenever the state is another. */
export function watch(call) { watchers.push(call); }

/** Fetches the state; `shown` are rows of images that are on the page. */
export async function refresh(shown, force = false) {
  const query = new URLSearchParams({ order: state.order, count: String(state.count), shown: shown.join(",") });
  if (!force) query.set("since", state.revision);
  const told = await read(`state?${query}`);
  if (!told.parts) return;
  Object.assign(state, told);
  for (const call of watchers) call();
}
