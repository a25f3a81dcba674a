import { startS3Server } from "../support/s3/server.ts";
import { s3Contract } from "./contract.ts";

s3Contract("the tests' own S3 server", async () => {
  const server = await startS3Server();
  let slow: { remove(): void } | null = null;
  return {
    endpoint: server.endpoint,
    credentials: server.credentials,
    limitConcurrency(requests) {
      server.limitConcurrency(requests);
      // Otherwise it is done with one before the next one arrives.
      slow?.remove();
      slow = requests < 10 ? server.fault({ kind: "slow", delayMs: 100 }, { times: Infinity }) : null;
    },
    crash: () => { server.dropConnections(); },
    stop: () => server.stop(),
  };
}, { missing: null, differences: {} });
