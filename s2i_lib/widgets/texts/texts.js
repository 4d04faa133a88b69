// The texts of a page in the browser's language. They come from the JSON files beside this one.

const RIGHT_TO_LEFT = ["ar", "he", "fa", "ur"];

// -> {say(key, values), lang, dir}: the first of the browser's languages that the catalogue has.
export function makeText(catalogue, languages = navigator.languages || [navigator.language]) {
  const codes = languages.map((tag) => tag.toLowerCase().split("-")[0]);
  const lang = codes.find((code) => catalogue[code]) || "en";
  const texts = { ...catalogue.en, ...catalogue[lang] };
  const say = (key, values = {}) =>
    (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
  return { say, lang, dir: RIGHT_TO_LEFT.includes(lang) ? "rtl" : "ltr" };
}
