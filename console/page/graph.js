// Graphs on canvases: lines on a linear or logarithmic scale, and stacked
// shares. A graph's definition says what is drawn, a view of when.

import { clock, time } from "./format.js";

const pad = { top: 8, right: 8, bottom: 16, left: 50 };
const linesAt = 3; // horizontal lines

// paint draws a definition's series over a view.
export function paint(canvas, def, view, look) {
	const box = canvas.getBoundingClientRect();
	if (box.width < 20 || box.height < 20) return;
	const ratio = window.devicePixelRatio || 1;
	const width = Math.round(box.width * ratio);
	const height = Math.round(box.height * ratio);
	if (canvas.width !== width || canvas.height !== height) {
		canvas.width = width;
		canvas.height = height;
	}
	const g = canvas.getContext("2d");
	g.setTransform(ratio, 0, 0, ratio, 0, 0);
	g.clearRect(0, 0, box.width, box.height);
	g.font = "10.5px " + look.font;

	const area = { left: pad.left, right: box.width - pad.right, top: pad.top, bottom: box.height - pad.bottom };
	const x = (t) => area.left + ((t - view.from) / (view.to - view.from)) * (area.right - area.left);
	const scale = scaleOf(def, view);
	const y = (v) => area.bottom - scale.place(v) * (area.bottom - area.top);

	if (def.wrong) shade(g, area, x, def, view, look);
	grid(g, area, x, y, view, scale, look);
	if (def.stack) stack(g, def, view, x, y, look);
	else def.series.forEach((s, i) => line(g, s, view, x, y, look, i === 0 && def.fill ? area.bottom : null));
	labels(g, area, y, def, scale, look);
	if (view.cursor !== null) crosshair(g, area, x, y, def, view, look);
}

// scaleOf fits a scale to what is to be seen.
function scaleOf(def, view) {
	if (def.stack) return { marks: [0, 0.5, 1], place: (v) => v };
	let most = 0;
	let least = Infinity;
	for (const p of view.points) {
		for (const s of def.series) {
			const v = s.of(p.v);
			if (v === null || v === undefined) continue;
			most = Math.max(most, v);
			if (v > 0) least = Math.min(least, v);
		}
	}
	return def.log ? logarithmic(least, most) : linear(Math.max(most, def.least ?? 4));
}

// linear ends at a round number above the most.
function linear(most) {
	const step = 10 ** Math.floor(Math.log10(most));
	const top = [1, 2, 4, 6, 8, 10].map((n) => n * step).find((v) => v >= most * 0.999) ?? most;
	return { marks: [0, top / 2, top], place: (v) => Math.min(1, v / top) };
}

// roundTimes are the times that a logarithmic scale may begin, end and have its
// marks at, in seconds.
const roundTimes = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 10 * 86400, 100 * 86400, 1000 * 86400];

// logarithmic spans at least two steps of round times.
function logarithmic(least, most) {
	if (!(least <= most)) [least, most] = [2e-3, 5e-2];
	const last = roundTimes.length - 1;
	const low = Math.min(Math.max(0, roundTimes.findLastIndex((t) => t <= least)), last - 2);
	const fits = roundTimes.findIndex((t) => t >= most);
	const high = Math.max(fits < 0 ? last : fits, low + 2);
	const every = Math.ceil((high - low) / linesAt);
	const marks = roundTimes.slice(low, high + 1).filter((_, i) => i % every === 0);
	const from = Math.log10(roundTimes[low]);
	const span = Math.log10(roundTimes[high]) - from;
	return { marks, place: (v) => Math.max(0, Math.min(1, (Math.log10(Math.max(v, 1e-9)) - from) / span)) };
}

// shade marks the times in which a definition says something was wrong.
function shade(g, area, x, def, view, look) {
	g.fillStyle = look.color.red;
	g.globalAlpha = 0.13;
	const half = (x(view.every) - x(0)) / 2;
	for (const p of view.points) {
		if (!def.wrong(p.v)) continue;
		const from = Math.max(area.left, x(p.t) - half);
		g.fillRect(from, area.top, Math.min(area.right, x(p.t) + half) - from, area.bottom - area.top);
	}
	g.globalAlpha = 1;
}

function grid(g, area, x, y, view, scale, look) {
	g.lineWidth = 1;
	g.strokeStyle = look.grid;
	for (const mark of scale.marks) {
		const at = Math.round(y(mark)) + 0.5;
		g.beginPath();
		g.moveTo(area.left, at);
		g.lineTo(area.right, at);
		g.stroke();
	}
	const seconds = (view.to - view.from) / 1000;
	const every = seconds > 90 ? 60 : 15;
	g.fillStyle = look.dim;
	g.textBaseline = "alphabetic";
	for (let ago = 0; ago <= seconds; ago += every) {
		const at = Math.round(x(view.to - ago * 1000)) + 0.5;
		g.beginPath();
		g.moveTo(at, area.top);
		g.lineTo(at, area.bottom);
		g.stroke();
		g.textAlign = ago === 0 ? "right" : ago === seconds ? "left" : "center";
		g.fillText(ago === 0 ? "now" : "\u2212" + time(ago), at, area.bottom + 12);
	}
}

// labels name the marks of the scale, left of what is drawn.
function labels(g, area, y, def, scale, look) {
	g.textAlign = "right";
	g.textBaseline = "middle";
	g.fillStyle = look.dim;
	for (const mark of scale.marks) g.fillText(def.format(mark), area.left - 6, y(mark));
}

// broken reports whether there is a hole before a point: nobody looked.
const broken = (view, i) => i > 0 && view.points[i].t - view.points[i - 1].t > 2.5 * view.every;

function line(g, series, view, x, y, look, floor) {
	const color = look.color[series.color];
	g.strokeStyle = color;
	g.fillStyle = color;
	g.lineWidth = 1.6;
	g.lineJoin = "round";
	g.setLineDash(series.dash ?? []);
	let run = [];
	const end = () => {
		if (run.length === 1) {
			g.beginPath();
			g.arc(run[0][0], run[0][1], 1.7, 0, 7);
			g.fill();
		} else if (run.length > 1) {
			g.beginPath();
			run.forEach(([px, py], i) => (i === 0 ? g.moveTo(px, py) : g.lineTo(px, py)));
			g.stroke();
			if (floor !== null) {
				g.lineTo(run.at(-1)[0], floor);
				g.lineTo(run[0][0], floor);
				g.globalAlpha = 0.12;
				g.fill();
				g.globalAlpha = 1;
			}
		}
		run = [];
	};
	view.points.forEach((p, i) => {
		const v = series.of(p.v);
		if (broken(view, i)) end();
		if (v === null || v === undefined) end();
		else run.push([x(p.t), y(v)]);
	});
	end();
	g.setLineDash([]);
}

// stack draws shares of a whole, one upon the other, with a hairline between.
function stack(g, def, view, x, y, look) {
	const floor = view.points.map(() => 0);
	def.series.forEach((s) => {
		const top = view.points.map((p, i) => floor[i] + (s.of(p.v) ?? 0));
		let from = 0;
		for (let i = 0; i <= view.points.length; i++) {
			const ends = i === view.points.length || broken(view, i) || s.of(view.points[i].v) === null;
			if (!ends) continue;
			band(g, view, x, y, from, i, floor, top, look.color[s.color], look.card);
			from = i < view.points.length && s.of(view.points[i].v) === null ? i + 1 : i;
		}
		top.forEach((v, i) => (floor[i] = v));
	});
}

function band(g, view, x, y, from, to, floor, top, color, line) {
	if (to <= from) return;
	// One sample alone is as wide as the time that it speaks for.
	const half = to - from === 1 ? (x(view.every) - x(0)) / 2 : 0;
	g.beginPath();
	for (let i = from; i < to; i++) {
		g.lineTo(x(view.points[i].t) - half, y(top[i]));
		g.lineTo(x(view.points[i].t) + half, y(top[i]));
	}
	g.strokeStyle = line;
	g.lineWidth = 1;
	const edge = new Path2D();
	for (let i = to - 1; i >= from; i--) {
		g.lineTo(x(view.points[i].t) + half, y(floor[i]));
		g.lineTo(x(view.points[i].t) - half, y(floor[i]));
	}
	for (let i = from; i < to; i++) edge.lineTo(x(view.points[i].t), y(top[i]));
	g.closePath();
	g.fillStyle = color;
	g.fill();
	if (top.some((v, i) => i >= from && i < to && v > floor[i])) g.stroke(edge);
}

function crosshair(g, area, x, y, def, view, look) {
	const best = nearest(view, view.cursor);
	if (best === null) return;
	const at = Math.round(x(best.t)) + 0.5;
	g.strokeStyle = look.ink;
	g.lineWidth = 1;
	g.beginPath();
	g.moveTo(at, area.top);
	g.lineTo(at, area.bottom);
	g.stroke();
	if (!def.stack) {
		for (const s of def.series) {
			const v = s.of(best.v);
			if (v === null || v === undefined) continue;
			g.fillStyle = look.color[s.color];
			g.strokeStyle = look.card;
			g.beginPath();
			g.arc(at, y(v), 3.5, 0, 7);
			g.fill();
			g.stroke();
		}
	}
	const text = clock(best.t);
	const half = g.measureText(text).width / 2 + 4;
	const middle = Math.min(Math.max(at, area.left + half), area.right - half);
	g.fillStyle = look.ink;
	g.fillRect(middle - half, area.bottom + 1, 2 * half, 14);
	g.fillStyle = look.card;
	g.textAlign = "center";
	g.textBaseline = "alphabetic";
	g.fillText(text, middle, area.bottom + 12);
}

// nearest is the sample closest to a time.
export function nearest(view, t) {
	let best = null;
	for (const p of view.points) {
		if (best === null || Math.abs(p.t - t) < Math.abs(best.t - t)) best = p;
	}
	return best;
}

// timeAt is the time under a place on a canvas.
export function timeAt(canvas, view, clientX) {
	const box = canvas.getBoundingClientRect();
	const share = (clientX - box.left - pad.left) / (box.width - pad.left - pad.right);
	return view.from + Math.max(0, Math.min(1, share)) * (view.to - view.from);
}

// spark draws one series small, with no scale.
export function spark(canvas, of, view, look) {
	const box = canvas.getBoundingClientRect();
	const ratio = window.devicePixelRatio || 1;
	canvas.width = Math.round(box.width * ratio);
	canvas.height = Math.round(box.height * ratio);
	const g = canvas.getContext("2d");
	g.scale(ratio, ratio);
	const most = Math.max(1e-9, ...view.points.map((p) => of(p.v) ?? 0));
	const x = (t) => ((t - view.from) / (view.to - view.from)) * (box.width - 2) + 1;
	const y = (v) => box.height - 1.5 - (v / most) * (box.height - 3);
	line(g, { of, color: "blue" }, view, x, y, look, box.height);
}

// lookOf reads colours and font from the style sheet, which knows light and dark.
export function lookOf(root) {
	const style = getComputedStyle(root);
	const read = (name) => style.getPropertyValue(name).trim();
	const color = {};
	for (const name of ["blue", "teal", "amber", "purple", "gray", "red"]) color[name] = read("--" + name);
	return { color, ink: read("--ink"), dim: read("--dim"), grid: read("--grid"), card: read("--card"), font: style.fontFamily };
}
