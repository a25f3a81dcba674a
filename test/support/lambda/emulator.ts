/**
 * Lambda, with as much of IAM and CloudWatch Logs as its functions need, on loopback. The unmodified SDK deploys to it
 * and invokes; functions run as real processes, one environment each, through Amazon's own runtime client where it is
 * installed (`scripts/lambda-ric.mjs`). What goes wrong on the real one goes wrong here on order (`faults`).
 *
 * What it leaves out: a processor's share by memory, the size of /tmp (which is a directory of its own, named by TMPDIR),
 * a read-only /var/task, connections that die while an environment is frozen, VPCs, layers, asynchronous invocations, what
 * images have beside their code, provisioned concurrency, and the permissions of callers (but for those denied on order) and of roles, save
 * those for logs.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp } from "node:fs/promises";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { AccessKey } from "../s3/signature.ts";
import { Capacity } from "./capacity.ts";
import type { Environment, Outcome } from "./environment.ts";
import { ServiceError, errors } from "./errors.ts";
import { Faults } from "./faults.ts";
import type { ActiveFault } from "../fault-orders.ts";
import type { Fault } from "./faults.ts";
import { Functions, qualifierOf } from "./functions.ts";
import type { Target } from "./functions.ts";
import { Iam, iamError } from "./iam.ts";
import { Management, codeRequestBytesMax, lambdaError } from "./lambda-api.ts";
import type { CodeStore } from "./lambda-api.ts";
import { Logs, logsError } from "./logs.ts";
import { Packages } from "./package.ts";
import { Pool } from "./pool.ts";
import { Watchdog } from "./processes.ts";
import { decoded, header, parseQuery } from "./request.ts";
import type { ServiceAnswer, ServiceRequest } from "./request.ts";
import { bufferedResponse, streamedResponse, unheard } from "./response.ts";
import type { Head, Responder } from "./response.ts";
import { runtimeProgram } from "./runtimes.ts";
import type { RuntimeClient } from "./runtimes.ts";
import { SignatureRefused, scopeOf, verifySignature } from "./signature.ts";
import type { Refusal } from "./signature.ts";

export type { ActiveFault } from "../fault-orders.ts";
export type { Fault } from "./faults.ts";
export { ricInstalled } from "./runtimes.ts";

export interface LambdaEmulatorOptions {
  /** @default 0: a free one */
  readonly port?: number;
  /** @default "123456789012" */
  readonly accountId?: string;
  /** @default "us-east-1" */
  readonly region?: string;
  /** Invocations at once in the account. @default 1000 */
  readonly concurrency?: number;
  /** Environments that a function may add within a time. @default 1000 in 10 s */
  readonly scaling?: { readonly environments: number; readonly perMs: number };
  /** How long a new function is Pending. @default 50 */
  readonly creatingMs?: number;
  /** How long an update is InProgress; the old code serves until then. @default 50 */
  readonly updatingMs?: number;
  /** How long a new role cannot be taken on; really 10 to 30 s. @default 200 */
  readonly rolePropagationMs?: number;
  /** How long a second of a function's time-out lasts. @default 1000 */
  readonly secondMs?: number;
  /**
   * So much later than it is told is an invocation ended that runs into its time-out: of one that ends in time by
   * itself a test may hold that it is not ended, however busy the machine. @default 0
   */
  readonly lateMs?: number;
  /** @default 10 000 */
  readonly initTimeoutMs?: number;
  /** @default 300 000 */
  readonly idleMsMax?: number;
  /** @default none */
  readonly lifeMsMax?: number;
  /** @default 50 */
  readonly memoryPollMs?: number;
  /** Where code comes from that is not in the request. @default nowhere */
  readonly s3?: CodeStore | null;
  /** What every function sees in its environment beside its own, such as AWS_ENDPOINT_URL_S3. */
  readonly variables?: Readonly<Record<string, string>>;
  /** What functions find as their credentials: those of an S3 server that knows no others. @default new ones with a session token */
  readonly roleCredentials?: AccessKey;
  /** @default aws-lambda-ric if it is installed, else our own loop */
  readonly client?: RuntimeClient | "auto";
  /** The file of our own loop. @default the one beside this file */
  readonly loop?: string;
}

/** An invocation that ended. */
export interface InvocationRecord extends Outcome {
  readonly functionName: string;
  readonly version: string;
  readonly environmentId: string;
  /** It began with a new environment, whether or not init went well. */
  readonly cold: boolean;
  readonly streamed: boolean;
}

export interface LambdaEmulator {
  /** `http://127.0.0.1:PORT`, of all services. */
  readonly endpoint: string;
  readonly region: string;
  readonly accountId: string;
  /** A key that the emulator knows; more can be made known. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly keys: Map<string, AccessKey>;
  /** What functions find in their environment: S3 servers of the tests have to know it, too. */
  readonly roleCredentials: AccessKey;
  readonly faults: { push(fault: Fault): ActiveFault };
  /** What registries hold, by URI: the zip of an image's code, which runs as `lambda.handler`. */
  readonly images: Map<string, Buffer>;
  /** Actions that no caller may do: `iam:CreateRole`. */
  readonly denied: Set<string>;
  /** Actions that were asked for. */
  readonly actions: ReadonlySet<string>;
  /** The last 10 000, in the order in which they ended. */
  readonly invocations: readonly InvocationRecord[];
  readonly environments: readonly Pick<Environment, "id" | "pid" | "state" | "deployment" | "logStream">[];
  readonly functionNames: readonly string[];
  readonly roleNames: readonly string[];
  readonly logGroupNames: readonly string[];
  /** All messages of a log group in order of time. */
  logMessages(group: string): readonly string[];
  /** A role that functions can have at once, with leave to write logs. Gives its ARN. */
  createRole(name: string): string;
  /** Which Node and which client run functions of this runtime. */
  describeRuntime(runtime: string): string;
  /** Functions stay Pending, updates InProgress and roles unknown until what it returns is called. */
  stopClock(): () => void;
  /** Ends environments that are idle, as if nobody had called for long. */
  reclaim(): void;
  stop(): Promise<void>;
}

const recordsMax = 10_000;
/** Lambda guide, quotas: a synchronous payload; request line and headers. */
const payloadBytesMax = 6_291_456;
const headerBytesMax = 2 ** 20;
const clientContextBytesMax = 3583;
const trustLambda = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" }] });
const writeLogs = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], Resource: "*" }] });

export async function startLambdaEmulator(options: LambdaEmulatorOptions = {}): Promise<LambdaEmulator> {
  const { accountId = "123456789012", region = "us-east-1", concurrency = 1000, client = "auto" } = options;
  const loop = options.loop ?? path.join(import.meta.dirname, "runtime-loop.mjs");
  const directory = await mkdtemp(path.join(tmpdir(), "splitrun-lambda-"));
  await mkdir(path.join(directory, "code"));
  const watchdog = new Watchdog(directory);
  const credentials = newKey("AKIA");
  const roleCredentials: AccessKey = options.roleCredentials ?? { ...newKey("ASIA"), sessionToken: randomBytes(60).toString("base64") };
  const keys = new Map<string, AccessKey>([[credentials.accessKeyId, credentials], [roleCredentials.accessKeyId, roleCredentials]]);

  const iam = new Iam(accountId);
  const logs = new Logs(region, accountId);
  const pool = new Pool({
    directory, iam, logs, watchdog, client, loop,
    variables: {
      ...options.variables,
      AWS_REGION: region, AWS_DEFAULT_REGION: region, AWS_ACCESS_KEY_ID: roleCredentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: roleCredentials.secretAccessKey,
      ...(roleCredentials.sessionToken === undefined ? {} : { AWS_SESSION_TOKEN: roleCredentials.sessionToken }),
    },
    secondMs: options.secondMs ?? 1000, lateMs: options.lateMs ?? 0, initTimeoutMs: options.initTimeoutMs ?? 10_000, memoryPollMs: options.memoryPollMs ?? 50,
    idleMsMax: options.idleMsMax ?? 300_000, lifeMsMax: options.lifeMsMax ?? Infinity,
  });
  const images = new Map<string, Buffer>();
  const functions = new Functions({
    region, accountId, concurrency, creatingMs: options.creatingMs ?? 50, updatingMs: options.updatingMs ?? 50,
    retire: (deploymentId) => pool.retire(deploymentId),
  });
  const management = new Management({
    functions, packages: new Packages(path.join(directory, "code")), iam, region, images,
    rolePropagationMs: options.rolePropagationMs ?? 200, s3: options.s3 ?? null,
  });
  const capacity = new Capacity({
    concurrency, scaling: options.scaling ?? { environments: 1000, perMs: 10_000 },
    unreserved: () => functions.unreserved, reserved: (name) => functions.reserved(name),
  });
  const faults = new Faults();
  const denied = new Set<string>();
  const actions = new Set<string>();
  const invocations: InvocationRecord[] = [];
  const running = new Set<Promise<unknown>>();
  let stopping = false;
  let stoppedAtMs: number | null = null;
  const now = (): number => stoppedAtMs ?? Date.now();

  const server = createServer({ maxHeaderSize: headerBytesMax, keepAliveTimeout: 60_000, requestTimeout: 0 }, (message, response) => void answer(message, response));
  server.listen(options.port ?? 0, "127.0.0.1");
  await once(server, "listening");
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const service = scopeOf(message)?.service ?? "lambda";
    try {
      const request = await receive(message);
      if (request === null) return;
      verifySignature(request, keys, Date.now());
      refuseDenied(service, request);
      const sent = await dispatch(service, request, response);
      if (sent !== null) deliver(response, sent);
    } catch (error) {
      deliver(response, errorAnswer(service, error));
    }
  }

  function refuseDenied(service: string, request: ServiceRequest): void {
    const action = actionOf(service, request, management);
    actions.add(action);
    if (denied.has(action)) throw errors.denied(accountId, action);
  }

  /** null: it is answered already. */
  async function dispatch(service: string, request: ServiceRequest, response: ServerResponse): Promise<ServiceAnswer | null> {
    if (service === "iam") return iam.answer(request, now());
    if (service === "logs") return logs.answer(request, Date.now());
    if (service !== "lambda") throw errors.notEmulated(`the service ${service}`);
    const invoke = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/.exec(request.path);
    if (invoke !== null) return invokeFunction(decoded(invoke[1] ?? ""), request, response, bufferedResponse);
    const stream = /^\/2021-11-15\/functions\/([^/]+)\/response-streaming-invocations$/.exec(request.path);
    if (stream !== null) return invokeFunction(decoded(stream[1] ?? ""), request, response, streamedResponse);
    return management.answer(request, now());
  }

  async function invokeFunction(name: string, request: ServiceRequest, response: ServerResponse, responder: typeof bufferedResponse): Promise<ServiceAnswer | null> {
    const target = functions.target(name, request.query.get("Qualifier") ?? qualifierOf(name), now());
    const { functionName, version } = target.deployment;
    refuseInvocation(request, target);
    if (header(request, "x-amz-invocation-type") === "DryRun") return { status: 204, headers: {}, body: "" };
    const payload = request.body.length === 0 ? Buffer.from("{}") : request.body;
    const fault = faults.take(functionName, payload);
    if (fault?.kind === "throttle") throw errors.throttled(fault.reason ?? "ConcurrentInvocationLimitExceeded");
    if (fault?.kind === "refuse") throw new ServiceError(fault.status, fault.code, fault.message ?? "on order");

    const head: Head = { requestId: randomUUID(), version };
    const streamed = responder === streamedResponse;
    const first = run(target, payload, head, fault, streamed, responder(response, head, fault), header(request, "x-amz-log-type") === "Tail");
    if (fault?.kind === "deliver-twice") {
      await Promise.all([first, run(target, payload, { ...head, requestId: randomUUID() }, null, streamed, unheard, false).catch(() => {})]);
    } else {
      await first;
    }
    return null;
  }

  /** @throws ServiceError when there is no room */
  async function run(target: Target, payload: Buffer, head: Head, fault: Fault | null, streamed: boolean, responder: Responder, tail: boolean): Promise<void> {
    const { deployment } = target;
    const { functionName, version } = deployment;
    capacity.enter(functionName, Date.now());
    const work = (async () => {
      const warm = fault?.kind === "cold-start" ? null : pool.take(deployment);
      if (warm === null) capacity.addEnvironment(functionName, Date.now());
      const environment = warm ?? await pool.create(deployment);
      const outcome = await environment.run({ requestId: head.requestId, payload, invokedArn: target.arn, sink: responder, fault });
      if (!stopping) pool.give(environment);
      invocations.push({ ...outcome, functionName, version, environmentId: environment.id, cold: warm === null, streamed });
      if (invocations.length > recordsMax) invocations.shift();
      responder.finish(outcome, tail ? Buffer.from(outcome.logTail).toString("base64") : null);
    })().finally(() => {
      capacity.leave(functionName);
      running.delete(work);
    });
    running.add(work);
    await work;
  }

  return {
    endpoint, region, accountId, credentials, keys, roleCredentials, invocations, denied, actions, images,
    faults: { push: (fault) => faults.push(fault) },
    get environments() { return pool.environments; },
    get functionNames() { return functions.names; },
    get roleNames() { return iam.roleNames; },
    get logGroupNames() { return logs.groupNames; },
    logMessages: (group) => logs.messages(group),
    createRole: (name) => {
      const role = iam.createRole(name, { trust: trustLambda, path: "/", nowMs: 0 });
      role.policies.set("logs", writeLogs);
      return role.arn;
    },
    describeRuntime: (runtime) => runtimeProgram(runtime, client, loop).description,
    stopClock: () => {
      stoppedAtMs = Date.now();
      return () => { stoppedAtMs = null; };
    },
    reclaim: () => pool.reclaim(null),
    async stop() {
      stopping = true;
      server.close();
      server.closeAllConnections();
      await pool.stop();
      await Promise.allSettled(running);
      await watchdog.close();
    },
  };
}

/** As policies name it. */
function actionOf(service: string, request: ServiceRequest, management: Management): string {
  if (service === "iam") return `iam:${/(?:^|&)Action=(\w+)/.exec(request.body.toString("utf8"))?.[1] ?? ""}`;
  if (service === "logs") return `logs:${(header(request, "x-amz-target") ?? "").replace("Logs_20140328.", "")}`;
  return `lambda:${management.actionOf(request) ?? "InvokeFunction"}`;
}

/** null: the client left before it had said all. */
async function receive(message: IncomingMessage): Promise<ServiceRequest | null> {
  const [requestPath = "/", search = ""] = (message.url ?? "/").split("?");
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of message as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      // Read to its end, so that the client hears of it.
      if (bytes <= codeRequestBytesMax) chunks.push(chunk);
    }
  } catch {
    return null;
  }
  if (bytes > codeRequestBytesMax) throw errors.tooLarge(codeRequestBytesMax, requestPath.endsWith("/code") ? "UpdateFunctionCode" : "CreateFunction");
  return { method: message.method ?? "GET", path: requestPath, query: parseQuery(search), headers: message.headers, body: Buffer.concat(chunks) };
}

function refuseInvocation(request: ServiceRequest, { architecture, deployment }: Target): void {
  const type = header(request, "x-amz-invocation-type") ?? "RequestResponse";
  if (type === "Event") throw errors.notEmulated("asynchronous invocations");
  if (request.body.length > payloadBytesMax) throw errors.tooLarge(payloadBytesMax, "InvokeFunction");
  if ((header(request, "x-amz-client-context") ?? "").length > clientContextBytesMax) {
    throw new ServiceError(400, "InvalidRequestContentException", `Client context must be no more than ${clientContextBytesMax} bytes when base64-encoded.`);
  }
  try {
    JSON.parse(request.body.length === 0 ? "{}" : request.body.toString("utf8"));
  } catch (error) {
    throw new ServiceError(400, "InvalidRequestContentException", `Could not parse request body into json: ${(error as Error).message}`);
  }
  const here = process.arch === "arm64" ? "arm64" : "x86_64";
  if (architecture !== here) throw errors.notEmulated(`${architecture} on this machine: ${deployment.functionName} can be deployed but not invoked`);
}

function deliver(response: ServerResponse, { status, headers, body }: ServiceAnswer): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, { "x-amzn-requestid": randomUUID(), ...headers }).end(body);
}

/** Each service says it in its own form. */
function errorAnswer(service: string, error: unknown): ServiceAnswer {
  if (error instanceof SignatureRefused) return inFormOf(service, new ServiceError(service === "logs" ? 400 : 403, refusalCode(service, error.refusal), error.message));
  if (error instanceof ServiceError) return inFormOf(service, error);
  return inFormOf(service, new ServiceError(500, "ServiceException", error instanceof Error ? error.message : String(error)));
}

function inFormOf(service: string, error: ServiceError): ServiceAnswer {
  return service === "iam" ? iamError(error) : service === "logs" ? logsError(error) : lambdaError(error);
}

function refusalCode(service: string, refusal: Refusal): string {
  const query = service === "iam";
  switch (refusal) {
    case "missing": return query ? "MissingAuthenticationToken" : "MissingAuthenticationTokenException";
    case "incomplete": return query ? "IncompleteSignature" : "IncompleteSignatureException";
    case "unknown-key":
    case "wrong-token": return query ? "InvalidClientTokenId" : "UnrecognizedClientException";
    case "expired-token": return query ? "ExpiredToken" : "ExpiredTokenException";
    case "wrong-time":
    case "wrong-signature": return query ? "SignatureDoesNotMatch" : "InvalidSignatureException";
  }
}

function newKey(prefix: string): { readonly accessKeyId: string; readonly secretAccessKey: string } {
  return { accessKeyId: `${prefix}${randomBytes(8).toString("hex").toUpperCase()}`, secretAccessKey: randomBytes(30).toString("base64") };
}
