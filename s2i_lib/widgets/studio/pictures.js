// The studio's pictures: a large one with its buttons, the others of its wish to choose from, the
// strip below, and where the focus goes.
import { make } from "../transport/page.js";

// The bytes of pictures by their ids, each fetched once, as addresses for <img>.
export function makeShelf(transport) {
  const urls = new Map(); // id -> promise of a URL of its PNG
  const drop = (id) => {
    urls.get(id)?.then(URL.revokeObjectURL, () => {});
    urls.delete(id);
  };
  return {
    urlOf(id) {
      if (!urls.has(id)) {
        const url = transport
          .pull(id)
          .then((bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/png" })));
        url.catch(() => urls.delete(id)); // a kernel that comes back is asked again
        urls.set(id, url);
      }
      return urls.get(id);
    },
    keepOnly: (ids) => [...urls.keys()].filter((id) => !ids.includes(id)).forEach(drop),
    close: () => [...urls.keys()].forEach(drop),
  };
}

// Redrawn, a button loses the focus: it goes to the same one of the same picture, or of the next
// where that is deleted, or to `last` where no picture is left.
export function redraw(list, items, last) {
  const focused = list.getRootNode().activeElement;
  const at = [...list.children].findIndex((item) => item.contains(focused));
  const old = list.children[at];
  list.replaceChildren(...items);
  if (!old) return;
  const item = items.find(({ dataset }) => dataset.id === old.dataset.id) || items[at] || items.at(-1);
  const button = [...old.querySelectorAll("button")].indexOf(focused);
  ((item && item.querySelectorAll("button")[button]) || last).focus();
}

// The pictures of a wish: one is large, and pressing another makes that the large one. Which one it
// is, is this page's own business. `last` has the focus where no picture is left, and `drawn` is
// called when the large one is another.
export function makeGallery(tools, last, drawn) {
  const large = make("div", {}), tiles = make("ul", { class: "s2i-tiles" });
  let entries = [], chosen = "";
  function draw() {
    const at = entries.findIndex(({ id }) => id === chosen);
    redraw(large, at < 0 ? [] : [makeFigure(entries[at], { ...tools, number: at + 1 })], last);
    const choose = (id) => {
      chosen = id;
      draw();
      drawn();
    };
    const all = entries.map((entry, i) => makeTile(entry, entry.id === chosen, { ...tools, number: i + 1, choose }));
    tiles.hidden = all.length < 2;
    redraw(tiles, tiles.hidden ? [] : all, last);
  }
  return {
    element: make("div", { class: "s2i-gallery" }, large, tiles),
    show(now) {
      const before = entries.map(({ id }) => id), ids = now.map(({ id }) => id);
      // In the place of one that was deleted stands the next; of a new wish, the first.
      const isSame = ids.some((id) => before.includes(id));
      const next = isSame ? Math.min(Math.max(before.indexOf(chosen), 0), ids.length - 1) : 0;
      if (!ids.includes(chosen)) chosen = ids[next] ?? "";
      entries = now;
      draw();
    },
  };
}

function showWhole(image, entry, shelf, whenGone) {
  shelf.urlOf(entry.id).then((url) => (image.src = url), whenGone);
  return image;
}

function makeTile(entry, isLarge, tools) {
  const image = make("img", { alt: "", "aria-hidden": "true", src: entry.thumb });
  const button = make(
    "button",
    {
      type: "button",
      "aria-pressed": String(isLarge),
      "aria-label": tools.say("make_large", { number: tools.number }),
      click: () => tools.choose(entry.id),
    },
    showWhole(image, entry, tools.shelf, () => {}),
  );
  return make("li", { "data-id": entry.id }, button);
}

// A picture with what can be done with it. `say(key, values)` gives texts, `tell` sends to Python.
function makeFigure(entry, { shelf, say, tell, lines, read, number }) {
  const button = (key, click, more = {}) =>
    make("button", { type: "button", click, ...more }, say(key));
  const image = make("img", { alt: entry.alt, src: entry.thumb });
  showWhole(image, entry, shelf, () => (image.alt = say("gone", { words: entry.alt })));
  // What leaves has pixels and the mark that a machine drew them: no words, which may name somebody.
  const name = `picture-${entry.seed}.png`;
  const fileOf = async () => {
    const blob = await (await fetch(await shelf.urlOf(entry.id))).blob();
    return new File([blob], name, { type: "image/png" });
  };
  // Browsers write the pixels of a copied picture anew, without its mark: it is in the HTML, which
  // whatever takes text with pictures takes first.
  const pageOf = async () => {
    const url = await asDataUri(await fileOf());
    const copied = make("img", { alt: entry.told.map(([part]) => part).join(""), src: url });
    return new Blob([copied.outerHTML], { type: "text/html" });
  };
  const complain = (error) => error.name !== "AbortError" && lines.complain(error.message);
  const save = button("save", async () => {
    try {
      make("a", { href: await shelf.urlOf(entry.id), download: name }).click();
    } catch (error) {
      complain(error);
    }
  });
  const copy = button("copy", async () => {
    try {
      // A promise in the item: Safari allows it only within the press itself.
      const item = new ClipboardItem({ "image/png": fileOf(), "text/html": pageOf() });
      await navigator.clipboard.write([item]);
      lines.say(say("copied"));
    } catch {
      lines.complain(say("not_copied"));
    }
  });
  const share = button("share", () =>
    fileOf().then((file) => navigator.share({ files: [file] })).catch(complain),
  );
  const probe = new File([], "probe.png", { type: "image/png" });
  share.hidden = !navigator.canShare?.({ files: [probe] });
  const full = button("full_screen", () => image.requestFullscreen().catch(complain));
  full.hidden = !document.fullscreenEnabled;
  const keep = button(
    entry.is_kept ? "kept" : "keep",
    () => tell("keep", { id: entry.id, is_kept: !entry.is_kept }),
    { "aria-pressed": String(entry.is_kept), "aria-label": say("keep_one", { number }) },
  );
  const remove = button("delete", () => tell("delete", { id: entry.id }), {
    "aria-label": say("delete_one", { number }),
  });
  const hold = button("hold", () => tell("hold", { id: entry.id }));
  const aloud = button("read_it", () => read(entry.told));
  aloud.hidden = !window.speechSynthesis;
  return make(
    "figure",
    { "data-id": entry.id },
    image,
    make(
      "figcaption",
      {},
      make("span", { class: "s2i-said", dir: "auto" }, entry.said),
      make("div", { class: "s2i-row" }, keep, remove, save, copy, share, full, hold, aloud),
    ),
  );
}

const asDataUri = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

// One picture of the strip: pressing it goes back there.
export function makeStep(entry, isShown, { say, tell, lines, number }) {
  return make(
    "li",
    { "data-id": entry.id },
    make(
      "button",
      {
        type: "button",
        title: entry.said,
        "aria-current": isShown ? "true" : undefined,
        "aria-label": say("show_again", { words: entry.said, number }),
        click: () => {
          tell("show", { id: entry.id });
          lines.say(entry.said);
        },
      },
      make("img", { src: entry.thumb, width: "64", height: "64", alt: "", "aria-hidden": "true" }),
    ),
  );
}
