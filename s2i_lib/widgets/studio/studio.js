// Press, speak, see. The Python half is __init__.py; it holds all state, so a reloaded page goes on.
import { make, makeFrame, makeLines } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { RATE_HZ, makeRecordButton } from "../microphone/recorder.js";

const SILENCE_S = 1.5; // of quiet behind speech, where "stop when I am silent" is on
const WORKING = ["waiting", "hearing", "drawing"]; // then there is something to stop

function render({ model, el }) {
  const lines = makeLines();
  const transport = new Transport(model, (message, buffers) => {
    if (message.type === "step") showStep(message, buffers[0]);
  });
  const button = (text, click, more = {}) => make("button", { type: "button", click, ...more }, text);

  let isListening = false; // then what Python says waits: the microphone is open

  // --- speak -------------------------------------------------------------------------------------
  const recordButton = makeRecordButton({
    lines,
    options: () => ({
      maxS: model.get("max_s"),
      silenceS: model.get("settings").stop_on_silence ? SILENCE_S : 0,
    }),
    onState: (state) => {
      isListening = state === "listening";
      if (isListening && window.speechSynthesis) window.speechSynthesis.cancel(); // it would be heard
      frame.dataset.state = state === "idle" ? model.get("state") : state;
    },
    onProblem: (error) =>
      transport.tell("problem", { code: error.code || "other", message: error.message }),
    onRecording: (bytes) => send(new Blob([bytes]), { kind: "speech", rate_hz: RATE_HZ }),
  });
  const picker = make("input", {
    type: "file",
    accept: "audio/*,video/*",
    hidden: true,
    "aria-label": "A recording",
    change: () => {
      if (picker.files[0]) sendFile(picker.files[0]);
      picker.value = "";
    },
  });
  const choose = button("Use a recording", () => picker.click());
  recordButton.element.append(choose, picker);

  async function send(blob, meta) {
    lines.complain("");
    lines.say("Sending what you said.");
    frame.dataset.state = "sending";
    try {
      await transport.push(blob, meta, {
        onProgress: (share, isWaiting) =>
          isWaiting && lines.say("Waiting for Python; a cell may be running."),
      });
    } catch (error) {
      frame.dataset.state = "error";
      lines.complain(error.message);
    }
  }
  const sendFile = (file) => send(file, { kind: "file", name: file.name });

  // --- words -------------------------------------------------------------------------------------
  const makeWords = (title, action, onSend) => {
    const box = make("textarea", {
      rows: "2",
      keydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey) return;
        event.preventDefault();
        go();
      },
    });
    const go = () => box.value.trim() && onSend(box.value.trim());
    const row = make(
      "div",
      { class: "s2i-words" },
      make("label", {}, make("span", {}, title), box),
      button(action, go),
    );
    return { box, row };
  };
  const said = makeWords("What you said, or type it", "Draw this", (text) => {
    lines.complain("");
    transport.tell("say", { text });
  });
  const asked = makeWords("The prompt that it becomes", "Draw this prompt", (text) => {
    lines.complain("");
    transport.tell("draw", { text });
  });
  const about = make("p", { class: "s2i-quiet", role: "status", "aria-live": "polite" });
  const marked = make("p", { class: "s2i-marked", hidden: true });
  const notes = make("ul", { class: "s2i-notes", hidden: true });

  function showHeard() {
    const heard = model.get("heard");
    if (heard.text === undefined) return;
    said.box.value = heard.text;
    const parts = [];
    if (heard.language) parts.push(`Heard in ${heard.language}: “${heard.text}”`);
    if (heard.english) parts.push(`In English: “${heard.english}”`);
    parts.push(...(heard.doubts || []).map((doubt) => `In doubt: ${doubt}`));
    about.textContent = parts.join(" ");
  }

  function readAloud() {
    const { text, code } = model.get("heard");
    if (!code || !model.get("settings").read_aloud || !window.speechSynthesis) return;
    const utterance = new SpeechSynthesisUtterance(text);
    utterance.lang = code; // German in an English voice is not understood
    window.speechSynthesis.speak(utterance);
  }

  function showPrompt() {
    const prompt = model.get("prompt");
    if (prompt.text === undefined) return;
    asked.box.value = prompt.text;
    let at = 0;
    marked.replaceChildren("Asked for: ");
    for (const [start, end] of prompt.marks) {
      marked.append(prompt.text.slice(at, start), make("mark", {}, prompt.text.slice(start, end)));
      at = end;
    }
    marked.append(prompt.text.slice(at), prompt.negative ? ` (without: ${prompt.negative})` : "");
    marked.hidden = false;
    notes.replaceChildren(...prompt.notes.map((note) => make("li", {}, note)));
    notes.hidden = !prompt.notes.length;
  }

  // --- pictures ----------------------------------------------------------------------------------
  const bar = make("progress", { max: "1", value: "0", "aria-label": "Steps drawn" });
  const rough = make("img", { class: "s2i-rough", alt: "The picture so far, rough", hidden: true });
  const stop = button("Stop drawing", () => transport.tell("cancel_wish"), { class: "s2i-stop" });
  const progress = make("div", { class: "s2i-row s2i-progress", hidden: true }, stop, bar);
  const gallery = make("div", { class: "s2i-gallery" });
  const strip = make("ul", { class: "s2i-strip2", "aria-label": "Made before" });
  const urls = new Map(); // picture id -> promise of a URL of its PNG
  let roughUrl = null;

  const urlOf = (id) => {
    if (!urls.has(id))
      urls.set(
        id,
        transport.pull(id).then((bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/png" }))),
      );
    return urls.get(id);
  };
  const pictureOf = ({ id, alt }, more) => {
    const image = make("img", { alt, ...more });
    urlOf(id).then((url) => (image.src = url), () => (image.alt = `${alt} (no longer here)`));
    return image;
  };

  function showStep({ number, total }, buffer) {
    if (model.get("state") !== "drawing") return;
    bar.value = number / total;
    if (!isListening) lines.say(`Drawing ${number} of ${total}.`);
    if (!buffer) return;
    if (roughUrl) URL.revokeObjectURL(roughUrl);
    roughUrl = URL.createObjectURL(new Blob([buffer], { type: "image/jpeg" }));
    rough.src = roughUrl;
    rough.hidden = false;
  }

  // Redrawn, a button loses the focus: it goes to the same one of the same picture, or of the next
  // where that is deleted, or to Speak where no picture is left.
  function redraw(list, items) {
    const focused = list.getRootNode().activeElement;
    const at = [...list.children].findIndex((item) => item.contains(focused));
    const old = list.children[at];
    list.replaceChildren(...items);
    if (!old) return;
    const item = items.find(({ dataset }) => dataset.id === old.dataset.id) || items[at] || items.at(-1);
    const button = [...old.querySelectorAll("button")].indexOf(focused);
    (item ? item.querySelectorAll("button")[button] : recordButton.button).focus();
  }

  function showPictures() {
    const makeFigure = (entry) => {
      const keep = button(entry.is_kept ? "Kept" : "Keep", () =>
        transport.tell("keep", { id: entry.id, is_kept: !entry.is_kept }),
      { "aria-pressed": String(entry.is_kept), "aria-label": `Keep seed ${entry.seed}` });
      const remove = button("Delete", () => transport.tell("delete", { id: entry.id }), {
        "aria-label": `Delete seed ${entry.seed}`,
      });
      return make(
        "figure",
        { "data-id": entry.id },
        pictureOf(entry, {}),
        make("figcaption", { class: "s2i-row" }, make("span", {}, `Seed ${entry.seed}`), keep, remove),
      );
    };
    redraw(gallery, model.get("pictures").map(makeFigure));
    again.hidden = !model.get("pictures").length;
  }

  function showStrip() {
    const entries = model.get("strip");
    for (const [id, url] of urls)
      if (!entries.some((entry) => entry.id === id)) {
        url.then(URL.revokeObjectURL, () => {});
        urls.delete(id);
      }
    redraw(
      strip,
      entries.map((entry) =>
        make(
          "li",
          { "data-id": entry.id },
          make(
            "button",
            {
              type: "button",
              "aria-label": `Show again: ${entry.alt}, seed ${entry.seed}`,
              click: () => {
                transport.tell("show", { id: entry.id });
                asked.box.value = entry.alt; // also where the same prompt had been edited
                lines.say(`${entry.alt}, seed ${entry.seed}.`);
              },
            },
            pictureOf(entry, { width: "64", height: "64", "aria-hidden": "true" }),
          ),
        ),
      ),
    );
    strip.hidden = entries.length < 2;
  }

  const again = button(
    "New seed",
    () => {
      change("is_seed_locked", false);
      transport.tell("draw", { text: asked.box.value.trim() });
    },
    { hidden: true },
  );

  // --- controls ----------------------------------------------------------------------------------
  // Not by save_changes: it sends all controls as this page knows them, and nothing any more once
  // ipykernel 7 has taken a change beside a running cell, of which it never says that it is done.
  const change = (name, value) => transport.tell("set", { name, value }, `set ${name}`);
  const inputs = {};
  const control = (title, name, input) => {
    inputs[name] = input;
    return make("label", {}, make("span", {}, title), input);
  };
  const choice = (title, name, options) =>
    control(
      title,
      name,
      make(
        "select",
        { change: () => change(name, inputs[name].value) },
        ...options.map(([value, text]) => make("option", { value }, text)),
      ),
    );
  const number = (title, name, attributes) =>
    control(
      title,
      name,
      make("input", {
        type: "number",
        ...attributes,
        // As it is typed: where the notebook takes the focus and puts the field back, there is no
        // "change". What is wrong so far is said when the field is left.
        input: ({ target }) =>
          target.checkValidity() && change(name, target.value === "" ? null : Number(target.value)),
        change: ({ target }) => target.reportValidity(),
      }),
    );
  const check = (title, name) => {
    inputs[name] = make("input", { type: "checkbox", change: () => change(name, inputs[name].checked) });
    return make("label", {}, inputs[name], make("span", {}, title));
  };
  const pairs = (names) => names.map((name) => [name, name]);
  const controls = make(
    "details",
    {},
    make("summary", {}, "Controls"),
    make(
      "div",
      { class: "s2i-controls" },
      choice("Subject", "subject", [["", "none"], ...pairs(model.get("subjects"))]),
      choice("Model or run", "model", pairs(model.get("models"))),
      number("Steps", "steps", { min: "1", max: "100", required: true }),
      number("Guidance (empty: the model's own)", "guidance", { min: "1", max: "50", step: "0.5" }),
      number("Pictures", "count", { min: "1", max: "8", required: true }),
      number("Seed", "seed", { min: "0", max: "4294967295", required: true }),
      control(
        "Without (negative prompt)",
        "negative",
        make("input", { type: "text", change: () => change("negative", inputs.negative.value) }),
      ),
      choice("Language", "language", [["", "found out"], ...Object.entries(model.get("languages"))]),
    ),
    make(
      "div",
      { class: "s2i-row" },
      check("Lock the seed", "is_seed_locked"),
      check("Stop when I am silent", "stop_on_silence"),
      check("Read aloud what was heard", "read_aloud"),
      check("Keep my recordings", "keep_recordings"),
    ),
  );

  function showSettings() {
    for (const [name, value] of Object.entries(model.get("settings")))
      if (inputs[name].type === "checkbox") inputs[name].checked = value;
      else if (inputs[name] !== inputs[name].getRootNode().activeElement) inputs[name].value = value ?? "";
  }

  const rules = make("p", { class: "s2i-quiet" });

  // --- together ----------------------------------------------------------------------------------
  const frame = makeFrame(
    el,
    "Studio",
    make("h3", {}, "Say what you want to see"),
    recordButton.element,
    said.row,
    about,
    asked.row,
    marked,
    notes,
    progress,
    lines.status,
    lines.problem,
    rough,
    gallery,
    make("div", { class: "s2i-row" }, again),
    strip,
    controls,
    rules,
  );
  for (const type of ["dragover", "drop"])
    frame.addEventListener(type, (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (type === "drop" && event.dataTransfer.files[0]) sendFile(event.dataTransfer.files[0]);
    });

  function showState() {
    const state = model.get("state");
    if (!isListening) frame.dataset.state = state;
    const focused = frame.getRootNode().activeElement;
    progress.hidden = !WORKING.includes(state);
    if (progress.hidden && progress.contains(focused)) recordButton.button.focus();
    if (state === "drawing" && gallery.contains(focused)) stop.focus();
    if (state === "drawing") bar.value = 0;
    else bar.removeAttribute("value");
    gallery.hidden = state === "drawing";
    if (state !== "drawing") rough.hidden = true;
  }
  const showStatus = () => !isListening && model.get("status") && lines.say(model.get("status"));
  function showComplaint() {
    const text = model.get("complaint");
    if (text && model.get("state") === "error") lines.say(""); // what was under way has ended
    lines.complain(text);
  }

  const showRules = () => (rules.textContent = model.get("rules"));

  const shows = {
    heard: showHeard,
    prompt: showPrompt,
    pictures: showPictures,
    strip: showStrip,
    settings: showSettings,
    state: showState,
    status: showStatus,
    complaint: showComplaint,
    rules: showRules,
  };
  for (const [name, show] of Object.entries(shows)) {
    model.on(`change:${name}`, show);
    show();
  }
  model.on("change:heard", readAloud); // not when a page is opened again
  return () => {
    model.off("change:heard", readAloud);
    for (const [name, show] of Object.entries(shows)) model.off(`change:${name}`, show);
    recordButton.close();
    transport.close();
    urls.forEach((url) => url.then(URL.revokeObjectURL, () => {}));
  };
}

export default { render };
