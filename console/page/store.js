// What the page knows. Parts of the page are told when it changes.

export const state = {
	info: null, // what api/caches answers; null: nothing is known yet
	dials: [],
	samples: [], // the oldest first
	selected: null, // the id of a cache
	span: null, // seconds shown; null: nobody has chosen, see shownSpan
	pausedAt: null, // the time of the last sample shown while paused
	cursor: null, // the time that is read from the graphs
	link: "loading", // or "live", "lost"
};

const listeners = new Set();

// watch calls f after every change, at most once a frame.
export function watch(f) {
	listeners.add(f);
}

let scheduled = false;

export function changed() {
	if (scheduled) return;
	scheduled = true;
	requestAnimationFrame(() => {
		scheduled = false;
		for (const f of listeners) f(state);
	});
}

// heard takes one event of the stream.
export function heard(name, data) {
	switch (name) {
		case "hello":
			welcome(data);
			break;
		case "history":
			remember(data);
			break;
		case "sample":
			while (state.samples.at(-1)?.t >= data.t) state.samples.pop(); // the server's clock was set back
			state.samples.push(data);
			trim();
			break;
		case "dials":
			state.dials = data;
			break;
	}
	changed();
}

// welcome takes the list of caches. If it is another than before, so is the
// program, and its samples are others'.
function welcome(info) {
	const ids = (i) => JSON.stringify(i?.caches.map((c) => c.id));
	if (ids(state.info) !== ids(info)) {
		state.samples = [];
		state.pausedAt = null;
		const wanted = decode(location.hash.slice(1));
		const chosen = info.caches.find((c) => c.id === (state.selected ?? wanted)) ?? info.caches[0];
		state.selected = chosen?.id ?? null;
	}
	state.info = info;
	state.dials = info.dials;
}

function decode(text) {
	try {
		return decodeURIComponent(text);
	} catch {
		return "";
	}
}

// remember takes the server's samples, and keeps what is older: a program that
// was started anew leaves a gap in the graphs, no blank.
function remember(samples) {
	const first = samples[0]?.t ?? Infinity;
	state.samples = state.samples.filter((s) => s.t < first).concat(samples);
	trim();
}

// While paused, what is shown stays there to be shown, for an hour at most.
function trim() {
	const most = state.pausedAt === null ? state.info.kept : 3600;
	if (state.samples.length > most) state.samples.splice(0, state.samples.length - most);
}

export function choose(id) {
	if (state.selected === id || !state.info?.caches.some((c) => c.id === id)) return;
	state.selected = id;
	history.replaceState(null, "", "#" + encodeURIComponent(id));
	changed();
}

export function pause(on) {
	state.pausedAt = on ? (state.samples.at(-1)?.t ?? Date.now()) : null;
	if (!on) trim();
	changed();
}

// shownSpan is how many seconds are shown: a minute until there is more to see.
export function shownSpan() {
	const { samples } = state;
	return state.span ?? (samples.length > 0 && samples.at(-1).t - samples[0].t > 60000 ? 300 : 60);
}

// view is what the graphs show of a cache: its samples, and from when to when.
export function view(id) {
	const index = state.info.caches.findIndex((c) => c.id === id);
	const to = state.pausedAt ?? state.samples.at(-1)?.t ?? Date.now();
	const from = to - shownSpan() * 1000;
	const points = [];
	for (const s of state.samples) {
		if (s.t >= from && s.t <= to && s.caches[index]) points.push({ t: s.t, v: s.caches[index] });
	}
	return { points, from, to, every: state.info.every * 1000, cursor: state.cursor };
}

// latest is the last sample of a view, or the one under the cursor.
export function at(v) {
	if (v.cursor === null) return v.points.at(-1) ?? null;
	let best = null;
	for (const p of v.points) {
		if (best === null || Math.abs(p.t - v.cursor) < Math.abs(best.t - v.cursor)) best = p;
	}
	return best;
}

export const selectedInfo = () => state.info?.caches.find((c) => c.id === state.selected) ?? null;
