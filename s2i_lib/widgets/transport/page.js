// What all widgets do with the page around them.

// An element with attributes (a function is a listener) and content.
export function make(tag, attributes = {}, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...content);
  return element;
}

// The frame of a widget: named for screen readers, deaf to the notebook's own keys and drops.
export function makeFrame(host, name, ...content) {
  const frame = make(
    "section",
    { class: "s2i", "aria-label": name, "data-lm-suppress-shortcuts": "true" },
    ...content,
  );
  for (const type of ["keydown", "keyup", "keypress"])
    frame.addEventListener(type, (event) => event.stopPropagation());
  host.append(frame);
  return frame;
}

// Two lines under a widget: what goes on (polite), and what went wrong (at once).
export function makeLines() {
  const status = make("p", { class: "s2i-status", role: "status", "aria-live": "polite" });
  const problem = make("p", { class: "s2i-problem", role: "alert", dir: "auto" }); // often English
  return {
    status,
    problem,
    say(text) {
      status.textContent = text;
    },
    complain(text) {
      problem.textContent = text;
    },
    // That Python is silent is taken away when it answers; what else was complained of stays.
    complainOfSilence(isSilent, text) {
      if (isSilent) problem.textContent = text;
      else if (problem.textContent === text) problem.textContent = "";
    },
  };
}


// Why a camera or microphone did not open: {code, message}. Each case has its own way out.
// `noun` is "camera" or "microphone": also the names of the permission policies.
export function explainDevice(error, noun) {
  const rules = document.permissionsPolicy || document.featurePolicy;
  if (!window.isSecureContext)
    return {
      code: "insecure",
      message: `Browsers give the ${noun} only to pages with https, or on localhost; this page ` +
        "came over plain http. Open the notebook with https or through localhost.",
    };
  if (!navigator.mediaDevices || (rules && !rules.allowsFeature(noun)))
    return {
      code: "blocked",
      message: `The page around this notebook does not let it use the ${noun}, so the browser ` +
        "did not even ask. Open the notebook in a browser tab of its own.",
    };
  const known = {
    NotAllowedError: {
      code: "refused",
      message: `The ${noun} was refused. Click the icon beside the page's address, allow the ` +
        `${noun}, then try again.`,
    },
    NotFoundError: {
      code: "missing",
      message: `No ${noun} was found. Connect one, then try again.`,
    },
    NotReadableError: {
      code: "busy",
      message: `The ${noun} does not start; another program may be using it. Close that ` +
        "program, then try again.",
    },
  };
  known.SecurityError = known.NotAllowedError;
  known.OverconstrainedError = known.NotFoundError;
  known.AbortError = known.NotReadableError;
  return (
    known[error.name] || {
      code: "other",
      message: `The ${noun} did not open (${error.name}: ${error.message}). Try again, or ` +
        "reload the page.",
    }
  );
}

// Opens a device; throws an Error whose `code` and `message` are those of explainDevice.
export async function openDevice(kind, constraints) {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (cause) {
    const { code, message } = explainDevice(cause, kind);
    throw Object.assign(new Error(message), { code });
  }
}
