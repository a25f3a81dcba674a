import { describe } from "vitest";
import { functionsBehaveAsInLambda } from "./functions.ts";

describe("functions in the emulator, under our own loop against the Runtime API", () => {
  functionsBehaveAsInLambda("own");
});
