import type * as Sdk from "./sdk.ts";

/** The SDK, once it is loaded, and a client of the region that a bucket is in. */
export interface Connection {
  readonly sdk: typeof Sdk;
  readonly client: Sdk.SdkClient;
}
