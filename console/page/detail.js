// The selected cache: its states and its graphs.

import { brief, find, keyName, make, put, say, visible } from "./dom.js";
import { clock } from "./format.js";
import { lookOf, nearest, paint, timeAt } from "./graph.js";
import { panels } from "./panels.js";
import { levelPill, pillsOf, turnText } from "./states.js";
import { at, changed, selectedInfo, shownSpan, state, view } from "./store.js";

const root = find("detail");
const empty = find("empty");
let drawn = null; // the id of the cache that is built
let parts = null; // its nodes
let onDial = null; // opens the dial; null: read-only

export function allowDial(open) {
	onDial = open;
}

export function renderDetail() {
	const info = selectedInfo();
	if (!info) {
		drawn = null;
		root.replaceChildren(empty);
		say(empty, state.info ? "There is no cache here: console.Handler was given none." : loading());
		return;
	}
	if (drawn !== info.id) build(info);
	const v = view(info.id);
	const point = at(v);
	header(info, point);
	const look = lookOf(document.documentElement);
	for (const p of parts.panels) panel(p, v, point, look);
}

const loading = () => (state.link === "lost" ? "Nothing is known yet: the server cannot be reached." : "Loading\u2026");

function build(info) {
	drawn = info.id;
	parts = {
		level: make("p", { class: "pills" }),
		turn: onDial && make("button", { type: "button", class: "turn", title: "Turn the dial", onclick: () => onDial(info) }),
		pills: make("p", { class: "pills" }),
		about: make("p", { class: "about" }),
		notice: make("p", { class: "notice", role: "status" }),
		panels: panels.map(buildPanel),
	};
	parts.notice.hidden = true;
	if (parts.turn) parts.level.append(parts.turn);
	const title = make("h2", { title: visible(info.id) }, keyName(info.id, "name"));
	put(root,
		make("header", { class: "head" }, title, parts.level, parts.pills, parts.about),
		parts.notice,
		make("div", { class: "panels" }, ...parts.panels.map((p) => p.node)));
}

function buildPanel(def) {
	const p = { def, values: [], notes: make("dl", { class: "notes" }) };
	const legend = make("ul", { class: "legend" }, ...def.series.map((s) => {
		const value = make("b", null, "\u2013");
		p.values.push(value);
		return make("li", null, swatch(def, s), s.label + " ", value);
	}));
	p.canvas = make("canvas", { role: "img", tabindex: 0, data: { graph: def.id } });
	p.quiet = make("p", { class: "quiet" });
	p.node = make("article", { class: "card panel", data: { panel: def.id } },
		make("h3", null, def.title), legend, make("div", { class: "plot" }, p.canvas, p.quiet), p.notes);
	p.canvas.addEventListener("pointermove", (e) => read(timeAt(p.canvas, view(drawn), e.clientX)));
	p.canvas.addEventListener("pointerdown", (e) => read(timeAt(p.canvas, view(drawn), e.clientX)));
	p.canvas.addEventListener("pointerleave", () => read(null));
	p.canvas.addEventListener("blur", () => read(null));
	p.canvas.addEventListener("keydown", (e) => step(e, p));
	return p;
}

// swatch shows a series' colour, and its dashes.
function swatch(def, s) {
	const style = def.stack ? "block" : s.dash ? (s.dash[0] > 2 ? "dashed" : "dotted") : "solid";
	return make("i", { class: `swatch ${s.color} ${style}`, aria: { hidden: true } });
}

function read(t) {
	if (state.cursor === t) return;
	state.cursor = t;
	changed();
}

// step moves the crosshair by the keyboard, and speaks what is under it.
function step(e, p) {
	const v = view(drawn);
	if (v.points.length === 0 || e.ctrlKey || e.metaKey || e.altKey) return;
	const here = v.points.indexOf(state.cursor === null ? v.points.at(-1) : nearest(v, state.cursor));
	const by = e.shiftKey ? 10 : 1;
	const to = { ArrowLeft: here - by, ArrowRight: here + by, Home: 0, End: v.points.length - 1 }[e.key];
	if (e.key === "Escape") read(null);
	if (to === undefined) return;
	e.preventDefault();
	const point = v.points[Math.max(0, Math.min(v.points.length - 1, to))];
	read(point.t);
	say(find("spoken"), `${clock(point.t)}: ${words(p.def, point)}`);
}

function header(info, point) {
	const v = point?.v;
	const dial = state.dials[info.dial];
	const sharers = state.info.caches.filter((c) => c.dial === info.dial && c.id !== info.id).map((c) => brief(c.id));
	const origin = info.stats?.Origin.Name;
	const about = origin && origin !== info.name ? [`origin ${brief(origin)}`] : [];
	about.push(`dial ${visible(turnText(dial, Date.now()))}` + (sharers.length ? `, shared with ${sharers.join(", ")}` : ""));
	say(parts.about, about.join(" \u00b7 "));
	parts.about.title = parts.about.textContent;

	const level = v?.level ?? dial?.level ?? 5;
	if (parts.level.dataset.shows !== String(level)) { // a button in use must stay
		parts.level.dataset.shows = String(level);
		if (parts.turn) put(parts.turn, levelPill(level), " turn\u2026");
		else put(parts.level, levelPill(level));
	}
	const pills = v ? pillsOf(v).filter((p) => p.dataset.what !== "level") : [];
	const shows = pills.map((p) => p.textContent).join();
	if (parts.pills.dataset.shows !== shows) {
		parts.pills.dataset.shows = shows;
		put(parts.pills, ...pills);
	}
	const notice = v?.problem ? `This cache cannot be sampled. ${visible(v.problem)}`
		: v?.closed ? "This cache is closed: it answers ErrClosed, and nothing here will move again." : "";
	say(parts.notice, notice);
	parts.notice.hidden = notice === "";
}

function panel(p, v, point, look) {
	const { def } = p;
	def.series.forEach((s, i) => say(p.values[i], point ? def.format(s.of(point.v)) : "\u2013"));
	const notes = point ? (def.notes?.(point.v) ?? []) : [];
	const text = notes.map((n) => n.join(" ")).join("|");
	if (p.notes.dataset.shows !== text) {
		p.notes.dataset.shows = text;
		put(p.notes, ...notes.map(([name, value]) => make("div", null, make("dt", null, name), make("dd", null, value))));
	}
	const quiet = quietness(def, v, point);
	say(p.quiet, quiet);
	p.quiet.hidden = quiet === "";
	paint(p.canvas, def, v, look);
	const label = `${def.title}, the last ${shownSpan() === 60 ? "minute" : "five minutes"}. ` +
		(quiet !== "" ? quiet : words(def, point));
	if (p.canvas.getAttribute("aria-label") !== label) p.canvas.setAttribute("aria-label", label);
}

// quietness says why there is nothing to draw; "" if there is.
function quietness(def, v, point) {
	if (point === null) return state.link === "lost" ? "nothing was heard in this time" : "waiting for the first second\u2026";
	if (point.v.problem) return "not known";
	if (def.id !== "memory" && def.id !== "flights" && def.id !== "bucket" && def.id !== "writes" && !v.points.some((p) => p.v.total)) {
		return "no reads yet";
	}
	return def.shown && !def.shown(v.points) ? def.quiet : "";
}

const words = (def, point) => def.series.map((s) => `${s.label} ${def.format(s.of(point.v))}`).join(", ");
