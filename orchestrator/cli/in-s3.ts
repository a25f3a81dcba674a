import { Option } from "commander";
import type { OutputObjects } from "../results/s3/objects.ts";
import { objectsToRead } from "../service/output-in-s3.ts";

/** As a job has it: with its slash at the end. */
export function outputUrl(home: string): string {
  return home.endsWith("/") ? home : `${home}/`;
}

export function requesterPaysOption(): Option {
  return new Option("--requester-pays", "pay for the requests, where the bucket's owner wants that");
}

/** Reads an output in S3. */
export async function withOutput<T>(url: string, { requesterPays }: { readonly requesterPays?: true }, read: (objects: OutputObjects) => Promise<T>): Promise<T> {
  const objects = await objectsToRead(outputUrl(url), requesterPays === true ? ["s3.requesterPays=true"] : []);
  try {
    return await read(objects);
  } finally {
    objects.close();
  }
}
