// The strip of photos under the camera and the upload widget. The Python half is __init__.py.
import { make } from "../transport/page.js";

export function countWords(count, fewest, most) {
  const wanted = `${count} of ${fewest} to ${most} photos`;
  if (!count) return `${wanted}: 1 is needed`;
  if (count < fewest) return `${wanted}: enough to try, ${fewest - count} more would help`;
  if (count > most) return `${count} photos, more than the ${most} that are of use`;
  return `${wanted}: enough to train`;
}

// Returns {element, close}. Thumbnails come from Python, so what is seen here has arrived there.
export function makeStrip(model, transport, lines) {
  const count = make("p", { class: "s2i-count" });
  const list = make("ul", { class: "s2i-strip", "aria-label": "Photos so far" });
  const undo = make("button", { type: "button", hidden: true }, "Undo delete");
  const items = new Map(); // name -> li
  const urls = [];

  undo.addEventListener("click", () => {
    transport.tell("undo");
    undo.hidden = true;
    lines.say("The photo is back.");
  });

  const showPicture = async (name, image) => {
    try {
      const bytes = await transport.pull(name);
      urls.push(URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
      image.src = urls.at(-1);
    } catch {
      image.alt = `${name} (cannot be shown)`;
    }
  };

  const makeItem = (name) => {
    const image = make("img", { alt: name, width: "96", height: "96" });
    const remove = make(
      "button",
      {
        type: "button",
        "aria-label": `Delete ${name}`,
        title: `Delete ${name}`,
        click: () => {
          const next = item.nextElementSibling || item.previousElementSibling;
          transport.tell("remove", { name });
          lines.say(`Deleted ${name}.`);
          undo.hidden = false;
          (next ? next.querySelector("button") : undo).focus();
        },
      },
      "×",
    );
    const item = make("li", {}, image, remove);
    showPicture(name, image);
    return item;
  };

  const update = () => {
    const names = model.get("photos");
    for (const [name, item] of items)
      if (!names.includes(name)) {
        item.remove();
        items.delete(name);
      }
    for (const name of names)
      if (!items.has(name)) {
        items.set(name, makeItem(name));
        list.append(items.get(name));
      }
    list.hidden = !names.length;
    count.textContent = countWords(names.length, model.get("fewest"), model.get("most"));
  };

  model.on("change:photos", update);
  update();
  return {
    element: make("div", {}, make("div", { class: "s2i-row" }, count, undo), list),
    close() {
      model.off("change:photos", update);
      urls.forEach((url) => URL.revokeObjectURL(url));
    },
  };
}
