// The page's beginning: the stream, the keyboard, and what is drawn when.

import { openDial } from "./actions.js";
import { allowDial, renderDetail } from "./detail.js";
import { find, say } from "./dom.js";
import { clock } from "./format.js";
import { renderInspector } from "./inspector.js";
import { renderKeys } from "./keys.js";
import { renderOverview } from "./overview.js";
import { changed, choose, heard, pause, shownSpan, state, watch } from "./store.js";
import { listen } from "./stream.js";

const spans = [...document.querySelectorAll("[data-span]")];
const pauseButton = find("pause");
const help = find("help");

watch(() => {
	allowDial(state.info?.actions ? openDial : null);
	chrome();
	renderOverview();
	renderDetail();
	renderInspector();
	renderKeys();
});

// chrome is what stands around the caches.
function chrome() {
	document.body.dataset.link = state.link;
	document.body.classList.toggle("paused", state.pausedAt !== null);
	find("below").hidden = !state.info?.caches.length;
	for (const b of spans) b.setAttribute("aria-pressed", String(Number(b.dataset.span) === shownSpan()));
	pauseButton.setAttribute("aria-pressed", String(state.pausedAt !== null));
	say(pauseButton, state.pausedAt !== null ? "Go on" : "Pause");
	say(find("link"), linkText());
	if (state.info) {
		say(find("authority"), state.info.actions
			? "Each action is authorised by the server, and logged with who did it. Seeing this page is not: keep it behind your own authentication."
			: "Read-only. The console authenticates nobody: keep it behind your own authentication.");
	}
}

function linkText() {
	if (state.link !== "live") return { loading: "loading", lost: "cannot reach the server", away: "asleep" }[state.link];
	return state.pausedAt !== null ? "paused at " + clock(state.pausedAt) : "live";
}

function onLink(link, why, seconds) {
	state.link = link;
	// The countdown is apart from what is spoken.
	say(find("retry"), link === "lost" ? `, retrying in ${seconds} s` : "");
	const banner = find("banner");
	if (link === "lost") {
		const last = state.samples.at(-1);
		say(banner, [why === "" ? "" : why + ".", last ? `What you see is from ${clock(last.t)}.` : ""].join(" ").trim());
	}
	banner.hidden = link !== "lost" || banner.textContent === "";
	changed();
}

listen("api/events", heard, onLink);

for (const b of spans) b.addEventListener("click", () => showSpan(Number(b.dataset.span)));
pauseButton.addEventListener("click", () => pause(state.pausedAt === null));
find("help-open").addEventListener("click", () => help.showModal());
new ResizeObserver(changed).observe(find("detail"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
setInterval(changed, 1000); // ages grow also while nothing is heard

function showSpan(seconds) {
	state.span = seconds;
	changed();
}

const typing = (node) => node.matches("input:not([type=radio]), textarea, select");

document.addEventListener("keydown", (e) => {
	if (e.ctrlKey || e.metaKey || e.altKey || typing(e.target) || document.querySelector("dialog[open]")) return;
	const cache = /^[1-9]$/.test(e.key) ? state.info?.caches[Number(e.key) - 1] : null;
	if (cache) choose(cache.id);
	else if (e.key === "/") find("key").focus();
	else if (e.key === "p") pause(state.pausedAt === null);
	else if (e.key === "w") showSpan(shownSpan() === 60 ? 300 : 60);
	else if (e.key === "?") help.showModal();
	else return;
	e.preventDefault();
});
