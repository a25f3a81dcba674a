import { createHash } from "node:crypto";

/** Text that is markup already. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Part = Html | string | number | false | null | readonly Html[];

/** Markup; whatever is put into it is escaped, unless it is markup itself. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.reduce((text, string, at) => text + textOf(parts[at - 1] ?? null) + string));
}

function textOf(part: Part): string {
  if (part === null || part === false) return "";
  if (part instanceof Html) return part.text;
  return typeof part === "object" ? part.map(({ text }) => text).join("") : escaped(String(part));
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

export interface Page {
  readonly title: string;
  readonly body: Html;
  readonly style: string;
  /** `data` is what it draws, JSON; null: there is nothing to draw. */
  readonly script: { readonly text: string; readonly data: unknown } | null;
}

/** One file that takes nothing from elsewhere; by its policy only our own script runs. */
export function page({ title, body, style, script }: Page): string {
  const policy = `default-src 'none'; script-src ${script === null ? "'none'" : `'${hashOf(script.text)}'`}; style-src '${hashOf(style)}'; base-uri 'none'; form-action 'none'`;
  const head = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${new Html(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${title}</title>
<style>${new Html(style)}</style>
</head>
<body>
${body}
${script !== null && html`<script type="application/json" id="data">${new Html(JSON.stringify(script.data).replace(/</g, "\\u003c"))}</script>
<script>${new Html(script.text)}</script>`}
</body>
</html>
`;
  return head.text;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
