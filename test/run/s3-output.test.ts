import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CreateBucketCommand, S3Client as SdkClient } from "@aws-sdk/client-s3";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createRandom } from "../support/random.ts";
import { stopping } from "../support/cli.ts";
import { doublingBehindGate } from "../support/function-task.ts";
import { forgetConfiguration, setCredentials } from "../support/s3/client.ts";
import { OutputPlace, doubled, expectWhole, inOrder, linesOf, namesOf, objectsOf, partsOf, summaryOf, textOf, until, url, type Store } from "../support/s3/output.ts";
import { radosgwMissing, startRadosgw } from "../support/s3/radosgw.ts";
import { type S3Server, startS3Server } from "../support/s3/server.ts";

const quick = "export default (n) => ({ twice: n * 2 });";
const slow = "export default async (n) => { await new Promise((r) => setTimeout(r, 2)); return { twice: n * 2 }; };";

describe("a job with its output in S3", () => {
  let server: S3Server;
  beforeEach(async () => {
    forgetConfiguration();
    server = await startS3Server();
    server.createBucket("results");
    setCredentials(server.credentials);
  });
  afterEach(() => server.stop());

  test("leaves there what it leaves in a home, to be verified and exported", async () => {
    const place = await OutputPlace.make(server, { source: "export default (n) => { if (n % 97 === 5) throw new Error('no'); return { twice: n * 2 }; };", items: 534 });
    const end = await place.run(["attemptsMax=1"]);
    expect(end.code, end.stderr).toBe(1);
    expect(summaryOf(end)).toMatchObject({ output: url, counts: { items: 534, succeeded: 528, failed: 6 } });
    const objects = objectsOf(server);
    expect(await partsOf(objects)).toBe(inOrder(await place.journal()));
    expect(await textOf(objects, "_SUCCESS")).toBe("");
    const verified = await place.cli("verify", url, "--json");
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, items: 534, succeeded: 528, failed: 6 });
    const exported = path.join(place.folder, "all.jsonl");
    expect((await place.cli("export", url.slice(0, -1), "--to", exported)).code).toBe(0);
  });

  test("begins anew with --fresh: what was there is set aside and can be verified there", async () => {
    const place = await OutputPlace.make(server, { source: quick, items: 250 });
    expect((await place.run()).code).toBe(0);
    const refused = await place.run();
    expect([refused.code, refused.stdout]).toEqual([2, expect.stringContaining("--fresh") as string]);
    const end = await place.start([...place.runArgs(["output.partItems=50"]), "--fresh"]).ended;
    expect(end.code, end.stderr).toBe(0);
    expect(summaryOf(end).counts).toMatchObject({ items: 250, succeeded: 250, reused: 0 });
    const [, aside = ""] = /was set aside in (s3:\/\/[^ ]+\/)\./.exec(summaryOf(end).notes.join("\n")) ?? [];
    for (const each of [url, aside]) expect(JSON.parse((await place.cli("verify", each, "--json")).stdout), each).toMatchObject({ ok: true, items: 250 });
  });

  test("that S3 refuses starts nothing, and says what is lacking", async () => {
    const place = await OutputPlace.make(server, { source: quick, items: 10 });
    const [nowhere, wrongKey] = await Promise.all([
      place.start(place.runArgs().map((arg) => (arg === url ? "s3://nowhere/p" : arg))).ended,
      place.start(place.runArgs(), { AWS_SECRET_ACCESS_KEY: "wrong" }).ended,
    ]);
    for (const { code, stdout } of [nowhere, wrongKey]) expect([code, JSON.parse(stdout)]).toMatchObject([2, { error: { code: "OUTPUT_UNUSABLE", field: "output" } }]);
    expect(nowhere.stderr).toMatch(/no bucket nowhere/);
    expect(wrongKey.stderr).toMatch(/credentials in use are refused/);
    server.fault({ kind: "error", status: 403, code: "AccessDenied" }, { operation: "PutObject", times: Infinity });
    const denied = await place.run();
    expect(denied.code).toBe(2);
    expect(denied.stderr).toMatch(/s3:PutObject on arn:aws:s3:::results\/night\/run\//);
    expect(await place.journal()).toBe("");
    expect(server.keysOf("results")).toEqual([]);
  });

  test("that is refused for another reason leaves nothing there", async () => {
    const place = await OutputPlace.make(server, { source: "throw new Error('broken at load');", items: 10 });
    expect((await place.run()).code).toBe(2);
    expect(server.keysOf("results")).toEqual([]);
  });

  test("that S3 refuses in the middle can be resumed, once it is allowed again", async () => {
    const place = await OutputPlace.make(server, { source: slow, items: 600 });
    const denied = server.fault({ kind: "error", status: 403, code: "AccessDenied" }, { operation: "PutObject", times: Infinity, when: ({ key }) => key.includes("part-000000000200") });
    const end = await place.run();
    expect(end.code, end.stderr).toBe(3);
    const { reason, message, home, counts } = summaryOf(end);
    expect([reason, message]).toEqual(["output", expect.stringMatching(/s3:PutObject.*All results are in /s)]);
    denied.remove();
    const resumed = await place.cli("resume", home, "--json");
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(summaryOf(resumed).counts).toMatchObject({ items: 600, succeeded: 600, reused: counts.succeeded });
    await expectWhole(place, objectsOf(server), doubled(600));
  });

  test("has everything that ended there after Ctrl-C; whoever comes second to go on is refused", async () => {
    const gate = path.join((await OutputPlace.empty(server)).folder, "gate");
    const place = await OutputPlace.make(server, { source: doublingBehindGate(gate, 400), items: 600 });
    const started = place.start(listFromStdin(place.runArgs(["output.checkpointMs=3600000", "input.format=jsonl"])), {}, Array.from({ length: 600 }, (_, n) => `${n}\n`).join(""));
    await place.untilStored(150);
    started.child.kill("SIGINT");
    await started.untilSaid(stopping);
    await writeFile(gate, "");
    const end = await started.ended;
    expect(end.code, end.stderr).toBe(130);
    const { counts } = summaryOf(end);
    await rm(path.join(place.folder, ".splitrun"), { recursive: true });
    await rm(gate);
    const resumers = await Promise.all([1, 2].map(() => OutputPlace.empty(server)));
    const going = resumers.map((each) => each.cli("resume", url, "--json"));
    // Whoever goes on cannot come to its end before the other one has come to its own.
    await Promise.race(going);
    await writeFile(gate, "");
    const ends = await Promise.all(going);
    expect(ends.map(({ code }) => code).sort(), ends.map(({ stderr }) => stderr).join("\n")).toEqual([0, 2]);
    for (const each of ends) {
      if (each.code === 0) expect(summaryOf(each).counts).toMatchObject({ items: 600, succeeded: 600, reused: counts.succeeded });
      else expect(each.stderr).toMatch(/in use by process/);
    }
    await expectWhole(place, objectsOf(server), doubled(600));
  });

  test("has the function's module with it, as it was bundled: a machine that has neither it nor what it imports goes on", async () => {
    const place = await OutputPlace.make(server, { source: 'import { twice } from "./twice.mjs";\nexport default async (n) => { await new Promise((r) => setTimeout(r, 2)); return { twice: twice(n) }; };', items: 600 });
    await writeFile(path.join(place.folder, "twice.mjs"), "export const twice = (n) => n * 2;");
    const started = place.start(place.runArgs());
    await place.untilStored(150);
    started.child.kill("SIGINT");
    const { counts } = summaryOf(await started.ended);
    for (const name of [".splitrun", "task.mjs", "twice.mjs"]) await rm(path.join(place.folder, name), { recursive: true });
    const elsewhere = await OutputPlace.empty(server);
    const end = await elsewhere.cli("resume", url, "--json");
    expect(end.code, end.stderr).toBe(0);
    expect(summaryOf(end).counts).toMatchObject({ items: 600, succeeded: 600, reused: counts.succeeded });
    await expectWhole(place, objectsOf(server), doubled(600));
    // And from there to a third one, with what the second has left.
    const third = await (await OutputPlace.empty(server)).cli("resume", url, "--json");
    expect([third.code, summaryOf(third).counts.reused], third.stderr).toEqual([0, 600]);
  });

  test("with another module than it was begun with is refused", async () => {
    const place = await OutputPlace.make(server, { source: quick, items: 30 });
    expect((await place.run()).code).toBe(0);
    await rm(path.join(place.folder, ".splitrun"), { recursive: true });
    await writeFile(path.join(place.folder, "task.mjs"), "export default (n) => ({ twice: n * 3 });");
    const end = await (await OutputPlace.empty(server)).cli("resume", url, "--json");
    expect([end.code, JSON.parse(end.stdout)]).toMatchObject([2, { error: { code: "TASK_CHANGED" } }]);
  });

  test("is done whole, each item once, however often its orchestrator is killed and its disk lost", async () => {
    const seed = Number(process.env["SPLITRUN_SEED"] ?? Date.now() % 1_000_000);
    console.log(`seed ${seed}: again with SPLITRUN_SEED=${seed}`);
    const random = createRandom(seed);
    const objects = objectsOf(server);
    let place = await OutputPlace.make(server, { source: slow.replace("r, 2", "r, 6"), items: 1000 });
    const { folder } = place;
    let args = place.runArgs();
    for (let kills = 0; ; kills++) {
      const held = new Set(linesOf((await partsOf(objects)) + (await partsOf(objects, "_splitrun/tails/"))).map(({ index }) => index)).size;
      const started = place.start(args);
      if (kills < 4) {
        if (kills === 0) await until(async () => (await namesOf(objects, "parts/")).length > 0);
        await Promise.race([delay(random.between(300, 2500)), started.ended]);
        started.child.kill("SIGKILL");
      }
      const end = await started.ended;
      if (end.signal === "SIGKILL") {
        args = ["resume", url, "--json"];
        if (random.between(0, 3) === 0) continue;
        await rm(path.join(place.folder, ".splitrun"), { recursive: true, force: true });
        await rm(path.join(folder, "list.jsonl"), { force: true });
        place = await OutputPlace.empty(server);
        continue;
      }
      expect(end.code, end.stderr).toBe(0);
      expect(summaryOf(end).counts).toMatchObject({ items: 1000, succeeded: 1000, failed: 0 });
      expect(summaryOf(end).counts.reused).toBeGreaterThanOrEqual(held);
      break;
    }
    await expectWhole(place, objects, doubled(1000));
  });
});

const missing = radosgwMissing();
describe.skipIf(missing !== null)(`the same on Ceph radosgw${missing === null ? "" : ` (${missing})`}`, () => {
  test("parts, going on elsewhere and the receipt", async () => {
    forgetConfiguration();
    const gateway = await startRadosgw();
    try {
      const store: Store = gateway;
      setCredentials(gateway.credentials);
      const sdk = new SdkClient({ endpoint: gateway.endpoint, region: "us-east-1", forcePathStyle: true });
      await sdk.send(new CreateBucketCommand({ Bucket: "results" }));
      sdk.destroy();
      const place = await OutputPlace.make(store, { source: slow, items: 500 });
      const objects = objectsOf(store);
      const started = place.start(place.runArgs());
      await until(async () => (await namesOf(objects, "parts/")).length > 0);
      started.child.kill("SIGKILL");
      await started.ended;
      await rm(path.join(place.folder, ".splitrun"), { recursive: true });
      const end = await (await OutputPlace.empty(store)).cli("resume", url, "--json");
      expect(end.code, end.stderr).toBe(0);
      await expectWhole(place, objects, doubled(500));
    } finally {
      await gateway.stop();
    }
  });
});

function listFromStdin(args: readonly string[]): readonly string[] {
  return args.map((arg) => (arg === "list.jsonl" ? "-" : arg));
}
