import { radosgwMissing, startRadosgw } from "../support/s3/radosgw.ts";
import { s3Contract } from "./contract.ts";

s3Contract("Ceph radosgw", async () => {
  const gateway = await startRadosgw();
  return {
    endpoint: gateway.endpoint,
    credentials: gateway.credentials,
    limitConcurrency: (requests) => gateway.limitConcurrency(requests),
    async crash() {
      await gateway.kill();
      await gateway.revive();
    },
    stop: () => gateway.stop(),
  };
}, {
  missing: radosgwMissing(),
  // Of version 16.2.
  differences: {
    framedStreams: "it answers 411 to a body in frames with its checksum behind",
    checksums: "it neither checks nor keeps CRC32",
    quotedIfMatch: "it compares If-Match with the ETag without its quotes",
    conditionalComplete: "it ignores conditions when an upload is completed",
    completeEtag: "its answer has no ETag",
    partRules: "it takes parts in any order, wants all of them, and answers 500 to the completion of an aborted upload",
    partNumber: "it ignores PartNumber",
    conditionalDelete: "it ignores conditions of a delete",
  },
});
