import { accessSync, constants } from "node:fs";
import { pathToFileURL } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";

const browserPath = process.env["SPLITRUN_CHROMIUM"] ?? "/usr/bin/chromium";

/** Why tests in a browser are left out; null: they are not. */
export const browserMissing = isExecutable(browserPath)
  ? null
  : `left out: no browser at ${browserPath}; install Chromium, or name another one in SPLITRUN_CHROMIUM`;

export function startBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
}

/** Shows a file. `complaints`: what the browser had to say against it, and whatever it asked of elsewhere. */
export async function openFile(browser: Browser, file: string, width = 1280): Promise<{ readonly page: Page; readonly complaints: readonly string[] }> {
  const complaints: string[] = [];
  const page = await browser.newPage({ viewport: { width, height: 900 } });
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    if (!/^(file|data):/.test(request.url())) complaints.push(`asked for ${request.url()}`);
  });
  await page.goto(pathToFileURL(file).href);
  return { page, complaints };
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
