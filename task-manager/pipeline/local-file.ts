import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import type { ItemErrorCode } from "../protocol.ts";
import { ItemFailure } from "./failure.ts";

/**
 * The whole of a regular file, alone in its ArrayBuffer.
 *
 * @throws ItemFailure INPUT_NOT_FOUND, INPUT_UNREADABLE, INPUT_TOO_LARGE, DOWNLOAD_EMPTY
 */
export async function readLocalFile(path: string, maxBytes: number): Promise<Buffer<ArrayBuffer>> {
  let file: FileHandle | undefined;
  try {
    // Non-blocking: opening a named pipe that nobody writes to would wait for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return await readWhole(file, path, maxBytes);
  } catch (error) {
    throw error instanceof ItemFailure ? error : fileFailure(error, path);
  } finally {
    await file?.close();
  }
}

async function readWhole(file: FileHandle, path: string, maxBytes: number): Promise<Buffer<ArrayBuffer>> {
  const stats = await file.stat();
  if (!stats.isFile()) throw failure("INPUT_UNREADABLE", `${path} is ${stats.isDirectory() ? "a folder" : "not a regular file"}`, false);
  if (stats.size === 0) throw failure("DOWNLOAD_EMPTY", `${path} is empty (0 bytes)`, false);
  if (stats.size > maxBytes) {
    throw failure("INPUT_TOO_LARGE", `${path} has ${stats.size} bytes, more than the ${maxBytes} allowed`, false);
  }
  const bytes = Buffer.allocUnsafeSlow(stats.size);
  for (let length = 0; length < bytes.length;) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
    if (bytesRead === 0) throw failure("INPUT_UNREADABLE", `${path} became shorter while it was read`, true);
    length += bytesRead;
  }
  return bytes;
}

function fileFailure(error: unknown, path: string): ItemFailure {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  if (code === "ENOENT" || code === "ENOTDIR") return failure("INPUT_NOT_FOUND", `${path} is not there`, false, error);
  if (code === "ERR_INVALID_ARG_VALUE") return failure("INPUT_INVALID", `not a path: ${JSON.stringify(path)}`, false, error);
  const retryable = ["EMFILE", "ENFILE", "EIO", "ESTALE", "EAGAIN", "EINTR", "ETIMEDOUT"].includes(code);
  return failure("INPUT_UNREADABLE", `${path} cannot be read (${code})`, retryable, error);
}

function failure(code: ItemErrorCode, message: string, retryable: boolean, cause?: unknown): ItemFailure {
  return new ItemFailure(message, { code, stage: "download", retryable, cause });
}
