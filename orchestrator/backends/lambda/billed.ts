import type { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";
import { setTimeout as delay } from "node:timers/promises";
import type { ReportsAsked } from "../types.ts";
import { parseReport, type LambdaReport } from "./report.ts";

/** Lambda's log comes some seconds late; asked again after this, then after twice as long each time. */
const againMs = 500;
/** Pages of up to 10,000 lines or 1 MB; CloudWatch allows some ten requests a second to the whole account. */
const requestsMax = 200;
const requestTimeoutMs = 5_000;
/** A clock that is a little off must not hide the first invocations. */
const clockSlackMs = 60_000;
/** As text, and as JSON, whichever the function writes. */
const patterns = ['"REPORT RequestId"', '"platform.report"'] as const;

export interface BilledOptions {
  /** null: wherever the SDK finds one. */
  readonly region: string | null;
  /** The functions' log groups: `/aws/lambda/splitrun`. */
  readonly logGroups: readonly string[];
}

/**
 * What Lambda says of invocations in their functions' logs, as far as it can be had in time. Where nothing may be read
 * (it takes `logs:FilterLogEvents`) or is there, it is empty. Never rejects.
 */
export async function billedReports({ region, logGroups }: BilledOptions, asked: ReportsAsked): Promise<readonly LambdaReport[]> {
  const search: Search = { missing: new Set(asked.requestIds), found: [], fromMs: asked.fromMs - clockSlackMs, untilMs: asked.untilMs, requestsLeft: requestsMax };
  if (search.missing.size === 0) return [];
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  const { CloudWatchLogsClient } = await import("@aws-sdk/client-cloudwatch-logs");
  const client = new CloudWatchLogsClient({
    ...(region === null ? {} : { region }),
    requestHandler: { connectionTimeout: requestTimeoutMs, requestTimeout: requestTimeoutMs, throwOnRequestTimeout: true },
  });
  const givingUp = AbortSignal.timeout(Math.max(1, asked.untilMs - Date.now()));
  try {
    for (let waitMs = againMs; ; waitMs *= 2) {
      for (const logGroup of logGroups) await searchGroup(client, logGroup, search, givingUp);
      const rest = asked.untilMs - Date.now();
      if (search.missing.size === 0 || search.requestsLeft <= 0 || rest <= 0) break;
      await delay(Math.min(waitMs, rest), undefined, { signal: givingUp });
    }
  } catch {
    // Refused, or out of time: the rest stays as it was computed.
  } finally {
    client.destroy();
  }
  return search.found;
}

interface Search {
  readonly missing: Set<string>;
  readonly found: LambdaReport[];
  readonly fromMs: number;
  readonly untilMs: number;
  requestsLeft: number;
}

async function searchGroup(client: CloudWatchLogsClient, logGroupName: string, search: Search, abortSignal: AbortSignal): Promise<void> {
  const { FilterLogEventsCommand } = await import("@aws-sdk/client-cloudwatch-logs");
  for (const filterPattern of patterns) {
    let nextToken: string | undefined;
    let lines = 0;
    do {
      if (search.missing.size === 0 || search.requestsLeft <= 0) return;
      search.requestsLeft -= 1;
      const page = await client.send(
        new FilterLogEventsCommand({ logGroupName, filterPattern, startTime: search.fromMs, endTime: search.untilMs, ...(nextToken === undefined ? {} : { nextToken }) }),
        { abortSignal },
      );
      for (const { message = "" } of page.events ?? []) take(message, search);
      lines += page.events?.length ?? 0;
      nextToken = page.nextToken;
    } while (nextToken !== undefined);
    if (lines > 0) return;
  }
}

function take(message: string, search: Search): void {
  const report = parseReport(message);
  if (report !== null && search.missing.delete(report.requestId)) search.found.push(report);
}
