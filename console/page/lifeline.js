// The life of an entry as a line: loaded, due, fresh until, dead, and where it
// is now. Its parts have the same width whatever their length, as an hour of
// staleness would leave nothing to see of the seconds before.

import { make, say } from "./dom.js";
import { time } from "./format.js";

const weight = { fresh: 50, due: 20, stale: 30 };

// stretches are the parts of an entry's life: [name, from, to]. Those that it
// does not have are left out: a remote copy is never due, and without a stale
// window fresh ends in dead.
function stretches(entry) {
	const [loaded, fresh, dead] = [entry.loaded, entry.fresh, entry.dead].map((s) => Date.parse(s));
	const end = entry.negative ? fresh : dead;
	const due = entry.due ? Math.min(Date.parse(entry.due), fresh) : fresh;
	return [
		["fresh", Math.min(loaded, due), due],
		["due", due, Math.min(fresh, end)],
		["stale", Math.min(fresh, end), end],
	].filter(([name, from, to]) => to > from || name === "fresh");
}

// lifeline returns a node, and update, which lets it show another moment and
// returns the age at it.
export function lifeline(entry) {
	const parts = stretches(entry);
	const all = parts.reduce((sum, [name]) => sum + weight[name], 0);
	const loaded = parts[0][1];
	const dead = parts.at(-1)[2];

	const mark = make("i", { class: "mark" });
	const label = make("b", { class: "age" });
	const text = make("p", { class: "ages" });
	const bar = make("div", { class: "life", role: "img" },
		...parts.map(([name, from, to]) => {
			const part = make("span", { class: "part " + name }, make("i"), make("b", null, name), " " + time((to - from) / 1000));
			part.style.flexGrow = weight[name];
			return part;
		}),
		mark);

	// place is where a moment is on the line, in percent.
	function place(now) {
		let left = 0;
		for (const [name, from, to] of parts) {
			const width = (100 * weight[name]) / all;
			if (now < to) return left + (width * Math.max(0, now - from)) / Math.max(1, to - from);
			left += width;
		}
		return 100;
	}

	function update(now) {
		const here = parts.findIndex(([, , to]) => now < to);
		const age = here < 0 ? "dead" : parts[here][0];
		const facts = [`loaded ${seconds(now - loaded)} ago`];
		for (const [name, from] of parts.slice(here < 0 ? parts.length : here + 1)) facts.push(`${name} in ${seconds(from - now)}`);
		facts.push(here < 0 ? `dead for ${seconds(now - dead)}` : `dead in ${seconds(dead - now)}`);
		const said = facts.join(" \u00b7 ");
		mark.style.left = place(now) + "%";
		label.className = "age " + age;
		say(label, age);
		if (text.dataset.shows !== said) {
			text.dataset.shows = said;
			text.replaceChildren(label, " " + said);
			bar.setAttribute("aria-label", `${age}, ${said}`);
		}
		return age;
	}
	return { node: make("div", null, bar, text), update };
}

// seconds leaves out what changes too fast to be read: 1.2 s, 12 s, 3 min 5 s.
function seconds(ms) {
	const s = Math.max(0, ms / 1000);
	if (s < 10) return time(Math.round(s * 10) / 10);
	for (const [big, small] of [[86400, 3600], [3600, 60], [60, 1]]) {
		if (s < big) continue;
		const rest = Math.floor((s % big) / small) * small;
		return time(Math.floor(s / big) * big) + (rest > 0 ? " " + time(rest) : "");
	}
	return time(Math.round(s));
}
