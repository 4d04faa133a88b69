// The studio's large picture with its buttons, the strip below, and where the focus goes.
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

// A picture with what can be done with it. `say(key, values)` gives texts, `tell` sends to Python.
export function makeFigure(entry, { shelf, say, tell, lines }) {
  const button = (key, click, more = {}) =>
    make("button", { type: "button", click, ...more }, say(key));
  const image = make("img", { alt: entry.alt, src: entry.thumb });
  shelf.urlOf(entry.id).then(
    (url) => (image.src = url),
    () => (image.alt = say("gone", { words: entry.alt })),
  );
  const name = `${entry.alt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${entry.seed}.png`;
  const fileOf = async () => {
    const blob = await (await fetch(await shelf.urlOf(entry.id))).blob();
    return new File([blob], name, { type: "image/png" });
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
      await navigator.clipboard.write([new ClipboardItem({ "image/png": fileOf() })]);
      lines.say(say("copied"));
    } catch {
      lines.complain(say("not_copied"));
    }
  });
  const share = button("share", () =>
    fileOf().then((file) => navigator.share({ files: [file], title: entry.said })).catch(complain),
  );
  const probe = new File([], "probe.png", { type: "image/png" });
  share.hidden = !navigator.canShare?.({ files: [probe] });
  const full = button("full_screen", () => image.requestFullscreen().catch(complain));
  full.hidden = !document.fullscreenEnabled;
  const keep = button(
    entry.is_kept ? "kept" : "keep",
    () => tell("keep", { id: entry.id, is_kept: !entry.is_kept }),
    { "aria-pressed": String(entry.is_kept), "aria-label": say("keep_one", { seed: entry.seed }) },
  );
  const remove = button("delete", () => tell("delete", { id: entry.id }), {
    "aria-label": say("delete_one", { seed: entry.seed }),
  });
  return make(
    "figure",
    { "data-id": entry.id },
    image,
    make(
      "figcaption",
      {},
      make("span", { class: "s2i-said" }, entry.said),
      make("div", { class: "s2i-row" }, keep, remove, save, copy, share, full),
    ),
  );
}

// One picture of the strip: pressing it goes back there.
export function makeStep(entry, isShown, { say, tell, lines }) {
  return make(
    "li",
    { "data-id": entry.id },
    make(
      "button",
      {
        type: "button",
        title: entry.said,
        "aria-current": isShown ? "true" : undefined,
        "aria-label": say("show_again", { words: entry.alt, seed: entry.seed }),
        click: () => {
          tell("show", { id: entry.id });
          lines.say(entry.said);
        },
      },
      make("img", { src: entry.thumb, width: "64", height: "64", alt: "", "aria-hidden": "true" }),
    ),
  );
}
