// Bytes between the page and Python over a widget's own messages. The Python half is __init__.py.

export const CHUNK_BYTES = 96 * 1024; // JupyterLab drops messages over 10 MiB, Colab far smaller ones
const IN_FLIGHT = 8; // pieces without an answer: 768 KiB, so that no queue on the way is flooded
const RESEND_MS = 5000; // doubles with each try; Python answers nothing while a cell runs
const GIVE_UP_MS = 5 * 60 * 1000;
const LONGEST_TICK_MS = 60 * 1000; // hidden pages get a tick a minute; longer ones were asleep

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

// CRC-32 as in zip and Python's zlib; `crc` goes on from an earlier result.
export function crc32(bytes, crc = 0) {
  crc = ~crc;
  for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// Calls tick(milliseconds since it began, or since reset()) again and again, until stop(). A phone
// that was locked for ten minutes has not waited for ten minutes.
function keepTime(tick) {
  let quiet = 0, last = Date.now();
  const timer = setInterval(() => {
    const now = Date.now();
    quiet += Math.min(now - last, LONGEST_TICK_MS);
    last = now;
    tick(quiet);
  }, 500);
  return { reset: () => (quiet = 0), stop: () => clearInterval(timer) };
}

const toBytes = (buffer) =>
  buffer instanceof Uint8Array
    ? buffer
    : buffer.buffer
      ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
      : new Uint8Array(buffer);

export class Transport {
  // `say` is of makeText. onMessage gets what answers nothing; onSilence(true) is called when Python
  // leaves a message unanswered, and onSilence(false) when it answers again.
  constructor(model, say, onMessage = () => {}, onSilence = () => {}) {
    Object.assign(this, { model, say, onMessage, onSilence });
    this.waiting = new Map(); // id -> what takes the answers
    this.serial = 0;
    this.prefix = Math.random().toString(36).slice(2); // two views of one widget hear each other
    this.listener = (message, buffers) => {
      if (this.isSilent) this.onSilence((this.isSilent = false));
      const taker = this.waiting.get(message.id ?? message.told);
      if (taker) taker(message, buffers || []);
      else if (message.id === undefined && message.told === undefined)
        this.onMessage(message, buffers || []);
    };
    model.on("msg:custom", this.listener);
  }

  close() {
    this.model.off("msg:custom", this.listener);
    this.waiting.clear();
  }

  // Sends a short message until Python has answered: a kernel loses some without a word, for
  // instance those to a subshell that has just ended. A later one about the same thing (`about`)
  // takes an earlier one's place, or the earlier would come back after it.
  tell(type, fields = {}, about = null) {
    const told = `${this.prefix}-${++this.serial}`;
    for (const earlier of [...this.waiting.values()]) if (about && earlier.about === about) earlier();
    const send = () => this.model.send({ ...fields, type, told });
    let tries = 0;
    const clock = keepTime((quiet) => {
      if (!this.waiting.has(told) || quiet > GIVE_UP_MS) taker();
      else if (quiet > RESEND_MS * 2 ** tries) tries++, this.onSilence((this.isSilent = true)), send();
    });
    const taker = () => {
      clock.stop();
      this.waiting.delete(told);
    };
    taker.about = about;
    this.waiting.set(told, taker);
    send();
  }

  // Sends a Blob whole; resolves with Python's note, rejects with a sentence to show.
  // onProgress(share from 0 to 1, isWaiting); `signal` is an AbortSignal.
  push(blob, meta = {}, { onProgress = () => {}, signal } = {}) {
    const id = `${this.prefix}-${++this.serial}`;
    const size = blob.size;
    const count = Math.max(1, Math.ceil(size / CHUNK_BYTES));
    const inFlight = new Set();
    let next = 0, answered = 0, totalCrc = 0, pumping = false, silent = 0;

    const post = async (index, isFirstTime) => {
      const start = index * CHUNK_BYTES;
      const part = blob.slice(start, Math.min(size, start + CHUNK_BYTES));
      const piece = new Uint8Array(await part.arrayBuffer());
      if (isFirstTime) totalCrc = crc32(piece, totalCrc);
      const message = { type: "chunk", id, index, count, size, crc: crc32(piece) };
      if (index === 0) message.meta = meta;
      if (index === count - 1) message.total_crc = totalCrc;
      this.model.send(message, undefined, [piece.buffer]);
    };

    return new Promise((resolve, reject) => {
      const end = (settle, value) => {
        clock.stop();
        this.waiting.delete(id);
        settle(value);
      };
      const pump = async () => {
        if (pumping) return; // pieces are read one after another, so the running checksum is right
        pumping = true;
        try {
          while (next < count && inFlight.size < IN_FLIGHT && this.waiting.has(id)) {
            inFlight.add(next);
            await post(next++, true);
          }
        } catch (error) {
          end(reject, new Error(this.say("unreadable", { why: error.message })));
        }
        pumping = false;
      };
      const clock = keepTime((quiet) => {
        if (!this.waiting.has(id)) return clock.stop(); // closed
        if (quiet > GIVE_UP_MS) return end(reject, new Error(this.say("no_answer")));
        if (quiet < RESEND_MS * 2 ** silent) return;
        silent += 1;
        onProgress(answered / count, true);
        inFlight.forEach((index) => post(index, false));
      });
      this.waiting.set(id, (message) => {
        clock.reset();
        silent = 0;
        if (message.type === "ack") {
          if (inFlight.delete(message.index)) answered += 1;
          onProgress(answered / count, false);
          pump();
        } else if (message.type === "resend") post(message.index, false);
        else if (message.type === "done") end(resolve, message.note);
        else if (message.type === "failed") end(reject, new Error(message.message));
      });
      if (signal)
        signal.addEventListener("abort", () => {
          this.model.send({ type: "cancel", id });
          end(reject, new DOMException("Stopped.", "AbortError"));
        });
      pump();
    });
  }

  // Fetches what Python knows under `name`; resolves with a Uint8Array.
  async pull(name) {
    const pieces = [];
    for (let index = 0, count = 1; index < count; index++) {
      const [message, piece] = await this.pullPiece(name, index);
      count = message.count;
      pieces.push(piece);
    }
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  }

  pullPiece(name, index) {
    const id = `${this.prefix}-${++this.serial}`;
    return new Promise((resolve, reject) => {
      let tries = 0;
      const ask = () => this.model.send({ type: "pull", id, name, index });
      const end = (settle, value) => {
        clock.stop();
        this.waiting.delete(id);
        settle(value);
      };
      const clock = keepTime((quiet) => {
        if (!this.waiting.has(id)) clock.stop(); // closed
        else if (quiet > GIVE_UP_MS) end(reject, new Error(this.say("no_answer")));
        else if (quiet > RESEND_MS * 2 ** tries) tries++, ask();
      });
      this.waiting.set(id, (message, buffers) => {
        if (message.message) return end(reject, new Error(message.message));
        const piece = toBytes(buffers[0] || new Uint8Array());
        if (crc32(piece) === message.crc) end(resolve, [message, piece]);
        else ask();
      });
      ask();
    });
  }
}
