// The live part: server-sent events, read with fetch rather than EventSource,
// which tells neither why a connection failed nor that one has gone silent.

const silence = 6000; // milliseconds without an event after which a connection counts as lost
const hiddenFor = 30000; // a page that nobody sees gives up its stream after this

// listen keeps a stream open for as long as the page lives. It tells events to
// onEvent, and the state of the connection to onLink: ("live"), ("lost", why,
// seconds until the next try), ("away"), which is nobody's fault.
export function listen(url, onEvent, onLink) {
	let failures = 0;
	let wake = null; // ends a wait
	let connection = null; // an AbortController
	let away = false;

	const nap = (ms) => new Promise((done) => {
		const timer = setTimeout(done, ms);
		wake = () => {
			clearTimeout(timer);
			done();
		};
	});

	async function connect() {
		connection = new AbortController();
		const own = connection;
		let dog = null;
		const patience = () => {
			clearTimeout(dog);
			dog = setTimeout(() => own.abort(new Error("the server has gone silent")), silence);
		};
		try {
			patience();
			const answer = await fetch(url, { headers: { Accept: "text/event-stream" }, signal: own.signal, cache: "no-store" });
			if (!answer.ok) throw new Error(await reason(answer));
			if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
				throw new Error("something else answers in the console's place: are you still signed in?");
			}
			const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
			let rest = "";
			for (;;) {
				const { value, done } = await reader.read();
				if (done) throw new Error("the server has ended the connection");
				patience();
				const blocks = (rest + value).split("\n\n");
				rest = blocks.pop();
				for (const block of blocks) take(block);
			}
		} finally {
			clearTimeout(dog);
			own.abort();
		}
	}

	function take(block) {
		let name = "message";
		let data = "";
		for (const line of block.split("\n")) {
			if (line.startsWith("event: ")) name = line.slice(7);
			else if (line.startsWith("data: ")) data += line.slice(6);
		}
		if (data === "") return;
		const value = JSON.parse(data);
		if (name === "bye") throw new Error(value.error);
		if (name === "hello") onLink("live");
		if (name === "sample") failures = 0; // until then it may be cut off again while it takes in the past
		onEvent(name, value);
	}

	async function run() {
		for (;;) {
			if (away) {
				onLink("away");
				await nap(2 ** 30);
				continue;
			}
			let why = "";
			try {
				await connect();
			} catch (error) {
				why = describe(error);
			}
			const seconds = Math.min(15, 3 * 2 ** Math.min(failures++, 3));
			for (let left = seconds; left > 0 && !away; left--) {
				onLink("lost", why, left);
				await nap(1000);
			}
		}
	}

	let hidden = null;
	function watch() {
		clearTimeout(hidden);
		if (document.hidden) {
			hidden = setTimeout(() => {
				away = true;
				connection?.abort();
			}, hiddenFor);
		} else if (away) {
			away = false;
			wake?.();
		}
	}
	document.addEventListener("visibilitychange", watch);
	watch(); // it may have been opened in the background
	run();
}

// describe tells why a connection has failed. What fetch itself says differs by
// browser and helps nobody.
function describe(error) {
	return error instanceof TypeError ? "" : error.message;
}

// reason reads the error that an answer tells of.
export async function reason(answer) {
	try {
		const body = await answer.json();
		if (typeof body.error === "string") return body.error;
	} catch {
		// It is not from the console.
	}
	return "the server answers " + answer.status;
}
