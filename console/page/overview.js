// All caches at a glance, when there are several.

import { find, keyName, make, pill, put, say, visible } from "./dom.js";
import { lookOf, spark } from "./graph.js";
import { figures } from "./panels.js";
import { pillsOf } from "./states.js";
import { at, choose, state, view } from "./store.js";

const root = find("overview");
let built = null; // of which list of caches
let rows = [];

export function renderOverview() {
	const caches = state.info?.caches ?? [];
	root.hidden = caches.length < 2;
	if (root.hidden) return;
	const ids = JSON.stringify(caches.map((c) => c.id));
	if (built !== ids) build(caches, ids);
	const look = lookOf(document.documentElement);
	for (const row of rows) update(row, look);
}

function build(caches, ids) {
	built = ids;
	rows = caches.map((c, i) => {
		const row = { id: c.id, figures: figures.map(() => make("b")), state: make("td", { role: "cell", class: "pills" }) };
		row.spark = make("canvas", { class: "spark", aria: { hidden: true } });
		row.button = make("button", { type: "button", onclick: () => choose(c.id), title: visible(c.id), "aria-keyshortcuts": i < 9 ? String(i + 1) : null },
			make("kbd", { aria: { hidden: true } }, i < 9 ? String(i + 1) : ""), keyName(c.id, "name"));
		row.node = make("tr", { role: "row", onclick: () => choose(c.id) },
			make("th", { role: "rowheader", scope: "row" }, row.button),
			...figures.map((f, j) => make("td", { role: "cell" },
				make("span", { class: "label", aria: { hidden: true } }, f.label),
				f.spark ? row.spark : null, row.figures[j])),
			row.state);
		return row;
	});
	const titles = ["cache", ...figures.map((f) => f.label), "state"];
	put(root, make("table", { role: "table", class: "card" },
		make("caption", { class: "hidden" }, "All caches; choose one for its graphs"),
		make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...titles.map((t) => make("th", { role: "columnheader", scope: "col" }, t)))),
		make("tbody", { role: "rowgroup" }, ...rows.map((r) => r.node))));
}

function update(row, look) {
	const v = view(row.id);
	const point = at({ ...v, cursor: null });
	const selected = row.id === state.selected;
	row.node.classList.toggle("selected", selected);
	row.button.setAttribute("aria-pressed", String(selected));
	figures.forEach((f, i) => {
		say(row.figures[i], point && !point.v.problem ? f.of(point.v) : "\u2013");
		row.figures[i].classList.toggle("worry", Boolean(point && f.worry?.(point.v)));
	});
	const pills = point ? pillsOf(point.v, true) : [];
	if (point && pills.length === 0) pills.push(pill("good", "ok"));
	const shows = pills.map((p) => p.textContent).join();
	if (row.state.dataset.shows !== shows) {
		row.state.dataset.shows = shows;
		put(row.state, ...pills);
	}
	spark(row.spark, figures.find((f) => f.spark).spark, v, look);
}
