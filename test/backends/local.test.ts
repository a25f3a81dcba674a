import { localBackend } from "../../orchestrator/backends/local.ts";
import { backendContract } from "./contract.ts";

backendContract("local", ({ artifactDirectory }) => localBackend({ artifactDirectory, taskManagersMax: 4 }));
