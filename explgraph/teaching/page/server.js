// Talking to the server. What it can't be told is kept, also when the page is loaded again, and
// told when it is back.

import { $, say } from "./elements.js";

const WAIT = 1000; // ms between tries while the server is away

// the path is the token: another server at the same port is told nothing of this one's
const name_of = key => `${location.pathname}${key}`;
function remembered(key) { try { return sessionStorage.getItem(name_of(key)); } catch { return null; } }
function remember(key, value) { try { sessionStorage.setItem(name_of(key), value); } catch { /* lasts as long as the page, then */ } return value; }
function forget(key) { try { sessionStorage.removeItem(name_of(key)); } catch { /* as above */ } }

/** Tells this browser (this tab, really) from others. */
export const who = remembered("who") || remember("who", crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2));

/** What the server refuses, in its words. */
export class Refused extends Error {}
class Away extends Error {}

let away = false;

function banner(text) { $("banner").textContent = text; $("banner").hidden = !text; }
export function complain(text) { banner(text); setTimeout(() => { if ($("banner").textContent === text) banner(""); }, 8000); }

async function request(path, options) {
  let response, told;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
    told = await response.json();
  } catch (error) { throw new Away(error.message); }
  if (response.status === 403) throw new Refused(`${told.error} (it was started anew, perhaps with another folder)`);
  if (!response.ok) throw new Refused(told.error);
  return told;
}

async function until_there(path, options, kept) {
  for (;;) {
    try {
      const told = await request(path, options);
      if (away) { away = false; banner(""); say("explgraph is back."); }
      return told;
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      away = true;
      banner(`explgraph doesn't answer. Start the same command again: this page goes on by itself.${kept || outbox() ? " Your last answer is kept and will be sent." : ""}`);
      await new Promise(done => setTimeout(done, WAIT));
    }
  }
}

/** Reads from the server, waiting for it if it is away. */
export const read = path => until_there(path, {});
/** Tells the server something, waiting for it if it is away. */
export function tell(path, body = {}) {
  return until_there(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ who, ...body }) }, path === "answer");
}

function outbox() { return remembered("unsent"); }
/** Tells an answer, which outlives a reload. */
export async function tell_answer(body) {
  remember("unsent", JSON.stringify(body));
  try { return await tell("answer", body); } finally { forget("unsent"); }
}
/** Tells the answer that an earlier load of this page could not; gives what it led to, or null. */
export async function tell_unsent() {
  const unsent = outbox();
  if (!unsent) return null;
  try { return await tell_answer(JSON.parse(unsent)); } catch (error) { complain(error.message); return null; }
}
