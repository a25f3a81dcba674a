import { describe, test } from "vitest";
import { ricInstalled } from "../support/lambda/emulator.ts";
import { functionsBehaveAsInLambda } from "./functions.ts";

describe("functions in the emulator, under aws-lambda-ric", () => {
  if (ricInstalled) functionsBehaveAsInLambda("aws-lambda-ric");
  else test.skip("left out: aws-lambda-ric is not installed (`node scripts/lambda-ric.mjs` compiles it, in a minute or two)", () => {});
});
