/** The first photographs of the demo, as JPEG; `name` ends with the digit that is on it. */
export function demoPhotos(count: number): Promise<readonly { readonly name: string; readonly bytes: Buffer }[]>;
