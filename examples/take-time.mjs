import { setTimeout as sleep } from "node:timers/promises";

/** Stands for work that waits for something: another server, a disk. */
export default async function takeTime(item) {
  await sleep(10);
  return item * item;
}
