// The strip of photos under the camera and the upload widget. The Python half is __init__.py.
import { make } from "../transport/page.js";

function countWords(say, count, fewest, most) {
  const values = { count, fewest, most, more: fewest - count };
  if (!count) return say("strip_none", values);
  if (count < fewest) return say("strip_few", values);
  return say(count > most ? "strip_many" : "strip_enough", values);
}

// Returns {element, close}. Thumbnails come from Python, so what is seen here has arrived there.
export function makeStrip(model, transport, lines, say) {
  if (!model.get("shows_strip")) return { element: "", close() {} };
  const count = make("p", { class: "s2i-count", tabindex: "-1" });
  const list = make("ul", { class: "s2i-strip", "aria-label": say("strip_list") });
  const undo = make("button", { type: "button", hidden: true }, say("strip_undo"));
  const items = new Map(); // name -> li
  const urls = [];

  undo.addEventListener("click", () => transport.tell("undo"));

  let nRemoved = 0; // each can be undone, the last first
  const countRemoved = () => {
    const before = nRemoved, hadFocus = undo === undo.getRootNode().activeElement;
    nRemoved = model.get("n_removed");
    if (nRemoved < before) lines.say(say("strip_back"));
    undo.hidden = !nRemoved;
    if (hadFocus && undo.hidden) count.focus(); // not a "Delete", which the next press would mean
  };

  const showPicture = async (name, image) => {
    try {
      const bytes = await transport.pull(name);
      urls.push(URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
      image.src = urls.at(-1);
    } catch {
      image.alt = say("strip_hidden", { name });
    }
  };

  const makeItem = (name) => {
    const image = make("img", { alt: name, width: "96", height: "96" });
    const remove = make(
      "button",
      {
        type: "button",
        "aria-label": say("strip_delete", { name }),
        title: say("strip_delete", { name }),
        click: () => {
          const next = item.nextElementSibling || item.previousElementSibling;
          transport.tell("remove", { name });
          lines.say(say("strip_deleted", { name }));
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

  // What Python says of a photo, once it has looked at it: whether it is used, and why.
  const mark = () => {
    const verdicts = model.get("verdicts");
    for (const [name, item] of items) {
      const { kept, why } = verdicts[name] || {};
      const said = why ? `${kept ? "✓" : "✗"} ${why}` : "";
      if (item.title === said) continue;
      item.title = said;
      item.dataset.kept = why ? String(kept) : "";
      item.firstChild.alt = why ? `${name}: ${why}` : name;
      if (why) showPicture(name, item.firstChild); // as training sees it
    }
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
    mark();
    list.hidden = !names.length;
    count.textContent = countWords(say, names.length, model.get("fewest"), model.get("most"));
  };

  model.on("change:photos", update);
  model.on("change:verdicts", mark);
  model.on("change:n_removed", countRemoved);
  update();
  countRemoved();
  return {
    element: make("div", {}, make("div", { class: "s2i-row" }, count, undo), list),
    close() {
      model.off("change:photos", update);
      model.off("change:verdicts", mark);
      model.off("change:n_removed", countRemoved);
      urls.forEach((url) => URL.revokeObjectURL(url));
    },
  };
}
