// Finding a key: where it is, its ages, its size, who brought it.

import { buttonsFor } from "./actions.js";
import { brief, find, keyName, make, pill, put, say } from "./dom.js";
import { bytes, number, time } from "./format.js";
import { lifeline } from "./lifeline.js";
import { selectedInfo, state } from "./store.js";
import { reason } from "./stream.js";

const form = find("inspector-form");
const input = find("key");
const found = find("found");
let shown = null; // what is on show; null: nothing
let turn = 0; // tells late answers from awaited ones
let asking = null; // an AbortController: browsers keep few connections

const sources = {
	reader: "a load that a reader waited for",
	refresh: "a refresh",
	preload: "Preload",
	set: "Set, in this process",
	remote: "the remote tier: another process loaded or set it",
	unknown: "not noted (Config.Track notes it)",
};

const again = 5000; // milliseconds after which what is on show is asked for again

form.addEventListener("submit", (e) => {
	e.preventDefault();
	const same = shown !== null && shown.key === input.value;
	inspect({ key: input.value, key64: same ? shown.key64 : undefined });
});

input.addEventListener("keydown", (e) => {
	if (e.key !== "Escape") return;
	if (input.value === "") input.blur();
	input.value = "";
	clear();
});

// inspect looks for a key in the selected cache, and shows it from then on.
export async function inspect({ key, key64 }) {
	input.value = key;
	clear();
	put(found, make("p", { class: "quiet" }, "Looking\u2026"));
	await ask({ cache: state.selected, key, key64 });
	if (shown) say(find("spoken"), found.innerText);
}

// ask asks for a key; what another question has overtaken is dropped.
async function ask({ cache, key, key64 }) {
	const mine = ++turn;
	asking?.abort();
	asking = new AbortController();
	try {
		const which = key64 ? "key64=" + encodeURIComponent(key64) : "key=" + encodeURIComponent(key.toWellFormed?.() ?? key);
		const answer = await fetch(`api/inspect?cache=${encodeURIComponent(cache)}&${which}`, { cache: "no-store", signal: asking.signal });
		if (!answer.ok) throw new Error(await reason(answer));
		const in_ = await answer.json();
		if (mine === turn) show(cache, in_);
	} catch (error) {
		if (mine !== turn) return;
		const failure = make("p", { class: "failure" }, "It cannot be looked for: " + error.message);
		if (shown === null) {
			put(found, failure);
			return;
		}
		// What was found last stays, and is asked for again.
		shown.asking = false;
		shown.late = performance.now();
		found.querySelector(".facts > .failure.late")?.remove();
		failure.classList.add("late");
		found.querySelector(".found-key").after(failure);
	}
}

function clear() {
	turn++;
	shown = null;
	put(found);
}

// renderInspector lets what is on show grow older, asks for it again now and
// then, and when it should have come of another age: it may have been loaded
// meanwhile. It forgets it when another cache is chosen.
export function renderInspector() {
	const info = selectedInfo();
	say(find("inspector-cache"), info ? "in " + brief(info.id) : "");
	if (shown === null) return;
	if (info?.id !== shown.cache) {
		clear();
		return;
	}
	const since = performance.now() - shown.got;
	let aged = false;
	for (const [update, age] of shown.ages) aged = update(shown.at + since) !== age || aged;
	const rested = shown.late ? performance.now() - shown.late > again : since > (aged ? 1000 : again);
	if (!shown.asking && state.link === "live" && state.pausedAt === null && rested) {
		shown.asking = true;
		ask(shown);
	}
}

function show(cache, in_) {
	const act = shown?.act ?? buttonsFor(cache, in_, () => shown && ask(shown));
	act?.pinned(in_.pinned);
	shown = { cache, key: in_.key, key64: in_.key64, at: Date.parse(in_.now), got: performance.now(), ages: [], act, asking: false };
	const states = [];
	if (in_.loading) states.push(pill("good", "being loaded"));
	if (in_.pinned) states.push(pill("calm", "pinned"));
	if (in_.due) states.push(pill("calm", "in the bucket"));
	if (in_.pending) states.push(pill("warn", "write unconfirmed"));
	if (in_.resting) states.push(pill("bad", `origin not asked for ${time(in_.resting)}`, in_.restsFor));
	const facts = make("div", { class: "facts" },
		make("p", { class: "found-key" }, keyName(in_.key), ...states),
		in_.error ? make("p", { class: "failure" }, "Not all is known: " + in_.error) : null,
		in_.restsFor ? make("p", { class: "failure" }, "The last load failed: " + in_.restsFor) : null,
		tier("local", in_.local, null),
		in_.remoteState === "" ? null : tier("remote", in_.remote, in_.remoteState),
		in_.local ? make("p", { class: "about" }, "Brought here by " + sources[in_.source] + ".") : null);
	const old = found.querySelector(".facts");
	if (old) old.replaceWith(facts); // the buttons stay, and so does who is at them
	else put(found, facts, act?.node);
	for (const [update] of shown.ages) update(shown.at);
}

const absent = {
	absent: "it is not there",
	leased: "it is not there: a process is loading it",
	foreign: "something that is not dewar's is under this key; it is left alone",
	failed: "not known: it could not be asked",
};

// tier shows what a tier has of the key.
function tier(name, entry, remoteState) {
	const node = make("section", { class: "tier", data: { tier: name } }, make("h4", null, name + " tier"));
	if (!entry) {
		node.append(make("p", { class: "quiet" }, absent[remoteState ?? "absent"] ?? "it is not there"));
		return node;
	}
	const life = lifeline(entry);
	shown.ages.push([life.update, entry.age]);
	const facts = [];
	if (entry.size) facts.push(["size", name === "remote" ? bytes(entry.size) : number(entry.size) + " (cost)"]);
	if (entry.took) facts.push(["its load took", time(entry.took)]);
	if (entry.negative) facts.push(["value", "none: the origin has no such key"]);
	node.append(life.node);
	if (facts.length) node.append(make("dl", { class: "notes" }, ...facts.map(([k, v]) => make("div", null, make("dt", null, k), make("dd", null, v)))));
	return node;
}
