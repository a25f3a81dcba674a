/** The little XML that S3's messages need: no attributes but the namespace, no mixed content. */
export type XmlContent = string | number | boolean | readonly XmlElement[];
/** null: left out. */
export type XmlElement = readonly [name: string, content: XmlContent] | null;

const namespace = "http://s3.amazonaws.com/doc/2006-03-01/";

export function xmlDocument(root: string, children: readonly XmlElement[]): Buffer {
  const attribute = root === "Error" ? "" : ` xmlns="${namespace}"`;
  return Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n<${root}${attribute}>${children.map(write).join("")}</${root}>`);
}

function write(element: XmlElement): string {
  if (element === null) return "";
  const [name, content] = element;
  return `<${name}>${Array.isArray(content) ? content.map(write).join("") : escaped(String(content))}</${name}>`;
}

function escaped(text: string): string {
  return text
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")
    .replace(/[\u0000-\u001f]/g, (character) => `&#x${character.charCodeAt(0).toString(16)};`);
}

/** The contents of every element of this name, nested markup included. */
export function xmlElements(xml: string, name: string): readonly string[] {
  return [...xml.matchAll(new RegExp(`<${name}(?:\\s[^>]*)?>([\\s\\S]*?)</${name}>`, "g"))].map(([, content = ""]) => content);
}

/** The text of the first element of this name. */
export function xmlText(xml: string, name: string): string | null {
  const content = xmlElements(xml, name)[0];
  return content === undefined ? null : unescaped(content);
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function unescaped(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex?: string, decimal?: string, name?: string) => {
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    return entities[name ?? ""] ?? whole;
  });
}
