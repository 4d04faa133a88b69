// Brings files to Python, one after another, in pieces. The Python half is __init__.py.
import { make, makeFrame, makeLines } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { makeStrip } from "../photos/photos.js";

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

function render({ model, el }) {
  const lines = makeLines();
  const transport = new Transport(model, (message) => {
    if (message.type === "said") lines.say(message.text);
    if (message.type === "complaint") {
      lines.say("");
      lines.complain(message.text);
    }
  });
  const strip = makeStrip(model, transport, lines);
  let abort = null;
  const queue = [];

  const picker = make("input", {
    type: "file",
    multiple: true,
    accept: model.get("accept"),
    hidden: true,
    "aria-label": "Photos or zip files",
    change: () => {
      add([...picker.files]);
      picker.value = "";
    },
  });
  const choose = make(
    "button",
    { type: "button", class: "s2i-main", click: () => picker.click() },
    "Choose photos or a zip",
  );
  const stop = make(
    "button",
    { type: "button", class: "s2i-stop", hidden: true, click: () => cancel() },
    "Stop sending",
  );
  const bar = make("progress", { max: "1", value: "0", hidden: true, "aria-label": "Sent so far" });
  const zone = make(
    "div",
    { class: "s2i-zone" },
    make("div", { class: "s2i-row" }, choose, stop, picker),
    make("p", { class: "s2i-quiet" }, "or drop files here"),
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
        if (!folder.value.trim()) return lines.complain("Type the folder's path first.");
        lines.say("Copying.");
        transport.tell("folder", { folder: folder.value.trim() });
      },
    },
    make("label", {}, "Folder on the Drive", folder),
    make("button", { type: "submit" }, "Copy its photos"),
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
    const refused = [];
    let sent = 0, kept = 0;
    frame.dataset.state = "sending";
    stop.hidden = bar.hidden = false;
    lines.complain("");
    while (queue.length && !abort.signal.aborted) {
      const file = queue.shift();
      const what = `${file.name} (${megabytes(file.size)}), ${queue.length} more to go`;
      lines.say(`Sending ${what}.`);
      bar.value = 0;
      try {
        const names = await transport.push(file, { name: file.name, mime: file.type }, {
          signal: abort.signal,
          onProgress: (share, isWaiting) => {
            bar.value = share;
            if (isWaiting) lines.say(`Waiting for Python to take ${what}; a cell may be running.`);
          },
        });
        sent += 1;
        kept += names.length;
      } catch (error) {
        refused.push(error.name === "AbortError" ? `${file.name}: stopped` : `${file.name}: ${error.message}`);
      }
    }
    abort = null;
    const hadFocus = stop.contains(document.activeElement);
    stop.hidden = bar.hidden = true;
    if (hadFocus) choose.focus();
    frame.dataset.state = refused.length ? "error" : "done";
    lines.say(`${sent} ${sent === 1 ? "file" : "files"} arrived, ${kept} ${kept === 1 ? "photo" : "photos"} kept.`);
    lines.complain(refused.join("\n"));
  }

  const frame = makeFrame(
    el,
    "Upload photos",
    make("h3", {}, "Bring photos"),
    zone,
    form,
    lines.status,
    lines.problem,
    strip.element,
  );
  frame.dataset.state = "idle";
  lines.say("Nothing is being sent.");
  return () => {
    cancel();
    strip.close();
    transport.close();
  };
}

export default { render };
