// What is taken away and what is deleted: a page to show, and forgetting.
import { make } from "../transport/page.js";

export function makeKeep({ say, tell, transport, lines }) {
  let who = "";
  const withPhotos = make("input", { type: "checkbox" });
  const makePage = make(
    "button",
    { type: "button", click: () => tell("page", { with_photos: withPhotos.checked, title: who }) },
    say("app_make_page"),
  );
  const save = make("button", { type: "button", class: "s2i-main", hidden: true }, say("app_save_page"));
  let made = "";
  save.addEventListener("click", async () => {
    try {
      const url = URL.createObjectURL(new Blob([await transport.pull("page")], { type: "text/html" }));
      make("a", { href: url, download: made }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000); // it is being saved
    } catch (error) {
      lines.complain(error.message);
    }
  });
  const forget = make("button", { type: "button", click: () => tell("list") }, "");
  const yes = make("button", { type: "button", class: "s2i-stop", click: () => tell("forget", { name: who }) }, say("app_forget_yes"));
  const no = make("button", { type: "button", click: () => tell("keep") }, say("app_forget_no"));
  const list = make("ul", { class: "s2i-traces" });
  const doubts = make("ul", { class: "s2i-notes s2i-quiet" });
  const doubted = make("p", { class: "s2i-quiet" }, say("app_doubts"));
  const asked = make(
    "div",
    { class: "s2i-forget", role: "group", "aria-label": say("app_forget_list") },
    make("p", {}, say("app_forget_list")),
    list,
    doubted,
    doubts,
    make("div", { class: "s2i-row" }, yes, no),
    make("p", { class: "s2i-quiet" }, say("app_forget_bin")),
  );
  const saved = make("p", { role: "status" });
  return {
    head: [make("h3", {}, say("app_keep"))],
    body: [
      make("p", { class: "s2i-quiet" }, say("app_page_what")),
      make("div", { class: "s2i-row" },
        make("label", {}, withPhotos, make("span", {}, say("app_with_photos"))), makePage, save),
      saved,
      make("div", { class: "s2i-row" }, forget),
      asked,
    ],
    show(data) {
      if (who !== data.name) withPhotos.checked = false;
      who = data.name || "";
      made = data.made || "";
      save.hidden = !made;
      saved.hidden = !made;
      saved.textContent = made && say("app_made", { file: made });
      forget.textContent = say("app_forget", { name: who });
      const isAsked = Boolean(data.traces);
      if (isAsked && asked.hidden) setTimeout(() => no.focus());
      const wasThere = asked.contains(asked.getRootNode().activeElement);
      forget.hidden = isAsked;
      if (!isAsked && wasThere) forget.focus();
      asked.hidden = !isAsked;
      list.replaceChildren(
        ...(data.traces || []).map(({ what, path, size }) =>
          make("li", {}, make("span", {}, what), " ", make("code", { dir: "ltr" }, path), ` ${size}`)),
      );
      doubts.replaceChildren(...(data.doubts || []).map((words) => make("li", {}, words)));
      doubted.hidden = doubts.hidden = !data.doubts?.length;
    },
  };
}
