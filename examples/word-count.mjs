/** What is done with every item: `item` is any JSON value, and so is what is returned. */
export default async function countWords(item, context) {
  if (typeof item !== "string") throw new TypeError(`item ${context.index} is no text`);
  return { words: item.split(/\s+/).filter(Boolean).length, letters: item.replaceAll(/\P{Letter}/gu, "").length };
}
