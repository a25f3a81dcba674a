import { sequentialBackend } from "../../orchestrator/backends/sequential.ts";
import { backendContract } from "./contract.ts";

backendContract("sequential", sequentialBackend, {
  isolation: "user code runs on this very thread, so that breakpoints work; what hangs or exits there takes all along",
  ownFolder: "it shares the process's folder",
});
