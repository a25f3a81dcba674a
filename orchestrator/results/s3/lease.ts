import { randomUUID } from "node:crypto";
import { S3Failure } from "../../../task-manager/s3-client.ts";
import { SplitrunError } from "../../errors.ts";
import { hasEnded, thisProcess } from "../process-identity.ts";
import { outputNames } from "./names.ts";
import type { OutputObjects } from "./objects.ts";
import { type LeaseRecord, leaseRecord, recordsSchema } from "./records.ts";

/** Who has lost it unknowingly writes on for so long at most. */
const renewEveryMs = 15_000;

/** The right to write below a prefix. */
export interface Lease {
  /** Asks now whether it is still ours. @throws LeaseLost; S3Failure when nobody answers */
  check(): Promise<void>;
  /** Once, with the reason in words. */
  onLost(listener: (lost: LeaseLost) => void): void;
  /** For the next one. Never rejects: who comes then can take it over. */
  release(options: { readonly forget: boolean }): Promise<void>;
}

/** Another process has taken the output over. */
export class LeaseLost extends Error {}

/**
 * Takes the lease or throws. Of any number of processes that try at the same time one gets it, by conditional writes. A
 * dead owner of this machine loses it; whether one elsewhere lives nobody can know, and no clock is trusted, so it takes
 * a person to say so.
 *
 * @throws SplitrunError OUTPUT_IN_USE; S3Failure
 */
export async function acquireLease(objects: OutputObjects, { takeOver }: { readonly takeOver: boolean }): Promise<Lease> {
  const now = new Date().toISOString();
  const me: LeaseRecord = { schema: recordsSchema, ...thisProcess(), nonce: randomUUID(), since: now, renewed: now, released: false };
  const found = await objects.readRecord(outputNames.lease, leaseRecord);
  if (found !== null && !takeOver && !isFree(found.value)) throw inUse(objects, found.value);
  try {
    const etag = await objects.putText(outputNames.lease, textOf(me), found === null ? "absent" : { etag: found.etag });
    return new HeldLease(objects, me, etag);
  } catch (error) {
    if (!wasRaced(error)) throw error;
    const winner = await objects.readRecord(outputNames.lease, leaseRecord);
    throw winner === null ? error : inUse(objects, winner.value);
  }
}

class HeldLease implements Lease {
  readonly #objects: OutputObjects;
  readonly #me: LeaseRecord;
  readonly #timer: NodeJS.Timeout;
  #etag: string;
  #renewing: Promise<void> | null = null;
  #lost: LeaseLost | null = null;
  #released = false;
  #tell: (lost: LeaseLost) => void = () => undefined;

  constructor(objects: OutputObjects, me: LeaseRecord, etag: string) {
    this.#objects = objects;
    this.#me = me;
    this.#etag = etag;
    // Where S3 does not answer, the next time will tell.
    this.#timer = setInterval(() => void this.check().catch(() => undefined), renewEveryMs).unref();
  }

  check(): Promise<void> {
    return (this.#renewing ??= this.#write(false).finally(() => {
      this.#renewing = null;
    }));
  }

  onLost(listener: (lost: LeaseLost) => void): void {
    this.#tell = listener;
    if (this.#lost !== null) listener(this.#lost);
  }

  async release({ forget }: { readonly forget: boolean }): Promise<void> {
    if (this.#released) return;
    clearInterval(this.#timer);
    await this.#renewing?.catch(() => undefined);
    this.#released = true;
    try {
      await this.#write(true);
      if (forget) await this.#objects.delete([outputNames.lease]);
    } catch {
      // It is lost, or stays until somebody takes it over.
    }
  }

  async #write(released: boolean): Promise<void> {
    if (this.#lost !== null) throw this.#lost;
    const write = async (): Promise<void> => {
      this.#etag = await this.#objects.putText(outputNames.lease, textOf({ ...this.#me, renewed: new Date().toISOString(), released }), { etag: this.#etag });
    };
    try {
      await write();
    } catch (error) {
      if (!wasRaced(error)) throw error;
      await this.#findAgain();
      await write();
    }
  }

  /** A write whose answer was lost changed the object: then it is ours under another ETag. */
  async #findAgain(): Promise<void> {
    const found = await this.#objects.readRecord(outputNames.lease, leaseRecord);
    if (found !== null && found.value.nonce === this.#me.nonce) {
      this.#etag = found.etag;
      return;
    }
    const by = found === null ? "its lease was deleted" : `process ${found.value.pid} on ${found.value.host} has taken it over`;
    this.#lost = new LeaseLost(`the output ${this.#objects.url} is no longer this run's: ${by}`);
    clearInterval(this.#timer);
    this.#tell(this.#lost);
    throw this.#lost;
  }
}

function isFree(lease: LeaseRecord): boolean {
  const me = thisProcess();
  return lease.released || (lease.host === me.host && lease.boot === me.boot && me.boot !== null && hasEnded(lease));
}

/** Somebody else was faster, or has it by now. */
function wasRaced(error: unknown): boolean {
  return error instanceof S3Failure && (error.code === "S3_PRECONDITION" || error.code === "S3_NO_SUCH_KEY");
}

function inUse({ url }: OutputObjects, { pid, host, since, renewed }: LeaseRecord): SplitrunError {
  return new SplitrunError(
    `${url} is in use by process ${pid} on ${host} since ${since}, last heard of at ${renewed}; wait for it, or stop it; if it is gone for good, use --take-over`,
    { code: "OUTPUT_IN_USE", field: "output", value: { pid, host, since, renewed } },
  );
}

function textOf(lease: LeaseRecord): string {
  return `${JSON.stringify(lease, null, 2)}\n`;
}
