// The cards of the page that are no widgets of their own. The Python half is part.py; it holds all
// state, so a reloaded page and a second tab show the same.
import { makeFrame, makeLines } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { makeText } from "../texts/texts.js";
import { makeFaces } from "./faces.js";
import { makeKeep } from "./keep.js";
import { makePhotosHead, makeSpeakHead, makeTeach } from "./panels.js";

const CARDS = {
  faces: ["app_faces", makeFaces],
  photos: ["app_photos", makePhotosHead],
  teach: ["app_teach", makeTeach],
  speak: ["app_speak", makeSpeakHead],
  keep: ["app_keep", makeKeep],
};

function render({ model, el }) {
  const text = makeText(model.get("texts"));
  const lines = makeLines();
  const complain = () => {
    const complaint = model.get("data").complaint || "";
    if (lines.problem.textContent !== complaint) lines.complain(complaint);
  };
  const noPython = (isSilent) => (isSilent ? lines.complain(text.say("no_python")) : complain());
  const transport = new Transport(model, text.say, () => {}, noPython);
  const [title, makeCard] = CARDS[model.get("part")];
  const card = makeCard({
    say: text.say,
    lang: text.lang,
    lines,
    transport,
    tell: (...message) => transport.tell(...message),
  });
  const frame = makeFrame(
    el, text.say(title), ...card.head, lines.status, lines.problem, ...card.body,
  );
  Object.assign(frame, { lang: text.lang, dir: text.dir });
  lines.problem.dir = "auto"; // Python's own sentences are English
  frame.classList.add("s2i-card");
  const show = () => {
    const data = model.get("data");
    const messages = data.messages || [];
    // What is said anew is read anew: not with each step of a training, whose bar tells the same.
    const isUnderWay = data.state === "training" && typeof data.share === "number";
    lines.status.setAttribute("aria-live", isUnderWay ? "off" : "polite");
    const said = messages.map(([key, values]) => text.say(key, values)).join(" ");
    if (lines.status.textContent !== said) lines.say(said);
    lines.status.hidden = !messages.length;
    complain();
    if (data.state) frame.dataset.state = data.state;
    card.show(data);
  };
  model.on("change:data", show);
  show();
  transport.tell("hello"); // a page that is opened again learns so whether its kernel is there
  return () => {
    model.off("change:data", show);
    transport.close();
  };
}

export default { render };
