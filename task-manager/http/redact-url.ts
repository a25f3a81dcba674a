import { isAbsolute } from "node:path";

const shownCharactersMax = 300;

/**
 * A URL as messages and logs may show it: no user, password, query or fragment, since these carry signatures and
 * tokens. Takes anything that was meant to be a URL; an absolute path is only shortened.
 */
export function redactUrl(text: string): string {
  if (isAbsolute(text)) return shortened(text);
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && url.host !== "") return shortened(`${url.protocol}//${url.host}${url.pathname}`);
  const visible = text.split(/[?#]/, 1)[0] ?? "";
  return shortened(visible.replace(/\/\/[^/]*@/, "//"));
}

function shortened(text: string): string {
  return text.length <= shownCharactersMax ? text : `${text.slice(0, shownCharactersMax)}…`;
}
