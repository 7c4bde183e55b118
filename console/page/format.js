// Numbers as people read them. All of these return "–" for what is not known.

const none = "\u2013";

// digits keeps about three: 0.05, 1.23, 12.3, 123, 1,234.
function digits(v) {
	const size = Math.abs(v);
	if (size >= 100 || Number.isInteger(v)) return Math.round(v).toLocaleString("en");
	if (size >= 0.1) return short(v);
	return v === 0 ? "0" : String(Number(v.toPrecision(1)));
}

// number shortens from ten thousand on: 12.3 k, 4.56 M.
export function number(v) {
	if (v === null || v === undefined || Number.isNaN(v)) return none;
	for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
		if (Math.abs(v) >= size) return digits(v / (unit === "k" ? 1e3 : size)) + "\u202f" + unit;
	}
	return digits(v);
}

export const rate = (v) => (v === null || v === undefined ? none : number(v) + "/s");

export function percent(v) {
	if (v === null || v === undefined || Number.isNaN(v)) return none;
	const p = v * 100;
	if (p > 0 && p < 0.1) return "<0.1\u202f%";
	if (p > 99.9 && p < 100) return ">99.9\u202f%";
	return Number(p.toFixed(1)) + "\u202f%";
}

// time is a duration in seconds: 12 µs, 1.2 ms, 3.4 s, 5 min, 3 h, 2 d.
export function time(v) {
	if (v === null || v === undefined || Number.isNaN(v)) return none;
	const size = Math.abs(v);
	if (size === 0) return "0\u202fs";
	for (const [over, unit, name] of [[86400, 86400, "d"], [3600, 3600, "h"], [60, 60, "min"], [1, 1, "s"], [1e-3, 1e-3, "ms"]]) {
		if (size >= over) return short(v / unit) + "\u202f" + name;
	}
	return short(v * 1e6) + "\u202f\u00b5s";
}

// short keeps two digits after the point below 10, one below 100, and no zeros
// that say nothing.
function short(v) {
	const size = Math.abs(v);
	if (size >= 100) return String(Math.round(v));
	return String(Number(v.toFixed(size >= 10 ? 1 : 2)));
}

export function bytes(v) {
	if (!v) return none;
	for (const [size, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
		if (v >= size) return short(v / size) + "\u202f" + unit;
	}
	return v + "\u202fB";
}

// clock is the time of day of a moment in milliseconds.
export function clock(ms) {
	return new Date(ms).toLocaleTimeString("en-GB");
}

// plural is "1 key", "2 keys".
export function plural(n, word) {
	return number(n) + " " + word + (n === 1 ? "" : "s");
}
