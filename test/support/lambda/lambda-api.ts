import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { ServiceError, errors } from "./errors.ts";
import {
  aliasInput, concurrencyInput, createInput, parsed, publishInput, qualifierOf, tagsInput, updateCodeInput, updateConfigurationInput,
} from "./functions.ts";
import type { Code, Functions } from "./functions.ts";
import { trustsLambda } from "./iam.ts";
import type { Iam } from "./iam.ts";
import type { Package, Packages } from "./package.ts";
import { decoded, json, jsonBody, noContent } from "./request.ts";
import type { ServiceAnswer, ServiceRequest } from "./request.ts";

export interface CodeStore {
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

export interface ManagementOptions {
  readonly functions: Functions;
  readonly packages: Packages;
  readonly iam: Iam;
  readonly region: string;
  /** A role is not known to Lambda for so long after it was made. */
  readonly rolePropagationMs: number;
  /** What registries hold, by URI: the zip of an image's /var/task. */
  readonly images: ReadonlyMap<string, Buffer>;
  /** null: code comes in the request only. */
  readonly s3: CodeStore | null;
}

/** 50 MiB in base64 (public reports quote it). */
export const codeRequestBytesMax = 69_905_067;
const zipBytesMaxDirect = 52_428_800;

type Handler = (request: ServiceRequest, name: string, more: string, nowMs: number) => ServiceAnswer | Promise<ServiceAnswer>;

interface Route {
  /** As policies name it, behind `lambda:`. */
  readonly action: string;
  readonly method: string;
  readonly path: RegExp;
  readonly handle: Handler;
}

/** Functions, versions, aliases, concurrency, tags: the paths and shapes of Lambda's REST API. */
export class Management {
  readonly #options: ManagementOptions;
  readonly #routes: readonly Route[];

  constructor(options: ManagementOptions) {
    this.#options = options;
    const { functions } = options;
    const of = (path: string): RegExp => new RegExp(`^/\\d{4}-\\d\\d-\\d\\d${path.replace("NAME", "([^/]+)").replace("MORE", "([^/]+)")}/?$`);
    const route = (action: string, method: string, path: string, handle: Handler): Route => ({ action, method, path: of(path), handle });
    this.#routes = [
      route("CreateFunction", "POST", "/functions", (request, _name, _more, nowMs) => this.#create(request, nowMs)),
      route("ListFunctions", "GET", "/functions", (_request, _name, _more, nowMs) => json(200, functions.all(nowMs))),
      route("GetFunction", "GET", "/functions/NAME", (request, name, _more, nowMs) => json(200, functions.get(name, qualifier(request, name), nowMs))),
      route("GetFunctionConfiguration", "GET", "/functions/NAME/configuration", (request, name, _more, nowMs) => json(200, functions.configuration(name, qualifier(request, name), nowMs))),
      route("UpdateFunctionConfiguration", "PUT", "/functions/NAME/configuration", (request, name, _more, nowMs) => this.#updateConfiguration(request, name, nowMs)),
      route("UpdateFunctionCode", "PUT", "/functions/NAME/code", (request, name, _more, nowMs) => this.#updateCode(request, name, nowMs)),
      route("DeleteFunction", "DELETE", "/functions/NAME", (request, name) => {
        functions.delete(name, qualifier(request, name));
        return noContent;
      }),
      route("PublishVersion", "POST", "/functions/NAME/versions", (request, name, _more, nowMs) => json(201, functions.publish(name, parsed(publishInput, jsonBody(request)), nowMs))),
      route("ListVersionsByFunction", "GET", "/functions/NAME/versions", (_request, name, _more, nowMs) => json(200, functions.versions(name, nowMs))),
      route("CreateAlias", "POST", "/functions/NAME/aliases", (request, name) => json(201, functions.createAlias(name, parsed(aliasInput, jsonBody(request))))),
      route("ListAliases", "GET", "/functions/NAME/aliases", (_request, name) => json(200, functions.aliases(name))),
      route("GetAlias", "GET", "/functions/NAME/aliases/MORE", (_request, name, alias) => json(200, functions.alias(name, alias))),
      route("UpdateAlias", "PUT", "/functions/NAME/aliases/MORE", (request, name, alias) => json(200, functions.updateAlias(name, alias, parsed(aliasInput, jsonBody(request))))),
      route("DeleteAlias", "DELETE", "/functions/NAME/aliases/MORE", (_request, name, alias) => {
        functions.deleteAlias(name, alias);
        return noContent;
      }),
      route("PutFunctionConcurrency", "PUT", "/functions/NAME/concurrency", (request, name) => {
        const { ReservedConcurrentExecutions: executions } = parsed(concurrencyInput, jsonBody(request));
        return json(200, functions.reserve(name, executions));
      }),
      route("GetFunctionConcurrency", "GET", "/functions/NAME/concurrency", (_request, name) => json(200, functions.reservation(name))),
      route("DeleteFunctionConcurrency", "DELETE", "/functions/NAME/concurrency", (_request, name) => {
        functions.unreserve(name);
        return noContent;
      }),
      route("GetAccountSettings", "GET", "/account-settings", () => json(200, functions.accountSettings())),
      route("ListTags", "GET", "/tags/NAME", (_request, arn) => json(200, { Tags: Object.fromEntries(functions.tagsOf(arn)) })),
      route("TagResource", "POST", "/tags/NAME", (request, arn) => {
        for (const [key, value] of Object.entries(parsed(tagsInput, jsonBody(request)).Tags)) functions.tagsOf(arn).set(key, value);
        return noContent;
      }),
      route("UntagResource", "DELETE", "/tags/NAME", (request, arn) => {
        functions.tagsOf(arn).delete(request.query.get("tagKeys") ?? "");
        return noContent;
      }),
    ];
  }

  /** What its caller has to be allowed; null: no such request. */
  actionOf(request: ServiceRequest): string | null {
    return this.#routes.find(({ method, path }) => method === request.method && path.test(request.path))?.action ?? null;
  }

  async answer(request: ServiceRequest, nowMs: number): Promise<ServiceAnswer> {
    for (const { method, path, handle } of this.#routes) {
      const match = method === request.method ? path.exec(request.path) : null;
      if (match !== null) return handle(request, decoded(match[1] ?? ""), decoded(match[2] ?? ""), nowMs);
    }
    throw errors.notEmulated(`${request.method} ${request.path}`);
  }

  async #create(request: ServiceRequest, nowMs: number): Promise<ServiceAnswer> {
    refuseLargeRequest(request, "CreateFunction");
    const input = parsed(createInput, jsonBody(request));
    this.#options.functions.refuseExisting(input.FunctionName);
    this.#refuseRole(input.Role, nowMs);
    const content = await this.#packageOf(input.Code);
    return json(201, this.#options.functions.create(input, content, nowMs));
  }

  async #updateCode(request: ServiceRequest, name: string, nowMs: number): Promise<ServiceAnswer> {
    refuseLargeRequest(request, "UpdateFunctionCode");
    const input = parsed(updateCodeInput, jsonBody(request));
    const content = await this.#packageOf(input);
    return json(200, this.#options.functions.updateCode(name, input, content, nowMs));
  }

  #updateConfiguration(request: ServiceRequest, name: string, nowMs: number): ServiceAnswer {
    const input = parsed(updateConfigurationInput, jsonBody(request));
    if (input.Role !== undefined) this.#refuseRole(input.Role, nowMs);
    return json(200, this.#options.functions.updateConfiguration(name, input, nowMs));
  }

  #refuseRole(arn: string, nowMs: number): void {
    const role = this.#options.iam.byArn(arn);
    if (role !== null && trustsLambda(role) && nowMs >= role.trustedAtMs + this.#options.rolePropagationMs) return;
    throw errors.invalid("The role defined for the function cannot be assumed by Lambda.");
  }

  async #packageOf(code: Code): Promise<Package> {
    if (code.ZipFile !== undefined) {
      const zip = Buffer.from(code.ZipFile, "base64");
      if (zip.length > zipBytesMaxDirect) throw errors.tooLarge(codeRequestBytesMax, "CreateFunction");
      return this.#options.packages.unpack(zip);
    }
    if (code.ImageUri !== undefined) {
      const image = this.#options.images.get(code.ImageUri);
      if (image === undefined) throw errors.invalid(`Source image ${code.ImageUri} does not exist. Provide a valid source image.`);
      return this.#options.packages.unpack(image);
    }
    if (code.S3Bucket === undefined || code.S3Key === undefined) throw errors.invalid("Please provide a source for function code.");
    return this.#options.packages.unpack(await this.#fetch(code.S3Bucket, code.S3Key, code.S3ObjectVersion));
  }

  async #fetch(bucket: string, key: string, version: string | undefined): Promise<Buffer> {
    const { s3, region } = this.#options;
    if (s3 === null) throw errors.notEmulated("code from S3 (it was started without an S3 server)");
    const client = new S3Client({ endpoint: s3.endpoint, region, credentials: s3.credentials, forcePathStyle: true });
    try {
      const { Body: body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key, ...(version === undefined ? {} : { VersionId: version }) }));
      return Buffer.from((await body?.transformToByteArray()) ?? []);
    } catch (error) {
      const { name, message } = error as Error;
      throw errors.invalid(`Error occurred while GetObject. S3 Error Code: ${name}. S3 Error Message: ${message}`);
    } finally {
      client.destroy();
    }
  }
}

function qualifier(request: ServiceRequest, name: string): string | null {
  return request.query.get("Qualifier") ?? qualifierOf(name);
}

function refuseLargeRequest(request: ServiceRequest, operation: string): void {
  if (request.body.length > codeRequestBytesMax) throw errors.tooLarge(codeRequestBytesMax, operation);
}

/** `x-amzn-errortype` names it; the body says the rest. */
export function lambdaError(error: ServiceError): ServiceAnswer {
  return {
    status: error.status,
    headers: { "content-type": "application/json", "x-amzn-errortype": error.code, ...error.headers },
    body: JSON.stringify({ Type: error.status >= 500 ? "Service" : "User", message: error.message, ...error.fields }),
  };
}
