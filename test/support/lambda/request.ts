import type { IncomingHttpHeaders } from "node:http";
import { errors } from "./errors.ts";

/** A signed request to one of the services, read whole. */
export interface ServiceRequest {
  readonly method: string;
  /** As sent, without the query. */
  readonly path: string;
  readonly query: ReadonlyMap<string, string>;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface ServiceAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
}

export function header(request: Pick<ServiceRequest, "headers">, name: string): string | null {
  const value = request.headers[name];
  return value === undefined ? null : Array.isArray(value) ? value.join(", ") : value;
}

export function parseQuery(search: string): ReadonlyMap<string, string> {
  if (search === "") return new Map();
  return new Map(search.split("&").map((pair) => {
    const at = pair.indexOf("=");
    return at === -1 ? [decoded(pair), ""] : [decoded(pair.slice(0, at)), decoded(pair.slice(at + 1))];
  }));
}

export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw errors.invalid("not percent-encoded UTF-8");
  }
}

export function jsonBody(request: ServiceRequest): unknown {
  if (request.body.length === 0) return {};
  try {
    return JSON.parse(request.body.toString("utf8"));
  } catch {
    throw errors.invalid("Could not parse request body into json");
  }
}

export function json(status: number, value: unknown): ServiceAnswer {
  return { status, headers: { "content-type": "application/json" }, body: JSON.stringify(value) };
}

export const noContent: ServiceAnswer = { status: 204, headers: {}, body: "" };
