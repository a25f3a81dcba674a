import { ServiceError } from "./errors.ts";
import { header, jsonBody } from "./request.ts";
import type { ServiceAnswer, ServiceRequest } from "./request.ts";

export interface LogEvent {
  readonly timestampMs: number;
  readonly message: string;
}

interface LogGroup {
  readonly name: string;
  readonly createdAtMs: number;
  retentionDays: number | null;
  tags: Readonly<Record<string, string>>;
  readonly streams: Map<string, LogEvent[]>;
}

type Input = Readonly<Record<string, unknown>>;

const eventsMaxAStream = 10_000;
const streamsMaxAGroup = 1000;
const pageEventsMax = 10_000;
const retentionDaysAllowed = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
const contentType = "application/x-amz-json-1.1";

/** Log groups, their streams and events: as much of CloudWatch Logs as functions and their deployment need (JSON 1.1). */
export class Logs {
  readonly #arnPrefix: string;
  readonly #groups = new Map<string, LogGroup>();

  constructor(region: string, accountId: string) {
    this.#arnPrefix = `arn:aws:logs:${region}:${accountId}:log-group`;
  }

  get groupNames(): readonly string[] {
    return [...this.#groups.keys()];
  }

  /** All messages of a group in order of time. */
  messages(group: string): readonly string[] {
    return this.#events(group).map(({ event }) => event.message);
  }

  /** Into a group that there is; `createGroup` makes it. Else the events are lost, as they are in Lambda. */
  append(group: string, stream: string, events: readonly LogEvent[], options: { readonly createGroup: boolean }): void {
    if (!this.#groups.has(group) && options.createGroup) this.#create(group, {}, Date.now());
    const streams = this.#groups.get(group)?.streams;
    if (streams === undefined || events.length === 0) return;
    const kept = streams.get(stream) ?? [];
    kept.push(...events);
    kept.splice(0, Math.max(0, kept.length - eventsMaxAStream));
    streams.set(stream, kept);
    const [oldest] = streams.keys();
    if (streams.size > streamsMaxAGroup && oldest !== undefined) streams.delete(oldest);
  }

  answer(request: ServiceRequest, nowMs: number): ServiceAnswer {
    const operation = (header(request, "x-amz-target") ?? "").replace("Logs_20140328.", "");
    const result = this.#perform(operation, jsonBody(request) as Input, nowMs);
    return { status: 200, headers: { "content-type": contentType }, body: result === null ? "" : JSON.stringify(result) };
  }

  /** null: an empty answer. */
  #perform(operation: string, input: Input, nowMs: number): unknown {
    const name = String(input["logGroupName"] ?? "");
    switch (operation) {
      case "CreateLogGroup":
        this.#create(name, (input["tags"] ?? {}) as Readonly<Record<string, string>>, nowMs);
        return null;
      case "DeleteLogGroup":
        this.#groups.delete(this.#group(name).name);
        return null;
      case "PutRetentionPolicy":
        this.#group(name).retentionDays = allowedRetention(Number(input["retentionInDays"]));
        return null;
      case "DeleteRetentionPolicy":
        this.#group(name).retentionDays = null;
        return null;
      case "DescribeLogGroups": {
        const prefix = String(input["logGroupNamePrefix"] ?? "");
        return { logGroups: [...this.#groups.values()].filter((group) => group.name.startsWith(prefix)).map((group) => this.#described(group)) };
      }
      case "DescribeLogStreams": {
        const prefix = String(input["logStreamNamePrefix"] ?? "");
        const names = [...this.#group(name).streams.keys()].filter((stream) => stream.startsWith(prefix));
        return { logStreams: names.map((logStreamName) => ({ logStreamName, arn: `${this.#arnPrefix}:${name}:log-stream:${logStreamName}` })) };
      }
      case "GetLogEvents": return this.#getEvents(name, input);
      case "FilterLogEvents": return this.#filterEvents(name, input, nowMs);
      case "ListTagsForResource": return { tags: this.#named(String(input["resourceArn"])).tags };
      case "TagResource": {
        const group = this.#named(String(input["resourceArn"]));
        group.tags = { ...group.tags, ...(input["tags"] as Readonly<Record<string, string>>) };
        return null;
      }
      default: throw new ServiceError(400, "UnknownOperationException", `This emulator does not have: ${operation}`);
    }
  }

  #create(name: string, tags: Readonly<Record<string, string>>, nowMs: number): void {
    if (!/^[.\-_/#A-Za-z0-9]{1,512}$/.test(name)) throw invalid(`1 validation error detected: Value '${name}' at 'logGroupName' failed to satisfy constraint`);
    if (this.#groups.has(name)) throw new ServiceError(400, "ResourceAlreadyExistsException", "The specified log group already exists");
    this.#groups.set(name, { name, createdAtMs: nowMs, retentionDays: null, tags, streams: new Map() });
  }

  #named(arn: string): LogGroup {
    return this.#group(arn.slice(this.#arnPrefix.length + 1).replace(/:\*$/, ""));
  }

  #group(name: string): LogGroup {
    const group = this.#groups.get(name);
    if (group === undefined) throw new ServiceError(400, "ResourceNotFoundException", "The specified log group does not exist.");
    return group;
  }

  #described({ name, createdAtMs, retentionDays, streams }: LogGroup): unknown {
    const storedBytes = [...streams.values()].flat().reduce((sum, { message }) => sum + message.length, 0);
    const arn = `${this.#arnPrefix}:${name}`;
    return { logGroupName: name, creationTime: createdAtMs, arn: `${arn}:*`, logGroupArn: arn, storedBytes, ...(retentionDays === null ? {} : { retentionInDays: retentionDays }) };
  }

  #getEvents(name: string, input: Input): unknown {
    const events = this.#group(name).streams.get(String(input["logStreamName"]));
    if (events === undefined) throw new ServiceError(400, "ResourceNotFoundException", "The specified log stream does not exist.");
    // A token is a place in the stream; the same one again means that there is no more.
    const from = Number(String(input["nextToken"] ?? "f/0").slice(2));
    const page = events.slice(from, from + Number(input["limit"] ?? pageEventsMax));
    return {
      events: page.map(({ timestampMs, message }) => ({ timestamp: timestampMs, ingestionTime: timestampMs, message })),
      nextForwardToken: `f/${from + page.length}`, nextBackwardToken: `b/${from}`,
    };
  }

  #filterEvents(name: string, input: Input, nowMs: number): unknown {
    this.#group(name);
    const terms = termsOf(String(input["filterPattern"] ?? ""));
    const streams = input["logStreamNames"] as readonly string[] | undefined;
    const [startMs, endMs] = [Number(input["startTime"] ?? 0), Number(input["endTime"] ?? nowMs + 1)];
    const found = this.#events(name).filter(({ stream, event }) =>
      (streams?.includes(stream) ?? true) && event.timestampMs >= startMs && event.timestampMs < endMs && terms.every((term) => event.message.includes(term)));
    const from = Number(input["nextToken"] ?? 0);
    const to = from + Math.min(pageEventsMax, Number(input["limit"] ?? pageEventsMax));
    return {
      events: found.slice(from, to).map(({ stream, event }, index) => ({
        logStreamName: stream, timestamp: event.timestampMs, ingestionTime: event.timestampMs, message: event.message, eventId: String(from + index),
      })),
      ...(to < found.length ? { nextToken: String(to) } : {}),
    };
  }

  #events(name: string): readonly { readonly stream: string; readonly event: LogEvent }[] {
    const streams = this.#groups.get(name)?.streams ?? new Map<string, LogEvent[]>();
    return [...streams].flatMap(([stream, events]) => events.map((event) => ({ stream, event })))
      .toSorted((a, b) => a.event.timestampMs - b.event.timestampMs);
  }
}

export function logsError(error: ServiceError): ServiceAnswer {
  return {
    status: error.status,
    headers: { "content-type": contentType, "x-amzn-errortype": error.code },
    body: JSON.stringify({ __type: error.code, message: error.message }),
  };
}

/** Words and quoted phrases, all of which must be there; the language has more. */
function termsOf(pattern: string): readonly string[] {
  const terms = [...pattern.matchAll(/"([^"]*)"|(\S+)/g)].map(([, phrase, word]) => phrase ?? word ?? "");
  if (terms.some((term) => /^[{[?%-]/.test(term))) throw invalid(`This emulator does not have the filter pattern ${pattern}`);
  return terms;
}

function allowedRetention(days: number): number {
  if (retentionDaysAllowed.includes(days)) return days;
  throw invalid(`1 validation error detected: Value '${days}' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [${retentionDaysAllowed.join(", ")}]`);
}

function invalid(message: string): ServiceError {
  return new ServiceError(400, "InvalidParameterException", message);
}
