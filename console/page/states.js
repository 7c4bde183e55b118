// The states of a cache, in words: its pills and its dial's last turn.

import { pill } from "./dom.js";
import { time } from "./format.js";

export const levels = {
	5: ["normal", "as configured"],
	4: ["elevated", "only pinned keys are refreshed ahead"],
	3: ["degraded", "stale is served at once; no refresh ahead"],
	2: ["protect", "stale is not reloaded; misses load inside a throttle, or fail"],
	1: ["lockdown", "the origin is never called; what is nowhere cached fails"],
};

export function levelPill(level) {
	const kind = level === 5 ? "good" : level >= 3 ? "warn" : "bad";
	const node = pill(kind, `DEFCON ${level} ${levels[level]?.[0] ?? ""}`, levels[level]?.[1]);
	node.dataset.what = "level";
	return node;
}

// pillsOf are the states of a cache; with onlyWorries, those to be looked at.
export function pillsOf(v, onlyWorries) {
	const all = [];
	const add = (kind, text, title) => {
		if (!onlyWorries || kind === "warn" || kind === "bad") all.push(pill(kind, text, title));
	};
	if (v.problem) return [pill("bad", "cannot be sampled", v.problem)];
	if (v.closed) return [pill("bad", "closed", "Close has been called: every method answers ErrClosed")];
	if (!onlyWorries || v.level !== 5) all.push(levelPill(v.level));
	switch (v.breaker) {
		case "closed":
			add("good", "breaker closed", "all calls of the origin pass");
			break;
		case "half-open":
			add("warn", "breaker half-open", "probes find out whether the origin is back");
			break;
		case "open":
			add("bad", "breaker open", "the origin is not called");
			break;
		default:
			add("calm", "no breaker");
	}
	switch (v.bus) {
		case "hearing":
			add("good", v.lag ? `bus hears, ${time(v.lag)} behind` : "bus hears", "what other processes write is heard of");
			break;
		case "deaf":
			add("bad", "bus deaf for " + time(v.silent ?? 0), "what other processes write is not heard of");
			break;
		default:
			add("calm", "no remote tier");
	}
	if (v.barred) add("bad", "remote tier barred", "a breaker of the remote tier is open: it is left out");
	if (v.overdue) add("warn", `${v.overdue} overdue`, "loaders still running past their timeout");
	if (v.pending) add("warn", `${v.pending} unconfirmed`, "invalidations that the remote tier has not confirmed");
	return all;
}

// turnText tells of the last turn of a dial.
export function turnText(dial, now) {
	if (!dial?.at) return "never turned";
	const ago = time(Math.max(0, Math.round((now - dial.at) / 1000)));
	const who = dial.who ? ` by ${dial.who}` : "";
	const why = dial.why ? `: ${dial.why}` : "";
	return `turned ${ago} ago${who} (${dial.via})${why}`;
}
