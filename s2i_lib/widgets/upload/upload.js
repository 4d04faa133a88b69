// Brings files to Python, one after another, in pieces. The Python half is __init__.py.
import { make, makeFrame, makeLines } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { makeStrip } from "../photos/photos.js";
import { makeText } from "../texts/texts.js";

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

function render({ model, el }) {
  const lines = makeLines();
  const text = makeText(model.get("texts"));
  const { say } = text;
  const heard = (message) => {
    if (message.type === "said") lines.say(message.text);
    if (message.type === "complaint") {
      lines.say("");
      lines.complain(message.text);
      if (abort) refused.push(message.text); // of a zip; said once more when all has been sent
    }
  };
  const transport = new Transport(model, say, heard, (isSilent) =>
    lines.complainOfSilence(isSilent, say("no_python")),
  );
  const strip = makeStrip(model, transport, lines, say);
  let abort = null, isGone = false;
  const queue = [], refused = [];

  const picker = make("input", {
    type: "file",
    multiple: true,
    accept: model.get("accept"),
    hidden: true,
    "aria-label": say("up_files"),
    change: () => {
      add([...picker.files]);
      picker.value = "";
    },
  });
  const choose = make(
    "button",
    { type: "button", class: "s2i-main", click: () => picker.click() },
    say("up_choose"),
  );
  const stop = make(
    "button",
    { type: "button", class: "s2i-stop", hidden: true, click: () => cancel() },
    say("up_stop"),
  );
  const bar = make("progress", { max: "1", value: "0", hidden: true, "aria-label": say("up_progress") });
  const zone = make(
    "div",
    { class: "s2i-zone" },
    make("div", { class: "s2i-row" }, choose, stop, picker),
    make("p", { class: "s2i-quiet" }, say("up_drop")),
    bar,
  );
  const folder = make("input", { type: "text", size: "28", placeholder: "MyDrive/holiday" });
  const form = make(
    "form",
    {
      class: "s2i-row",
      submit: (event) => {
        event.preventDefault();
        lines.complain("");
        if (!folder.value.trim()) return lines.complain(say("up_no_folder"));
        lines.say(say("up_copying"));
        transport.tell("folder", { folder: folder.value.trim() });
      },
    },
    make("label", {}, say("up_folder"), folder),
    make("button", { type: "submit" }, say("up_copy")),
  );

  for (const type of ["dragenter", "dragover", "dragleave", "drop"])
    zone.addEventListener(type, (event) => {
      event.preventDefault();
      event.stopPropagation();
      zone.classList.toggle("s2i-over", type === "dragenter" || type === "dragover");
      if (type === "drop") add([...event.dataTransfer.files]);
    });

  function cancel() {
    queue.length = 0;
    if (abort) abort.abort();
  }

  function add(files) {
    if (!files.length) return;
    queue.push(...files);
    if (!abort) sendAll();
  }

  async function sendAll() {
    abort = new AbortController();
    refused.length = 0;
    let sent = 0, kept = 0;
    frame.dataset.state = "sending";
    stop.hidden = bar.hidden = false;
    lines.complain("");
    while (queue.length && !abort.signal.aborted) {
      const file = queue.shift();
      const values = { what: `${file.name} (${megabytes(file.size)})`, count: queue.length };
      lines.say(say("up_sending", values));
      bar.value = 0;
      let wasWaiting = false;
      try {
        const names = await transport.push(file, { name: file.name, mime: file.type }, {
          signal: abort.signal,
          onProgress: (share, isWaiting) => {
            bar.value = share;
            if (isWaiting !== wasWaiting) lines.say(say(isWaiting ? "up_waiting" : "up_sending", values));
            wasWaiting = isWaiting;
          },
        });
        sent += 1;
        kept += names.length;
      } catch (error) {
        const why = error.name === "AbortError" ? say("up_stopped") : error.message;
        refused.push(`${file.name}: ${why}`);
      }
    }
    abort = null;
    if (isGone) transport.close();
    const hadFocus = stop.contains(document.activeElement);
    stop.hidden = bar.hidden = true;
    if (hadFocus) choose.focus();
    frame.dataset.state = refused.length ? "error" : "done";
    const files = say(sent === 1 ? "up_file" : "up_file_many", { count: sent });
    const photos = say(kept === 1 ? "up_photo" : "up_photo_many", { count: kept });
    lines.say(say("up_done", { files, photos }));
    lines.complain(refused.join("\n"));
  }

  const frame = makeFrame(
    el,
    say("up_title"),
    make("h3", {}, say("up_title")),
    zone,
    form,
    lines.status,
    lines.problem,
    strip.element,
  );
  Object.assign(frame, { lang: text.lang, dir: text.dir });
  frame.dataset.state = "idle";
  lines.say(say("up_idle"));
  return () => {
    // What was dropped here still comes, for instance while another subject is looked at.
    isGone = true;
    strip.close();
    if (!abort) transport.close();
  };
}

export default { render };
