import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import type * as Sdk from "@aws-sdk/client-lambda";
import type { LambdaSdk } from "./client.ts";
import { amzDate, RequestTemplate, type HttpRequest } from "./request-template.ts";

type HttpResponse = Awaited<ReturnType<Sdk.LambdaClient["config"]["requestHandler"]["handle"]>>["response"];

/** Some functions; each has a template. */
const templatesMax = 16;
const tooManyRequests = 429;

export interface StreamRequest {
  readonly functionName: string;
  readonly qualifier: string;
  readonly payload: Buffer;
  readonly signal: AbortSignal;
}

export interface ResponseStream {
  readonly requestId: string | null;
  /** An event stream, as it comes. */
  readonly body: Readable;
}

/** What is to become of a command that the SDK takes through its layers. */
interface Passage {
  readonly templateName: string;
  /** It was answered already, and the SDK is to say what the answer means. */
  readonly answer: HttpResponse | null;
  body: Readable | null;
}

/**
 * Invokes functions that answer in a stream. The SDK makes and signs the first request to a function, with all that it
 * knows of endpoints and credentials; those after it follow its pattern, straight to the SDK's HTTP handler, as long as
 * they are answered well and the credentials are the same. Whatever is refused goes through the SDK, which makes the
 * error of it. With its layers for each, they and its reader took a third of what a run takes of a processor.
 */
export class ResponseStreams {
  readonly #sdk: LambdaSdk;
  readonly #client: Sdk.LambdaClient;
  readonly #templates = new Map<string, RequestTemplate>();
  readonly #passages = new WeakMap<object, Passage>();
  /** Of this second. */
  #date = { second: 0, text: "" };

  constructor(sdk: LambdaSdk, client: Sdk.LambdaClient) {
    this.#sdk = sdk;
    this.#client = client;
    // The last of its layers: the request is signed, the answer not yet read.
    client.middlewareStack.add(
      (next) => async (args) => {
        const passage = this.#passages.get(args.input);
        if (passage === undefined) return next(args);
        if (passage.answer === null) await this.#learn(passage.templateName, args.request as HttpRequest);
        const response = passage.answer ?? ((await next(args)).response as HttpResponse);
        if (response.statusCode >= 300) return { response };
        // Until it is read; whoever reads it looks whether it is broken.
        passage.body = (response.body as Readable).on("error", () => undefined);
        return { response: withoutBody(response) };
      },
      { step: "deserialize", priority: "low", name: "splitrunResponseStreams" },
    );
  }

  /** @throws what the SDK throws */
  async open(request: StreamRequest): Promise<ResponseStream> {
    const templateName = `${request.functionName}:${request.qualifier}`;
    const template = await this.#templateFor(templateName);
    if (template === null) return this.#throughSdk(request, { templateName, answer: null, body: null });
    const { requestHandler, systemClockOffset } = this.#client.config;
    const signed = template.fill({ body: request.payload, date: this.#dateAt(Date.now() + systemClockOffset), id: randomUUID() });
    const { response } = await requestHandler.handle(signed, { abortSignal: request.signal });
    if (response.statusCode < 300) return { requestId: response.headers["x-amzn-requestid"] ?? null, body: response.body as Readable };
    // Credentials or clock may have changed: the SDK is asked again. Whoever sends too much is known.
    if (response.statusCode !== tooManyRequests) this.#templates.delete(templateName);
    return this.#throughSdk(request, { templateName, answer: response, body: null });
  }

  async #throughSdk({ signal, ...invoked }: StreamRequest, passage: Passage): Promise<ResponseStream> {
    const input: Sdk.InvokeWithResponseStreamCommandInput = inputOf(invoked);
    this.#passages.set(input, passage);
    const { $metadata } = await this.#client.send(new this.#sdk.InvokeWithResponseStreamCommand(input), { abortSignal: signal });
    return { requestId: $metadata.requestId ?? null, body: passage.body ?? Readable.from([]) };
  }

  async #templateFor(name: string): Promise<RequestTemplate | null> {
    const template = this.#templates.get(name);
    return template?.isFor(await this.#client.config.credentials()) === true ? template : null;
  }

  #dateAt(ms: number): string {
    const second = Math.floor(ms / 1000);
    if (this.#date.second !== second) this.#date = { second, text: amzDate(ms) };
    return this.#date.text;
  }

  async #learn(name: string, request: HttpRequest): Promise<void> {
    const template = RequestTemplate.of(request, await this.#client.config.credentials());
    if (template === null) return;
    if (this.#templates.size >= templatesMax) this.#templates.clear();
    this.#templates.set(name, template);
  }
}

/** As the SDK's commands take it, streamed or not. */
export function inputOf({ functionName, qualifier, payload }: Pick<StreamRequest, "functionName" | "qualifier" | "payload">) {
  return { FunctionName: functionName, Qualifier: qualifier, InvocationType: "RequestResponse", LogType: "Tail", Payload: payload } as const;
}

/** The SDK finds nothing to read, and leaves the body to whoever has it. */
function withoutBody(response: HttpResponse): HttpResponse {
  return Object.assign(Object.create(Object.getPrototypeOf(response) as object) as HttpResponse, response, { body: Readable.from([]) });
}
