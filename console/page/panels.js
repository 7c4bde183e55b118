// What is drawn of a cache: the definitions of its graphs.

import { number, percent, rate, time } from "./format.js";

// Zeros are left out of samples; a quantile that is left out is not known.
const zero = (name) => (v) => v[name] ?? 0;
const known = (name) => (v) => v[name] ?? null;
const share = (name) => (v) => (v.gets ? (v[name] ?? 0) / v.gets : null);

const any = (name) => (points) => points.some((p) => p.v[name]);

// Each graph has series with a label, a colour and a way to draw them apart
// without one; wrong says when the background is shaded; notes are figures that are not drawn; quiet says what it means
// that there is nothing to draw.
export const panels = [
	{
		id: "reads",
		title: "Reads",
		format: rate,
		fill: true,
		series: [
			{ label: "reads", color: "blue", of: zero("gets") },
			{ label: "joined another's flight", color: "purple", dash: [5, 3], of: zero("collapsed") },
		],
		notes: (v) => [["in all", number(v.total ?? 0)]],
	},
	{
		id: "answers",
		title: "Answered by",
		stack: true,
		format: percent,
		series: [
			{ label: "local tier", color: "blue", of: share("local") },
			{ label: "remote tier", color: "teal", of: share("remote") },
			{ label: "origin", color: "amber", of: share("loaded") },
			{ label: "stale value", color: "purple", of: share("stale") },
			{ label: "no such key", color: "gray", of: share("negative") },
			{ label: "error", color: "red", of: share("failed") },
		],
		shown: any("gets"),
		quiet: "no reads in this time",
	},
	{
		id: "origin",
		title: "Origin",
		format: rate,
		series: [
			{ label: "calls", color: "blue", of: zero("loads") },
			{ label: "errors", color: "red", dash: [6, 3], of: zero("errors") },
			{ label: "refused before it", color: "purple", dash: [2, 2], of: zero("refused") },
		],
		wrong: (v) => v.breaker === "open",
		notes: (v) => [
			...(v.breaker === "none" ? [] : [["breaker", v.breaker]]),
			["in progress", number(v.calls ?? 0) + " of " + number(v.slots ?? 0)],
			["waiting", number(v.queued ?? 0)],
			["keys a call", v.loads ? number((v.keys ?? 0) / v.loads) : number(null)],
			["repeated", rate(v.retries ?? 0)],
		],
	},
	{
		id: "latency",
		title: "Latency",
		log: true,
		format: time,
		series: [
			{ label: "load p50", color: "teal", dash: [6, 3], of: known("load50") },
			{ label: "load p99", color: "blue", of: known("load99") },
			{ label: "readers' wait p99", color: "amber", dash: [2, 2], of: known("wait99") },
		],
		shown: (points) => any("load99")(points) || any("wait99")(points),
		quiet: "no loads in this time, and nobody waited",
	},
	{
		id: "stale",
		title: "Age of stale answers",
		log: true,
		format: time,
		series: [
			{ label: "p50", color: "teal", dash: [6, 3], of: known("stale50") },
			{ label: "p99", color: "purple", of: known("stale99") },
		],
		notes: (v) => [["stale", rate(v.stale ?? 0)]],
		shown: any("stale99"),
		quiet: "nothing stale was served in this time",
	},
	{
		id: "bucket",
		title: "Refresh bucket",
		format: number,
		fill: true,
		series: [{ label: "keys in it", color: "blue", of: zero("bucket") }],
		notes: (v) => [
			["refreshed", rate(v.refreshed ?? 0)],
			["dropped", rate(v.dropped ?? 0)],
			["pinned keys", number(v.pinned ?? 0)],
		],
	},
	{
		id: "flights",
		title: "Flights",
		format: number,
		series: [
			{ label: "in progress", color: "blue", of: zero("flights") },
			{ label: "awaiting another process", color: "teal", dash: [6, 3], of: zero("awaiting") },
			{ label: "past their timeout", color: "red", dash: [2, 2], of: zero("overdue") },
		],
		notes: (v) => [["oldest", v.oldestFlight ? time(v.oldestFlight) : time(null)]],
	},
	{
		id: "writes",
		title: "Written behind",
		format: number,
		series: [
			{ label: "writes waiting", color: "blue", of: zero("backfill") },
			{ label: "invalidations unconfirmed", color: "red", dash: [6, 3], of: zero("pending") },
		],
		notes: (v) => [
			["written", rate(v.filled ?? 0)],
			["failed or dropped", rate(v.unwritten ?? 0)],
		],
		shown: (points) => points.some((p) => p.v.bus !== "none"),
		quiet: "there is no remote tier",
	},
	{
		id: "memory",
		title: "Local tier",
		format: number,
		fill: true,
		series: [{ label: "entries", color: "teal", of: zero("entries") }],
		notes: (v) => [
			...(v.cost === v.entries ? [] : [["cost", number(v.cost ?? 0)]]),
			["evicted", rate(v.evicted ?? 0)],
		],
	},
];

// figures are what the overview shows of each cache. worry is when one is to be
// looked at.
export const figures = [
	{ label: "reads", of: (v) => rate(v.gets ?? 0), spark: zero("gets") },
	{ label: "from cache", of: (v) => percent(v.gets ? ((v.local ?? 0) + (v.remote ?? 0)) / v.gets : null) },
	{ label: "origin", of: (v) => rate(v.loads ?? 0) },
	{ label: "errors", of: (v) => rate(v.errors ?? 0), worry: (v) => v.errors > 0 },
	{ label: "load p99", of: (v) => time(v.load99 ?? null) },
	{ label: "stale p99", of: (v) => time(v.stale99 ?? null), worry: (v) => v.stale99 > 0 },
];

