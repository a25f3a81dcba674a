// Runs a handler against Lambda's Runtime API, where Amazon's own client (aws-lambda-ric) is not installed.
// Usage: node runtime-loop.mjs FILE.EXPORT, with AWS_LAMBDA_RUNTIME_API, LAMBDA_TASK_ROOT and the rest set as in Lambda.
// The interface: Lambda guide, "Using the Lambda runtime API for custom runtimes".
import { existsSync } from "node:fs";
import { Agent, request } from "node:http";
import path from "node:path";
import { Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const base = "/2018-06-01/runtime";
const agent = new Agent({ keepAlive: true });
const streaming = Symbol("streaming");
let requestId;

globalThis.awslambda = {
  streamifyResponse: (handler) => Object.assign(handler, { [streaming]: true }),
  HttpResponseStream: { from: httpResponse },
};
for (const [level, method] of [["TRACE", "trace"], ["DEBUG", "debug"], ["INFO", "log"], ["INFO", "info"], ["WARN", "warn"], ["ERROR", "error"]]) {
  console[method] = (...words) => print(level, format(...words));
}
process.on("uncaughtException", (error) => void crash("Runtime.UncaughtException", error));
process.on("unhandledRejection", (reason) => void crash("Runtime.UnhandledPromiseRejection", reason));

const handler = await loadHandler(process.argv[2]).catch(async (error) => {
  const body = errorBody(error, typeOfLoadError(error));
  print("ERROR", `Uncaught Exception\t${body}`);
  await post("/init/error", body);
  process.exit(1);
});
for (;;) await invokeOnce();

async function invokeOnce() {
  const { headers, body } = await send("GET", "/invocation/next");
  requestId = headers["lambda-runtime-aws-request-id"];
  if (headers["lambda-runtime-trace-id"] !== undefined) process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
  const event = body.length === 0 ? undefined : JSON.parse(body.toString("utf8"));
  if (handler[streaming] === true) return respondInStream(event, contextOf(headers));
  let answer;
  try {
    answer = JSON.stringify((await handler(event, contextOf(headers))) ?? null);
  } catch (error) {
    return reportError(error);
  }
  await post(`/invocation/${requestId}/response`, answer);
}

/** The response begins with its first byte; what goes wrong before it is an error like any other, after it a trailer. */
async function respondInStream(event, context) {
  let response = null;
  let answered = null;
  const open = () => {
    if (response !== null) return;
    response = request({
      host, port, agent, method: "POST", path: `${base}/invocation/${requestId}/response`,
      headers: {
        "lambda-runtime-function-response-mode": "streaming", "transfer-encoding": "chunked", "content-type": out.contentType,
        trailer: "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
      },
    });
    answered = new Promise((resolve, reject) => {
      response.on("response", (message) => message.resume().on("end", resolve)).on("error", reject);
    });
  };
  const out = new Writable({
    write(chunk, _encoding, done) {
      open();
      if (response.write(chunk)) done();
      else response.once("drain", done);
    },
    final(done) {
      open();
      done();
    },
  });
  out.contentType = "application/octet-stream";
  out.setContentType = (type) => { out.contentType = type; };
  const finished = new Promise((resolve, reject) => { out.on("finish", resolve).on("error", reject); });
  finished.catch(() => {});
  try {
    await handler(event, out, context);
    await finished;
  } catch (error) {
    if (response === null) return reportError(error);
    const body = errorBody(error);
    print("ERROR", `Invoke Error\t${body}`);
    response.addTrailers({
      "Lambda-Runtime-Function-Error-Type": JSON.parse(body).errorType,
      "Lambda-Runtime-Function-Error-Body": Buffer.from(body).toString("base64"),
    });
  }
  response.end();
  await answered;
}

async function reportError(error) {
  const body = errorBody(error);
  print("ERROR", `Invoke Error\t${body}`);
  await post(`/invocation/${requestId}/error`, body, JSON.parse(body).errorType);
}

/** `file.export` below LAMBDA_TASK_ROOT, as ECMAScript or CommonJS. */
async function loadHandler(name) {
  const at = name.lastIndexOf(".");
  const [file, exported] = [path.resolve(process.env.LAMBDA_TASK_ROOT, name.slice(0, at)), name.slice(at + 1)];
  const found = [".js", ".mjs", ".cjs"].map((extension) => `${file}${extension}`).find(existsSync);
  if (found === undefined) throw loadError("Runtime.ImportModuleError", `Error: Cannot find module '${path.basename(file)}'`);
  const module = await import(pathToFileURL(found).href);
  const chosen = module[exported] ?? module.default?.[exported];
  if (chosen === undefined) throw loadError("Runtime.HandlerNotFound", `${name} is undefined or not exported`);
  if (typeof chosen !== "function") throw loadError("Runtime.HandlerNotFound", `${name} is not a function`);
  return chosen;
}

function loadError(name, message) {
  return Object.assign(new Error(message), { name });
}

function typeOfLoadError(error) {
  if (error?.code === "MODULE_NOT_FOUND") return "Runtime.ImportModuleError";
  return error instanceof SyntaxError ? "Runtime.UserCodeSyntaxError" : undefined;
}

function contextOf(headers) {
  const deadlineMs = Number(headers["lambda-runtime-deadline-ms"]);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    getRemainingTimeInMillis: () => deadlineMs - Date.now(),
  };
}

/** Head of an HTTP answer as JSON, eight zero bytes, then its body. */
function httpResponse(stream, head) {
  stream.setContentType("application/vnd.awslambda.http-integration-response");
  stream.write(Buffer.concat([Buffer.from(JSON.stringify(head)), Buffer.alloc(8)]));
  return stream;
}

async function crash(type, reason) {
  const error = reason instanceof Error ? reason : new Error(String(reason));
  print("ERROR", `${type}\t${errorBody(error, type)}`);
  await post(requestId === undefined ? "/init/error" : `/invocation/${requestId}/error`, errorBody(error, type), type).catch(() => {});
  process.exit(128);
}

function errorBody(error, type) {
  if (!(error instanceof Error)) return JSON.stringify({ errorType: typeof error, errorMessage: String(error), trace: [] });
  return JSON.stringify({ errorType: type ?? error.name, errorMessage: error.message, trace: (error.stack ?? "").split("\n") });
}

function print(level, text) {
  // One event a call: lines of one message are parted by carriage returns, as Lambda's own client does.
  process.stdout.write(`${new Date().toISOString()}\t${requestId ?? "-"}\t${level}\t${text.replaceAll("\n", "\r")}\n`);
}

function post(where, body, type) {
  return send("POST", where, body, { "content-type": "application/json", ...(type === undefined ? {} : { "lambda-runtime-function-error-type": type }) });
}

function send(method, where, body = "", headers = {}) {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port, agent, method, path: `${base}${where}`, headers: method === "GET" ? headers : { ...headers, "content-length": Buffer.byteLength(body) } }, (message) => {
      const chunks = [];
      message.on("data", (chunk) => chunks.push(chunk)).on("error", reject)
        .on("end", () => resolve({ headers: message.headers, body: Buffer.concat(chunks) }));
    });
    outgoing.on("error", reject).end(method === "GET" ? undefined : body);
  });
}
