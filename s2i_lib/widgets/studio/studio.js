// Press, speak, see. The Python half is __init__.py; it holds all state, so a reloaded page goes on.
import { make, makeFrame, makeLines } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { RATE_HZ, makeRecordButton } from "../microphone/recorder.js";
import { makeText } from "../texts/texts.js";
import { makeControls } from "./controls.js";
import { makeHeld } from "./figure.js";
import { makeGallery, makeShelf, makeStep, redraw } from "./pictures.js";

const SILENCE_S = 1.5; // of quiet behind speech, where "stop when I am silent" is on
const WISHING = ["waiting", "hearing", "drawing"];
const WORKING = [...WISHING, "holding"]; // then there is something to stop
const LONG = 240; // characters of a complaint, from which on the rest is behind "Details"

function render({ model, el }) {
  const text = makeText(model.get("texts"));
  const { say } = text;
  const lines = makeLines();
  const transport = new Transport(
    model,
    say,
    (message, buffers) => shown[message.type]?.(message, buffers[0]),
    (isSilent) => (isSilent ? lines.complain(say("no_python")) : showComplaint()),
  );
  const tell = (...message) => transport.tell(...message); // type, fields, what it is about
  const button = (key, click, more = {}) => make("button", { type: "button", click, ...more }, say(key));
  const shelf = makeShelf(transport);

  let isListening = false; // then what Python says waits: the microphone is open
  let take = "", nextPiece = 0; // of the recording that is being made

  // --- speak -------------------------------------------------------------------------------------
  const recordButton = makeRecordButton({
    lines,
    text,
    options: () => ({
      maxS: model.get("max_s"),
      silenceS: model.get("settings").stop_on_silence ? SILENCE_S : 0,
    }),
    onState(state) {
      isListening = state === "listening";
      if (isListening && window.speechSynthesis) window.speechSynthesis.cancel(); // it would be heard
      if (isListening) beep(880), showWords("", "");
      frame.dataset.state = state === "idle" ? model.get("state") : state;
      showStage();
    },
    onProblem: (error) => tell("problem", { code: error.code || "other", message: error.message }),
    onPiece(bytes) {
      if (!isListening) return;
      if (!take) (take = `${Date.now()}-${Math.random()}`), (nextPiece = 0);
      // A piece that is lost is missing in a draft: the whole recording comes behind it.
      const meta = { kind: "piece", take, index: nextPiece++ };
      transport.push(new Blob([bytes]), meta).catch(() => {});
    },
    onCancel() {
      if (take) tell("cancel_take", { take });
      take = "";
      showWords("", "");
      draft.hidden = true;
      showStage();
    },
    onRecording(bytes) {
      send(new Blob([bytes]), { kind: "speech", rate_hz: RATE_HZ, take });
      take = "";
    },
  });

  async function send(blob, meta) {
    lines.complain("");
    lines.say(say("sending"));
    frame.dataset.state = "sending";
    try {
      await transport.push(blob, meta, {
        onProgress: (share, isWaiting) => isWaiting && lines.say(say("waiting_python")),
      });
    } catch (error) {
      frame.dataset.state = "error";
      lines.say("");
      lines.complain(error.message);
      draft.hidden = true; // nothing comes in its place
      showStage();
    }
  }
  const sendFile = (file) => send(file, { kind: "file", name: file.name });

  function beep(pitch_hz) {
    if (!model.get("settings").sounds) return;
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: pitch_hz });
    tone.connect(new GainNode(context, { gain: 0.08 })).connect(context.destination);
    tone.onended = () => context.close();
    tone.start();
    tone.stop(context.currentTime + 0.12);
  }

  // --- words -------------------------------------------------------------------------------------
  const onEnter = (go) => (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    go();
  };
  const sayIt = () => {
    const words = said.value.trim();
    lines.complain("");
    if (!words) return lines.say(say("empty"));
    drawIt.hidden = true;
    tell("say", { text: words });
  };
  const said = make("textarea", {
    rows: "1",
    dir: "auto",
    enterkeyhint: "go",
    input: () => {
      drawIt.hidden = !said.value.trim();
      placeWords();
    },
    keydown: onEnter(sayIt),
  });
  const drawIt = button("draw", sayIt, { hidden: true });
  const row = make(
    "div",
    { class: "s2i-words" },
    make("label", {}, make("span", { class: "s2i-quiet" }, say("words")), said),
    drawIt,
  );
  // Not a live region: it changes four times a second. What was heard in the end is told below.
  const firm = make("span", {}), loose = make("span", { class: "s2i-loose" });
  const words = make("p", { class: "s2i-live", hidden: true }, firm, " ", loose);
  function showWords(firmly, loosely) {
    firm.textContent = firmly;
    loose.textContent = loosely;
  }
  // What was heard stands in the field once it is known, and below the picture while it is another.
  function placeWords() {
    words.hidden = !isListening && !WISHING.includes(model.get("state"));
    for (const caption of gallery.querySelectorAll(".s2i-said"))
      caption.hidden = caption.textContent.trim() === said.value.trim();
  }

  const about = make("p", { class: "s2i-quiet", role: "status", "aria-live": "polite" });
  const taken = make("span", { role: "status", "aria-live": "polite", dir: "auto" });
  const otherwise = button("as_new", () => tell("other"));
  const reading = make("p", { class: "s2i-row s2i-reading" }, taken, otherwise);
  const yes = button("yes_draw", () => tell("yes"), { class: "s2i-main" });
  const offers = make("p", { class: "s2i-row" });
  const absent = make("span", { role: "status", "aria-live": "polite" });
  const another = button("another_try", () => tell("another"));
  const missing = make("p", { class: "s2i-row" }, absent, another);
  const notes = make("ul", { class: "s2i-notes", hidden: true });

  function showHeard() {
    const heard = model.get("heard");
    if (heard.text === undefined) return;
    showWords(heard.text, "");
    const isTyping = !drawIt.hidden && said === said.getRootNode().activeElement;
    if (!isTyping) {
      said.value = heard.text;
      drawIt.hidden = true;
    }
    const parts = [];
    if (heard.code && heard.code !== "en")
      parts.push(say("heard_in", { language: heard.language, text: heard.text }));
    if (heard.english) parts.push(say("in_english", { text: heard.english }));
    parts.push(...(heard.doubts || []).map((why) => say("in_doubt", { why })));
    about.textContent = parts.join(" ");
    placeWords();
  }

  function readAloud() {
    const { text: words, code } = model.get("heard");
    if (isListening || !model.get("settings").read_aloud) return; // it would be heard
    if (code && window.speechSynthesis) speak([[words, code]]);
  }
  // Parts of a text, each with its language: German in an English voice is not understood.
  function speak(parts) {
    for (const [words, code] of parts) {
      const utterance = new SpeechSynthesisUtterance(words);
      utterance.lang = code;
      utterance.onerror = ({ error }) =>
        ["canceled", "interrupted"].includes(error) || lines.complain(say("no_voice"));
      window.speechSynthesis.speak(utterance);
    }
  }
  // Pressed while it reads, it stops.
  function read(parts) {
    const isReading = window.speechSynthesis.speaking;
    window.speechSynthesis.cancel();
    if (isReading) return;
    speak(parts);
    if (!window.speechSynthesis.getVoices().length) lines.complain(say("no_voice"));
  }
  window.speechSynthesis?.getVoices(); // browsers begin to look for some when they are asked first

  function showAnswer() {
    const answer = model.get("answer");
    taken.textContent = answer.taken || "";
    otherwise.textContent = say(answer.other || "as_new");
    otherwise.hidden = !answer.other;
    undo.disabled = !answer.undo;
    redo.disabled = !answer.redo;
    steps.hidden = !answer.undo && !answer.redo;
    absent.textContent = answer.absent ? say("absent", { name: answer.absent }) : "";
    another.hidden = !answer.absent;
  }

  const showOffers = () =>
    redraw(
      offers,
      model.get("offers").map((offer) =>
        make("button", { type: "button", click: () => tell("say", { text: offer }) },
          say("did_you_mean", { text: offer })),
      ),
      recordButton.button,
    );

  // --- the prompt, behind "More" -----------------------------------------------------------------
  const drawPrompt = () => {
    lines.complain("");
    const prompt = asked.value.trim();
    if (prompt) tell("draw", { text: prompt });
    else lines.say(say("empty"));
  };
  const asked = make("textarea", { rows: "2", dir: "auto", keydown: onEnter(drawPrompt) });
  const again = button("new_seed", () => {
    change("is_seed_locked", false);
    drawPrompt();
  });
  const marked = make("p", { class: "s2i-marked", hidden: true });
  function showPrompt() {
    const prompt = model.get("prompt");
    marked.hidden = prompt.text === undefined;
    notes.replaceChildren(...(prompt.notes || []).map((note) => make("li", {}, make("bdi", {}, note))));
    notes.hidden = !prompt.notes?.length;
    if (marked.hidden) return;
    asked.value = prompt.text;
    let at = 0;
    const whole = make("bdi", { lang: "en" }); // in a line that may run the other way
    for (const [start, end] of prompt.marks) {
      whole.append(prompt.text.slice(at, start), make("mark", {}, prompt.text.slice(start, end)));
      at = end;
    }
    whole.append(prompt.text.slice(at));
    const without = prompt.negative ? ` (${say("without", { words: prompt.negative })})` : "";
    marked.replaceChildren(`${say("asked_for")} `, whole, without);
  }

  // --- pictures ----------------------------------------------------------------------------------
  const bar = make("progress", { max: "1", value: "0", "aria-label": say("steps") });
  const count = make("span", { class: "s2i-quiet s2i-time" }); // no live region: it would chatter
  const rough = make("img", { class: "s2i-rough", alt: say("so_far"), hidden: true });
  const draft = make("img", { class: "s2i-rough s2i-draft", alt: say("draft"), hidden: true });
  const stop = button("stop_drawing", () => tell("cancel_wish"), { class: "s2i-stop" });
  const progress = make("div", { class: "s2i-row s2i-progress", hidden: true }, stop, bar, count);
  const hint = make("p", { class: "s2i-hint" }, say("hint"));
  const strip = make("ul", { class: "s2i-strip2", "aria-label": say("strip") });
  const undo = button("undo", () => tell("undo")), redo = button("redo", () => tell("redo"));
  const steps = make("div", { class: "s2i-row" }, undo, redo);
  const tools = { shelf, say, tell, lines, read };
  const pictures = makeGallery(tools, recordButton.button, placeWords), gallery = pictures.element;
  const stage = make("div", { class: "s2i-stage" }, hint, draft, rough, gallery);
  const held = makeHeld({ model, transport, say, lines, last: recordButton.button });

  const urls = new Map();
  function showRough(image, buffer) {
    if (!buffer) return;
    if (urls.has(image)) URL.revokeObjectURL(urls.get(image));
    urls.set(image, URL.createObjectURL(new Blob([buffer], { type: "image/jpeg" })));
    image.src = urls.get(image);
    image.hidden = false;
    showStage();
  }

  const shown = {
    step({ number, total }, buffer) {
      if (model.get("state") !== "drawing" || isListening) return;
      bar.value = number / total;
      count.textContent = `${number} / ${total}`;
      draft.hidden = true;
      showRough(rough, buffer);
    },
    partial: (message) => isListening && showWords(message.firm, message.loose),
    draft: (message, buffer) => isListening && showRough(draft, buffer),
  };

  // One picture at a time: the one that comes to be, else the last.
  function showStage() {
    const state = model.get("state");
    const isComing = !draft.hidden || (state === "drawing" && !isListening && !rough.hidden);
    gallery.hidden = isComing;
    hint.hidden = isComing || model.get("pictures").length > 0;
    placeWords();
  }

  function showPictures() {
    pictures.show(model.get("pictures"));
    draft.hidden = true;
    showStage();
    showStrip();
  }

  function showStrip() {
    const now = model.get("pictures").map(({ id }) => id);
    const entries = [...model.get("strip"), ...model.get("earlier")];
    shelf.keepOnly([...entries.map(({ id }) => id), ...now]);
    // Numbered from the oldest on, so that a picture keeps its number when another is drawn.
    const items = entries.map((entry, i) =>
      makeStep(entry, now.includes(entry.id), { ...tools, number: entries.length - i }));
    redraw(strip, items, recordButton.button);
    strip.hidden = entries.every(({ id }) => now.includes(id)); // they are seen above
  }

  // --- controls ----------------------------------------------------------------------------------
  // Not by save_changes: it sends all controls as this page knows them, and nothing any more once
  // ipykernel 7 has taken a change beside a running cell, of which it never says that it is done.
  const change = (name, value) => transport.tell("set", { name, value }, `set ${name}`);
  const controls = makeControls({ model, say, change });
  const picker = make("input", {
    type: "file",
    accept: "audio/*,video/*",
    hidden: true,
    "aria-label": say("recording"),
    change: () => {
      if (picker.files[0]) sendFile(picker.files[0]);
      picker.value = "";
    },
  });
  const choose = button("use_recording", () => picker.click());
  const rules = make("p", { class: "s2i-quiet" });
  const more = make(
    "details",
    { class: "s2i-more" },
    make("summary", {}, say("more")),
    make("div", { class: "s2i-row" }, choose, picker),
    make(
      "div",
      { class: "s2i-words" },
      make("label", {}, make("span", {}, say("prompt")), asked),
      button("draw_prompt", drawPrompt),
      again,
    ),
    marked,
    controls.element,
    rules,
  );

  // --- together ----------------------------------------------------------------------------------
  const frame = makeFrame(
    el,
    say("studio"),
    make("h3", {}, say("title")),
    stage,
    missing,
    held.element,
    progress,
    words,
    row,
    recordButton.element,
    lines.status,
    make("div", { class: "s2i-row" }, yes),
    lines.problem,
    reading,
    offers,
    about,
    notes,
    steps,
    strip,
    more,
  );
  Object.assign(frame, { lang: text.lang, dir: text.dir });
  for (const type of ["dragover", "drop"])
    frame.addEventListener(type, (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (type === "drop" && event.dataTransfer.files[0]) sendFile(event.dataTransfer.files[0]);
    });
  frame.addEventListener("keydown", (event) => {
    const isTyping = ["TEXTAREA", "INPUT", "SELECT"].includes(event.target.tagName);
    if (isTyping || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    tell(event.shiftKey ? "redo" : "undo");
  });

  function showState() {
    const state = model.get("state");
    if (!isListening) frame.dataset.state = state;
    const focused = frame.getRootNode().activeElement;
    progress.hidden = !WORKING.includes(state);
    yes.hidden = state !== "asking";
    if (state === "drawing" && gallery.contains(focused)) stop.focus();
    if (state === "drawing") bar.value = 0;
    else bar.removeAttribute("value");
    count.textContent = "";
    if (state !== "drawing") rough.hidden = true;
    if (!WORKING.includes(state) && !isListening) draft.hidden = true;
    showStage();
  }
  function showStatus() {
    const messages = model.get("messages");
    if (isListening || !messages.length) return;
    lines.say(messages.map(([key, values]) => say(key, values)).join(" "));
  }
  const finish = () => model.get("state") === "done" && !isListening && beep(660);
  function showComplaint() {
    const complaint = model.get("complaint");
    if (complaint && model.get("state") === "error") lines.say(""); // what was under way has ended
    lines.complain(complaint);
    const end = complaint.indexOf(". ", LONG / 2) + 1;
    if (complaint.length <= LONG || !end) return;
    lines.complain(complaint.slice(0, end));
    lines.problem.append(
      make("details", {}, make("summary", {}, say("details")), complaint.slice(end)),
    );
  }

  const shows = {
    heard: showHeard,
    prompt: showPrompt,
    pictures: showPictures,
    strip: showStrip,
    earlier: showStrip,
    answer: showAnswer,
    held: held.show,
    offers: showOffers,
    subjects: () => controls.offerAgain(), // somebody may have been taught since
    models: () => controls.offerAgain(),
    settings: () => controls.show(),
    state: showState,
    messages: showStatus,
    complaint: showComplaint,
    rules: () => (rules.textContent = model.get("rules")),
  };
  // A button that goes leaves the focus to one that stays: else a notebook takes keys for commands.
  for (const [name, show] of Object.entries(shows)) {
    shows[name] = () => {
      const focused = frame.getRootNode().activeElement;
      show();
      if (frame.contains(focused) && focused.closest("[hidden], :disabled"))
        (progress.hidden ? recordButton.button : stop).focus();
    };
    model.on(`change:${name}`, shows[name]);
    shows[name]();
  }
  model.on("change:heard", readAloud); // not when a page is opened again
  model.on("change:state", finish);
  // A reopened page learns so whether its kernel is still there, and one whose kernel was restarted.
  const greet = () => tell("hello", { language: text.lang }, "hello");
  model.on("comm_live_update", greet);
  greet();
  return () => {
    model.off("comm_live_update", greet);
    model.off("change:heard", readAloud);
    model.off("change:state", finish);
    for (const [name, show] of Object.entries(shows)) model.off(`change:${name}`, show);
    recordButton.close();
    transport.close();
    shelf.close();
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
