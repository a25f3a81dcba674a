import { backendContract } from "./contract.ts";
import { backendWith, emulated } from "./lambda/support.ts";

emulated();
backendContract("lambda", () => backendWith(), { wayBack: "nothing can be told to an invocation that runs" });
