/**
 * Messages over connections that may be lost: each has a number, is kept until the other side says that it came, and is
 * sent again over the next connection. Both ends are this very code. It knows neither sockets nor time: who has a
 * connection attaches it, who finds it lost says so, and who waited for too long ends the channel.
 */
import type { Channel, DialedFrame } from "../protocol.ts";
import { dialedFrame, dialedFrameBytesMax } from "../protocol.ts";

export interface ResumableLimits {
  /** Kept until the other side has it. With more than that, messages wait unnumbered, and those who send them with them. */
  readonly keptBytesMax: number;
  /** What came is acknowledged after so many messages, or so many characters of them, whichever comes first. */
  readonly acknowledgeMessages: number;
  /** Far below what is kept: else the two sides would wait for each other. */
  readonly acknowledgeLength: number;
}

/** Of both ends of a WebSocket. */
export const dialedLimits: ResumableLimits = { keptBytesMax: 8 * 2 ** 20, acknowledgeMessages: 32, acknowledgeLength: 64 * 1024 };

/** One connection, in order and whole as long as it lasts. */
export interface Wire {
  /** `done`: the operating system has it, or never will. */
  write(frame: string, done: () => void): void;
  /** At once: another one takes its place. */
  drop(): void;
  /** For good: the other side is not to come back. */
  end(): void;
}

export interface ResumableOptions<Out, In> {
  readonly limits: ResumableLimits;
  /** null: it breaks the protocol, which ends the channel. */
  messageOf(value: unknown): In | null;
  /** Of little worth later: left out while more is kept than should be. */
  isExpendable(message: Out): boolean;
  /** With more that is not known to have come to the other side, waiting messages included, the channel ends. */
  readonly heldBytesMax: number;
  /** Both sides have agreed on where to go on, over a connection that was attached. */
  onResumed(): void;
}

interface Kept {
  readonly frame: string;
  readonly bytes: number;
}

interface Waiting {
  readonly message: string;
  readonly done: () => void;
}

/** A channel that outlives its connections. Every message is delivered once, in order, unless the channel ends before. */
export class ResumableChannel<Out, In> implements Channel<Out, In> {
  readonly #options: ResumableOptions<Out, In>;
  readonly #listeners: ((message: In) => void)[] = [];
  readonly #closeListeners: (() => void)[] = [];
  /** Came before anybody listened. */
  readonly #early: In[] = [];
  #wire: Wire | null = null;
  /** The other side has said over this connection what it has. */
  #isResumed = false;
  /** The other side has left this connection for a newer one; that it is lost is still to be told. */
  #isOutdated = false;
  /** By number. */
  readonly #kept = new Map<number, Kept>();
  #keptBytes = 0;
  #sent = 0;
  #acknowledged = 0;
  readonly #waiting: Waiting[] = [];
  #waitingBytes = 0;
  readonly #settling: (() => void)[] = [];
  #received = 0;
  #unacknowledged = { messages: 0, length: 0 };
  #endedBecause: string | null = null;

  constructor(options: ResumableOptions<Out, In>) {
    this.#options = options;
  }

  // ---- the channel ----

  /**
   * Without a connection it is enough that the message is kept: the work goes on meanwhile, up to as much as can be
   * kept. Then it resolves once there is room.
   */
  send(message: Out): Promise<void> {
    if (this.isOver) return Promise.resolve();
    if (!this.#isFull) return new Promise((done) => this.#post({ message: JSON.stringify(message), done }));
    if (this.#options.isExpendable(message)) return Promise.resolve();
    return new Promise((done) => this.#wait({ message: JSON.stringify(message), done }));
  }

  onMessage(listener: (message: In) => void): void {
    this.#listeners.push(listener);
    for (const message of this.#early.splice(0)) listener(message);
  }

  onClose(listener: () => void): void {
    if (this.isOver) queueMicrotask(listener);
    else this.#closeListeners.push(listener);
  }

  close(): void {
    this.end("closed from this side");
  }

  /** Once all that was sent has come to the other side, or the channel is over. */
  settled(): Promise<void> {
    if (this.isOver || this.#isSettled) return Promise.resolve();
    return new Promise((resolve) => {
      this.#settling.push(resolve);
      this.#ask();
    });
  }

  get isOver(): boolean {
    return this.#endedBecause !== null;
  }

  /** In words; null: it is not over. */
  get endedBecause(): string | null {
    return this.#endedBecause;
  }

  /** Nothing more goes in or out, and no connection can be attached. */
  end(because: string): void {
    if (this.isOver) return;
    this.#endedBecause = because;
    this.#wire?.end();
    this.#wire = null;
    this.#kept.clear();
    this.#keptBytes = 0;
    this.#waitingBytes = 0;
    for (const { done } of this.#waiting.splice(0)) done();
    for (const resolve of this.#settling.splice(0)) resolve();
    for (const listener of this.#closeListeners.splice(0)) listener();
  }

  // ---- connections ----

  /** The newest one counts: who opens it knows best that the one before is none. */
  attach(wire: Wire): void {
    if (this.isOver) return wire.end();
    this.#wire?.drop();
    this.#wire = wire;
    this.#isResumed = false;
    this.#isOutdated = false;
    this.#write({ kind: "resume", received: this.#received });
  }

  /** True: the channel has no connection from now on. */
  lost(wire: Wire): boolean {
    if (this.#wire !== wire) return false;
    this.#wire = null;
    this.#isResumed = false;
    return !this.isOver;
  }

  /** The other side has ended this connection for good. */
  left(wire: Wire, because: string): void {
    if (this.#wire === wire) this.end(because);
  }

  hear(wire: Wire, text: string): void {
    if (this.#wire !== wire || this.#isOutdated) return;
    const frame = frameOf(text);
    if (frame === null || !this.#take(frame, text.length)) this.end("the other side broke the protocol");
  }

  // ---- what comes in ----

  /** False: the other side says what cannot be. */
  #take(frame: DialedFrame, length: number): boolean {
    if (frame.kind !== "resume" && !this.#isResumed) return false;
    switch (frame.kind) {
      case "resume":
        return this.#resume(frame.received);
      case "message":
        return this.#receive(frame.number, frame.message, length);
      case "received":
        return this.#acknowledge(frame.number);
      case "ask":
        this.#sayReceived();
        return true;
    }
  }

  #resume(received: number): boolean {
    if (!this.#isResumed && received < this.#acknowledged) {
      // Connections may be found in another order than they were opened: more than this has been acknowledged since.
      this.#isOutdated = true;
      this.#wire?.drop();
      return true;
    }
    if (this.#isResumed || !this.#acknowledge(received)) return false;
    this.#isResumed = true;
    for (const { frame } of this.#kept.values()) this.#wire?.write(frame, ignore);
    if (this.#settling.length > 0) this.#ask();
    this.#options.onResumed();
    return true;
  }

  #receive(number: number, value: unknown, length: number): boolean {
    // It had come already.
    if (number <= this.#received) return true;
    if (number > this.#received + 1) return false;
    const message = this.#options.messageOf(value);
    if (message === null) return false;
    this.#received = number;
    this.#unacknowledged.messages += 1;
    this.#unacknowledged.length += length;
    const { acknowledgeMessages, acknowledgeLength } = this.#options.limits;
    if (this.#unacknowledged.messages >= acknowledgeMessages || this.#unacknowledged.length >= acknowledgeLength) this.#sayReceived();
    if (this.#listeners.length === 0) this.#early.push(message);
    for (const listener of this.#listeners) listener(message);
    return true;
  }

  /** False: nobody can have received it, or it was said before that more had come. */
  #acknowledge(number: number): boolean {
    if (number < this.#acknowledged || number > this.#sent) return false;
    while (this.#acknowledged < number) {
      this.#acknowledged += 1;
      this.#keptBytes -= this.#kept.get(this.#acknowledged)?.bytes ?? 0;
      this.#kept.delete(this.#acknowledged);
    }
    this.#makeUseOfRoom();
    if (this.#isSettled) for (const resolve of this.#settling.splice(0)) resolve();
    return true;
  }

  #sayReceived(): void {
    this.#unacknowledged = { messages: 0, length: 0 };
    this.#write({ kind: "received", number: this.#received });
  }

  // ---- what goes out ----

  get #isFull(): boolean {
    return this.#keptBytes >= this.#options.limits.keptBytesMax;
  }

  get #isSettled(): boolean {
    return this.#kept.size === 0 && this.#waiting.length === 0;
  }

  #wait(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#waitingBytes += waiting.message.length;
    if (this.#keptBytes + this.#waitingBytes > this.#options.heldBytesMax) this.end("too much is not acknowledged");
  }

  #makeUseOfRoom(): void {
    while (this.#keptBytes < this.#options.limits.keptBytesMax) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#waitingBytes -= next.message.length;
      this.#post(next);
    }
  }

  #post({ message, done }: Waiting): void {
    const frame = `{"kind":"message","number":${this.#sent + 1},"message":${message}}`;
    const bytes = Buffer.byteLength(frame);
    if (bytes > dialedFrameBytesMax) {
      done();
      return this.end(`a message of ${bytes} bytes was to be sent`);
    }
    this.#sent += 1;
    this.#kept.set(this.#sent, { frame, bytes });
    this.#keptBytes += bytes;
    if (this.#wire === null || !this.#isResumed) return done();
    this.#wire.write(frame, done);
    if (this.#settling.length > 0) this.#ask();
  }

  #ask(): void {
    if (this.#isResumed) this.#write({ kind: "ask" });
  }

  #write(frame: DialedFrame): void {
    this.#wire?.write(JSON.stringify(frame), ignore);
  }
}

function frameOf(text: string): DialedFrame | null {
  try {
    return dialedFrame.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

function ignore(): void {}
