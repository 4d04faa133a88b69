// Moves the square that is cropped from a photo, and says whether its subject is cut out.
// The Python half is __init__.py.
import { make, makeFrame, makeLines } from "../transport/page.js";
import { makeText } from "../texts/texts.js";
import { Transport } from "../transport/transport.js";

const STEP = 0.01; // of the shorter side, an arrow key; ten times that with Shift

// The crop nearest to (left, top, side) that is whole numbers and inside the photo.
export function fitCrop([left, top, side], [width, height], least) {
  const most = Math.min(width, height);
  side = Math.round(Math.min(most, Math.max(Math.min(least, most), side)));
  return [
    Math.round(Math.min(width - side, Math.max(0, left))),
    Math.round(Math.min(height - side, Math.max(0, top))),
    side,
  ];
}

function render({ model, el }) {
  const lines = makeLines();
  const text = makeText(model.get("texts"));
  const { say } = text;
  const transport = new Transport(model, say);
  const names = model.get("names");
  const urls = new Map();
  let name = names[0], drag = null;

  const image = make("img", { alt: "", draggable: "false" });
  const box = make("div", { class: "s2i-crop", tabindex: "0", role: "slider", "aria-valuemin": "0" });
  const corner = make("div", { class: "s2i-corner", "aria-hidden": "true" });
  box.append(corner);
  const stage = make("div", { class: "s2i-cropstage" }, image, box);
  const which = make(
    "select",
    { change: () => show(which.value) },
    ...names.map((each) => make("option", { value: each }, each)),
  );
  const button = (key, click) => make("button", { type: "button", click }, say(key));
  const scale = (factor) => {
    const [left, top, side] = crop();
    const next = side * factor;
    place([left + (side - next) / 2, top + (side - next) / 2, next]);
  };
  const isCutOut = make("input", {
    type: "checkbox",
    change: () => {
      model.set("cut_out", { ...model.get("cut_out"), [name]: isCutOut.checked });
      model.save_changes();
      draw();
    },
  });
  const turn = (by) => show(names[(names.indexOf(name) + by + names.length) % names.length]);
  const frame = makeFrame(
    el,
    say("crop_title"),
    make("h3", {}, say("crop_title")),
    make(
      "div",
      { class: "s2i-row" },
      button("crop_previous", () => turn(-1)),
      make("label", {}, say("cam_one"), which),
      button("crop_next", () => turn(1)),
    ),
    stage,
    make(
      "div",
      { class: "s2i-row" },
      button("crop_smaller", () => scale(1 / 1.1)),
      button("crop_larger", () => scale(1.1)),
      make("label", {}, isCutOut, say("crop_cut_out")),
      make("span", { class: "s2i-quiet" }, say("crop_how")),
    ),
    lines.status,
    lines.problem,
  );
  Object.assign(frame, { lang: text.lang, dir: text.dir });

  const crop = () => model.get("crops")[name];
  const size = () => model.get("sizes")[name];

  function draw() {
    const [left, top, side] = crop();
    const [width, height] = size();
    Object.assign(box.style, {
      left: `${(100 * left) / width}%`,
      top: `${(100 * top) / height}%`,
      width: `${(100 * side) / width}%`,
      height: `${(100 * side) / height}%`,
    });
    box.setAttribute("aria-label", say("crop_of", { name }));
    box.setAttribute("aria-valuemax", Math.max(0, width - side));
    box.setAttribute("aria-valuenow", left);
    const where = say("crop_place", { left, top, side });
    box.setAttribute("aria-valuetext", where);
    isCutOut.checked = model.get("cut_out")[name] ?? false;
    const doubt = model.get("doubts")[name];
    const said = [`${name}: ${where}`];
    if (side < 512) said.push(say("crop_small"));
    if (!isCutOut.checked) said.push(doubt ? say("crop_doubted", { doubt }) : say("crop_whole"));
    lines.say(said.join(" "));
  }

  function place(wanted) {
    const next = fitCrop(wanted, size(), model.get("least_px"));
    if (next.every((value, i) => value === crop()[i])) return;
    model.set("crops", { ...model.get("crops"), [name]: next });
    if (!model.get("changed").includes(name)) model.set("changed", [...model.get("changed"), name]);
    draw();
    if (!drag) model.save_changes(); // a drag is saved once, where it ends
  }

  async function show(next) {
    name = which.value = next;
    image.alt = `${say("cam_one")} ${name}`;
    const [width, height] = size();
    stage.style.aspectRatio = `${width} / ${height}`;
    stage.style.width = `min(100%, ${Math.round((420 * width) / height)}px)`;
    draw();
    try {
      if (!urls.has(next)) {
        const bytes = await transport.pull(next);
        urls.set(next, URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
      }
      if (name === next) image.src = urls.get(next);
    } catch (error) {
      lines.complain(error.message);
    }
  }

  box.addEventListener("keydown", (event) => {
    const [left, top, side] = crop();
    const step = Math.max(1, Math.min(...size()) * STEP * (event.shiftKey ? 10 : 1));
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) place([left + moves[event.key][0], top + moves[event.key][1], side]);
    else if (event.key === "+" || event.key === "=") scale(1.1);
    else if (event.key === "-") scale(1 / 1.1);
    else return;
    event.preventDefault();
  });

  stage.addEventListener("pointerdown", (event) => {
    const ratio = size()[0] / stage.getBoundingClientRect().width;
    const from = event.target === corner ? "corner" : event.target === box ? "box" : null;
    if (!from) {
      const bounds = stage.getBoundingClientRect();
      const side = crop()[2];
      return place([
        (event.clientX - bounds.left) * ratio - side / 2,
        (event.clientY - bounds.top) * ratio - side / 2,
        side,
      ]);
    }
    drag = { from, ratio, x: event.clientX, y: event.clientY, crop: crop() };
    stage.setPointerCapture(event.pointerId);
    box.focus();
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const dx = (event.clientX - drag.x) * drag.ratio;
    const dy = (event.clientY - drag.y) * drag.ratio;
    const [left, top, side] = drag.crop;
    const room = Math.min(size()[0] - left, size()[1] - top);
    if (drag.from === "box") place([left + dx, top + dy, side]);
    else place([left, top, Math.min(room, side + Math.max(dx, dy))]);
  });
  for (const type of ["pointerup", "pointercancel"])
    stage.addEventListener(type, () => {
      drag = null;
      model.save_changes();
    });

  model.on("change:crops change:cut_out", draw);
  if (name === undefined) {
    stage.hidden = true;
    lines.say(say("crop_none"));
  } else show(name);
  return () => {
    model.off("change:crops change:cut_out", draw);
    urls.forEach((url) => URL.revokeObjectURL(url));
    transport.close();
  };
}

export default { render };
