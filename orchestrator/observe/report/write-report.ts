import { writeFile } from "node:fs/promises";
import path from "node:path";
import { reportPage, type Report } from "./report-page.ts";

export function reportFile(runDir: string): string {
  return path.join(runDir, "report.html");
}

export async function writeReport(runDir: string, report: Report): Promise<void> {
  await writeFile(reportFile(runDir), reportPage(report), { mode: 0o600 });
}
