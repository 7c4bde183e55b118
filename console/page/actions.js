// What changes something: only where the server was built with Actions.

import { find, keyName, make, put, say, visible } from "./dom.js";
import { levels } from "./states.js";
import { state } from "./store.js";
import { reason } from "./stream.js";

// act sends an action, and returns how it ended, in words; it throws what
// went wrong. The token is asked for each time: it is bound to a cookie that
// another window may have changed.
async function act(body) {
	const asked = await fetch("api/token", { cache: "no-store" });
	if (!asked.ok) throw new Error(await reason(asked));
	const { token } = await asked.json();
	const answer = await fetch("api/action", {
		method: "POST",
		headers: { "Content-Type": "application/json", "Dewar-Token": token },
		body: JSON.stringify(body),
	});
	if (!answer.ok) throw new Error(await reason(answer));
	const done = await answer.json();
	return done.outcome === "pending" ? "Done here; the remote tier has not confirmed it yet, and is asked until it does." : "Done.";
}

const operations = [
	["refresh", "Refresh", "Load it now, and keep the old value if that fails"],
	["expire", "Expire", "Make it stale: the next read loads it, the old value stays as fallback"],
	["invalidate", "Invalidate", "The old value is never served again, in no process"],
	["pin", "Pin", "Keep it warm without reads, in this process"],
	["unpin", "Unpin", "Let it age like any other"],
];

// buttonsFor are the buttons of a key that was found; null where there are none.
// again is called after each.
export function buttonsFor(cache, { key, key64 }, again) {
	if (!state.info.actions) return null;
	const result = make("p", { class: "result", role: "status" });
	const buttons = operations.map(([op, label, title]) =>
		make("button", { type: "button", title, data: { op }, onclick: () => press(op, label) }, label));
	let busy = false;
	async function press(op, label) {
		if (busy) return;
		busy = true;
		buttons.forEach((b) => b.setAttribute("aria-disabled", "true")); // disabled ones would lose the focus
		result.className = "result";
		say(result, label + "\u2026");
		try {
			say(result, `${label}: ${await act({ op, cache, ...(key64 ? { key64 } : { key }) })}`);
		} catch (error) {
			result.className = "result failure";
			say(result, `${label}: ${error.message}`);
		}
		busy = false;
		buttons.forEach((b) => b.removeAttribute("aria-disabled"));
		again();
	}
	return {
		node: make("div", { class: "act" }, make("div", { class: "buttons" }, ...buttons), result),
		// pinned leaves the one of pin and unpin that would change something.
		pinned(is) {
			const show = (op, on) => (buttons.find((b) => b.dataset.op === op).hidden = !on);
			const focused = ["pin", "unpin"].includes(document.activeElement?.dataset.op);
			show("pin", !is);
			show("unpin", is);
			if (focused) buttons.find((b) => b.dataset.op === (is ? "unpin" : "pin")).focus();
		},
	};
}

const dialog = find("dial");

// openDial asks for a level, and turns the dial of a cache to it.
export function openDial(info) {
	const sharers = state.info.caches.filter((c) => c.dial === info.dial);
	const present = state.dials[info.dial].level;
	const choices = Object.keys(levels).reverse().map((n) => make("label", { class: "level l" + n },
		make("input", { type: "radio", name: "level", value: n, checked: Number(n) === present, autofocus: Number(n) === present }),
		make("span", null, make("b", null, `${n} ${levels[n][0]}`), make("small", null, levels[n][1]))));
	const why = make("input", { type: "text", name: "why", maxlength: 120, autocomplete: "off", placeholder: "why (it is logged)", "aria-label": "Why" });
	const result = make("p", { class: "result", role: "status" });
	const submit = make("button", { type: "submit", class: "primary" }, "Turn the dial");
	const form = make("form", { onsubmit: turn },
		make("h2", { id: "dial-title" }, "DEFCON"),
		make("p", { class: "about" }, "Takes effect on the next read of ", ...between(sharers.map((c) => keyName(c.id, "name"))),
			sharers.length > 1 ? ", which share this dial." : ", and of every other cache on this dial."),
		make("fieldset", null, make("legend", { class: "hidden" }, "Level"), ...choices),
		why, result,
		make("div", { class: "buttons" }, submit, make("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
	async function turn(e) {
		e.preventDefault();
		const level = Number(new FormData(form).get("level"));
		submit.disabled = true;
		try {
			await act({ op: "defcon", cache: info.id, level, why: why.value });
			dialog.close();
			say(find("spoken"), `${visible(info.id)} is at DEFCON ${level} ${levels[level][0]}`);
		} catch (error) {
			result.className = "result failure";
			say(result, error.message);
			submit.disabled = false;
		}
	}
	put(dialog, form);
	dialog.showModal();
}

// between puts commas between nodes.
const between = (nodes) => nodes.flatMap((n, i) => (i === 0 ? [n] : [", ", n]));
