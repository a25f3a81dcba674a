import type { SourceItem } from "../inputs/types.ts";
import type { Outcome } from "./types.ts";

/** The journal's line of an outcome, `\n` included. Keys in the order of the contract: scans rely on it. */
export function outcomeLine({ index, id, input, version, output, error, attempts }: Outcome): string {
  let line = `{"index":${index},`;
  if (id !== undefined) line += `"id":${JSON.stringify(id)},`;
  line += `"input":${JSON.stringify(input)},`;
  if (version !== undefined) line += `"version":${JSON.stringify(version)},`;
  if (error === undefined) line += `"output":${jsonOf(output)}`;
  else line += `"error":{"code":${JSON.stringify(error.code)},"stage":"${error.stage}","message":${JSON.stringify(error.message)}}`;
  return `${line},"attempts":${attempts}}\n`;
}

/** A line of `failed.jsonl`, which is an input file as it is. */
export function inputLine({ input, id }: Pick<SourceItem, "input" | "id">): string {
  return id === undefined ? `{"input":${JSON.stringify(input)}}\n` : `{"id":${JSON.stringify(id)},"input":${JSON.stringify(input)}}\n`;
}

function jsonOf(output: Outcome["output"]): string {
  return output === undefined ? "null" : JSON.stringify(output);
}
