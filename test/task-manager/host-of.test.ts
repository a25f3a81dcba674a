import { expect, test } from "vitest";
import { hostOf } from "../../task-manager/protocol.ts";

test.each<[unknown, string | null]>([
  ["http://Host/a.jpg", "host:80"],
  ["https://ann:secret@host:8443?x", "host:8443"],
  ["https://[::1]/a", "[::1]:443"],
  ["s3://bucket/p/a.jpg", "s3:bucket"],
  ["s3://bucket", "s3:bucket"],
  ["/home/s3://bucket/a", null],
  ["file:///a.jpg", null],
  [{ input: "http://host/" }, null],
])("the host of %j is %s", (input, host) => {
  expect(hostOf(input)).toBe(host);
});
