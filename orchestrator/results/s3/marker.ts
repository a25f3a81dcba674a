import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { errorCode, replaceFile } from "../durable.ts";
import { homeFiles } from "../home-files.ts";
import { type WholeList, runRecord } from "./records.ts";

const marker = z.object({
  url: z.string(),
  homeId: z.string(),
  list: runRecord.shape.list,
});

/** `s3.json` of a home whose results go to S3 too. */
export interface Marker {
  readonly url: string;
  /** As `_splitrun/run.json` names the home that counts. */
  readonly homeId: string;
  /** Copied whole, here and there; null: not yet. */
  readonly list: WholeList | null;
}

/** null: the home has no output in S3, or its run died before it had. */
export async function readMarker(dir: string): Promise<Marker | null> {
  try {
    return marker.parse(JSON.parse(await readFile(join(dir, homeFiles.output), "utf8")));
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return null;
    throw error;
  }
}

export async function writeMarker(dir: string, value: Marker): Promise<void> {
  await replaceFile(join(dir, homeFiles.output), `${JSON.stringify(value, null, 2)}\n`);
}
