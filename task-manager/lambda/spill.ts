import type { LambdaResponse } from "./response.ts";
import { functionS3 } from "./s3.ts";

/** What is too large for a buffered answer goes to S3, and its place is the answer. */
export async function spill(response: LambdaResponse, place: { readonly bucket: string; readonly key: string }): Promise<void> {
  const body = Buffer.from(response.take());
  const s3 = functionS3();
  try {
    await s3.put(place, body, { condition: "none", contentType: "application/x-ndjson" });
  } finally {
    s3.close();
  }
  await response.write({ kind: "spilled", ...place, bytes: body.length });
}
