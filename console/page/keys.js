// The keys that are read most, and those served stale for longest.

import { find, keyName, make, put } from "./dom.js";
import { number, time } from "./format.js";
import { inspect } from "./inspector.js";
import { selectedInfo, state } from "./store.js";
import { reason } from "./stream.js";

const every = 5000; // milliseconds between two looks
const patience = 20000; // milliseconds for an answer
const hot = find("hot");
const stale = find("stale");
let asked = null; // of which cache the lists are
let busy = false;
let due = 0;

// renderKeys asks for the lists of the selected cache, now and then.
export function renderKeys() {
	const info = selectedInfo();
	if (!info) return;
	if (asked !== info.id) {
		asked = info.id;
		due = 0;
		for (const list of [hot, stale]) put(list, note("Loading\u2026"));
	}
	if (state.link === "live" && state.pausedAt === null && !busy && Date.now() >= due) ask(info.id);
}

async function ask(id) {
	busy = true;
	due = Date.now() + every;
	try {
		const answer = await fetch("api/keys?cache=" + encodeURIComponent(id), { cache: "no-store", signal: AbortSignal.timeout(patience) });
		if (!answer.ok) throw new Error(await reason(answer));
		const list = await answer.json();
		if (asked === id) show(list);
	} catch (error) {
		if (asked === id) for (const list of [hot, stale]) put(list, note("Not known: " + error.message));
	} finally {
		busy = false;
	}
}

function show(list) {
	if (!list.tracked) {
		for (const node of [hot, stale]) put(node, note("Keys are personal data, so they are not told apart. Config.Track turns this on."));
		return;
	}
	rows(hot, list.hot, (k) => k.reads, number, "No key was read often yet.");
	rows(stale, list.stale, (k) => k.age, time, "Nothing stale was served that has not been reloaded.");
}

function rows(node, keys, of, format, none) {
	if (keys.length === 0) {
		put(node, note(none));
		return;
	}
	const focused = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
	const most = Math.max(...keys.map(of));
	put(node, make("ol", null, ...keys.map((k) => {
		const bar = make("i", { class: "share", aria: { hidden: true } });
		bar.style.width = (most > 0 ? (100 * of(k)) / most : 0) + "%";
		const facts = [bar, keyName(k.key), make("b", null, format(of(k)))];
		if (k.bytes) return make("li", null, make("span", { class: "long", title: `It has ${number(k.bytes)} bytes, too many to be found here` }, ...facts));
		return make("li", null, make("button", { type: "button", data: { key: k.key }, title: "Find it", onclick: () => inspect(k) }, ...facts));
	})));
	if (focused !== null) [...node.querySelectorAll("button")].find((b) => b.dataset.key === focused)?.focus();
}

const note = (text) => make("p", { class: "quiet" }, text);
