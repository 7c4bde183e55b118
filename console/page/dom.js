// Everything on the page is made here. Text goes in as text, never as markup:
// keys and names are strangers' words.

// make returns an element. Properties that begin with "on" are listeners,
// "data" and "aria" are objects, the others are attributes; null and false are
// left out.
export function make(tag, props, ...children) {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries(props ?? {})) {
		if (value === null || value === undefined || value === false) continue;
		if (name === "class") node.className = value;
		else if (name === "data") Object.assign(node.dataset, value);
		else if (name === "aria") for (const [k, v] of Object.entries(value)) node.setAttribute("aria-" + k, String(v));
		else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
		else node.setAttribute(name, value === true ? "" : String(value));
	}
	node.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
	return node;
}

// put replaces what is in a node.
export function put(node, ...children) {
	node.replaceChildren(...children.filter((c) => c !== null && c !== undefined && c !== false));
}

// say sets a node's text if it is another: what a screen reader watches must
// not change when nothing has.
export function say(node, text) {
	if (node.textContent !== text) node.textContent = text;
}

export const find = (id) => document.getElementById(id);

// pill is a state in words, with a sign and a colour that say no more than the
// words do.
export function pill(kind, text, title) {
	const sign = { good: "\u25cf", warn: "\u25b2", bad: "\u25a0", calm: "\u25cb" }[kind];
	return make("span", { class: "pill " + kind, title }, make("i", { aria: { hidden: true } }, sign), visible(text));
}

// keyName is a key or a name as it is shown: whole, wherever it may be broken,
// and apart from the direction of the text around it.
export function keyName(text, className) {
	return make("bdi", { class: className ?? "key" }, text === "" ? "(empty)" : visible(text));
}

// Characters that cannot be seen, or that turn the text around them.
const unseen = /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;

// visible shows what a hostile key would hide.
export function visible(text) {
	return text.replace(unseen, (c) => {
		const hex = c.codePointAt(0).toString(16).padStart(4, "0");
		return hex.length > 4 ? `\\u{${hex}}` : "\\u" + hex;
	});
}

// brief is a name where there is no room for a long one.
export function brief(text) {
	const shown = visible(text);
	return shown.length > 40 ? shown.slice(0, 39) + "\u2026" : shown;
}
