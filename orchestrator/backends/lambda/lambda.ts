import { randomUUID } from "node:crypto";
import { createS3Client, type S3Client } from "../../../task-manager/s3-client.ts";
import type { LambdaSpec } from "../../jobs/types.ts";
import { LaunchError, type Backend, type LaunchedTaskManager, type StorageRequests } from "../types.ts";
import { billedReports } from "./billed.ts";
import { createArtifactSource, placeOf } from "./artifacts.ts";
import { lambdaClient, lambdaError, lambdaSdk } from "./client.ts";
import { forceColdStart } from "./cold-start.ts";
import { Gate } from "./gate.ts";
import { createInvoker } from "./invoke.ts";
import { LoopTurns } from "./loop-turns.ts";
import { stagingPlaces } from "./staging.ts";
import { findStepUp, stepUpNameOf } from "./step-up.ts";
import { startSlot, type Slot, type SlotParts } from "./slot.ts";
import { createUsageMeter } from "./usage-meter.ts";
import { keepWarm } from "./warm-keeper.ts";

const s3Retries = { attemptsMax: 4, pauseMs: 100, pauseMsMax: 5_000 } as const;
const s3SocketsMax = 16;
/** A few milliseconds. */
const turnWeightMax = 32;
/** To send an invocation off takes as long as to read so many pieces of answers. */
const beginWeight = 8;

export interface LambdaBackendOptions {
  readonly settings: LambdaSpec;
  readonly taskManagersMax: number;
}

/**
 * Task Managers as invocations of a function: what they are told goes out in requests, what they say comes back in the
 * responses. Nothing has to reach this machine.
 * @throws SplitrunError where credentials, region or a function to step up to are not found, or the function cannot be updated
 */
export async function lambdaBackend({ settings, taskManagersMax }: LambdaBackendOptions): Promise<Backend> {
  const sdk = await lambdaSdk();
  const client = await lambdaClient({ region: settings.region, maxInFlight: taskManagersMax });
  const region = await client.config.region().catch((error: unknown) => Promise.reject(lambdaError(error, "backend lambda")));
  const target = { functionName: settings.functionName, qualifier: settings.qualifier };
  if (settings.forceColdStart) {
    const manager = await lambdaClient({ region: settings.region, maxInFlight: 1, maxAttempts: 4 });
    await forceColdStart(sdk, manager, target)
      .catch((error: unknown) => Promise.reject(lambdaError(error, `backend.forceColdStart: ${settings.functionName} could not be updated`)))
      .finally(() => manager.destroy());
  }
  if (settings.memoryStepUpMb !== null) await findStepUp(sdk, client, settings);
  let s3: S3Client | undefined;
  const staging = () =>
    (s3 ??= createS3Client({
      region: null, profile: null, endpoint: null, forcePathStyle: null, checksums: null, requesterPays: false, encryption: null, storageClass: null,
      retries: s3Retries, socketsMax: s3SocketsMax, connectTimeoutMs: 5_000, idleTimeoutMs: 20_000,
    }));
  let spilled = 0;
  const turns = new LoopTurns(turnWeightMax);
  const invoker = createInvoker(sdk, client, turns, async ({ bucket, key, bytes }) => {
    spilled += 1;
    const content = await staging().get({ bucket, key }, { maxBytes: bytes });
    void staging().delete(bucket, [key]).catch(() => undefined);
    return content.bytes;
  });
  const told = { reads: 0, writes: 0 };
  /** Ours, and those by which functions fetched what was staged, and put what is too large for an answer. */
  function takeStorageRequests(): StorageRequests {
    const { reads, writes } = s3?.requests ?? { reads: 0, writes: 0 };
    const since = { reads: reads + meter.storageReads - told.reads, writes: writes + spilled - told.writes };
    told.reads += since.reads;
    told.writes += since.writes;
    return since;
  }
  const meter = createUsageMeter({ region, splitMs: settings.splitSeconds * 1000, now: () => Date.now() });
  const gate = new Gate({ max: taskManagersMax, turn: () => turns.takeToBegin(beginWeight), now: () => performance.now(), random: Math.random });
  const places = settings.stagingBucket === null ? null : stagingPlaces(placeOf(settings.stagingBucket), settings.functionName);
  const parts: SlotParts = {
    settings,
    invoker,
    gate,
    meter,
    artifacts: createArtifactSource(places, staging),
    crowdedBy() {
      const excess = slots.size - gate.max;
      return excess > 0 ? { count: excess, error: crowded() } : null;
    },
    spillPlace: () => places?.response(`${randomUUID()}.ndjson`) ?? null,
    streams: true,
  };
  const slots = new Map<LaunchedTaskManager, Slot>();
  const pull = settings.pull === null ? null : await (await import("./pull.ts")).openPull(settings.pull, parts, process.env);
  const crowded = () => new LaunchError(`Lambda takes ${gate.max} invocations at once now, and there are ${slots.size} Task Managers`, { reason: "throttled", crowded: true });
  const stopKeepingWarm = settings.keepWarm === null ? null : keepWarm({ target, invoker, meter, ...settings.keepWarm, busy: () => gate.inFlight });

  return {
    name: "lambda",
    supports: pull === null ? { prefetch: false, reclaim: false, cancel: false } : { prefetch: true, reclaim: true, cancel: true },
    meter: { ...meter, takeStorageRequests, reports: (asked) => billedReports({ region: settings.region, logGroups: logGroupsOf(settings) }, asked) },
    taskManagersMax,

    async launch(spec) {
      // One more would only wait for those that are there.
      if (slots.size >= gate.max) throw crowded();
      const slot = pull === null ? startSlot(spec, parts) : pull.startSlot(spec);
      slots.set(slot, slot);
      void slot.exited.then(() => slots.delete(slot));
      return slot;
    },

    async stop(launched) {
      slots.get(launched)?.abandon();
      await launched.exited;
    },

    async close() {
      for (const slot of [...slots.values()]) slot.abandon();
      stopKeepingWarm?.();
      await pull?.close();
      client.destroy();
      s3?.close();
    },
  };
}

/** Where Lambda writes, unless the function was told otherwise. */
function logGroupsOf({ functionName, memoryStepUpMb }: LambdaSpec): readonly string[] {
  const name = functionName.split(":").at(-1) ?? functionName;
  return [name, ...(memoryStepUpMb === null ? [] : [stepUpNameOf(name)])].map((each) => `/aws/lambda/${each}`);
}
