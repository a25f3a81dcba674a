/** What goes wrong with a request, on order. */
export type Fault =
  /** Refused before anything was read or done. */
  | { readonly kind: "error"; readonly status: number; readonly code: string; readonly message?: string; readonly headers?: Readonly<Record<string, string>> }
  /** Waits, then goes on as if nothing had been. */
  | { readonly kind: "slow"; readonly delayMs: number }
  /** Takes the request, never answers; nothing is done. */
  | { readonly kind: "hang" }
  /** Resets the connection before anything was read. */
  | { readonly kind: "reset" }
  /** Resets the connection while the client still sends; nothing is done. */
  | { readonly kind: "cut-upload"; readonly afterBytes: number }
  /** Does what was asked, then ends the connection after so many bytes of the answer's body. */
  | { readonly kind: "cut-answer"; readonly afterBytes: number }
  /** Does what was asked, then says no more after so many bytes of the answer's body. */
  | { readonly kind: "stall-answer"; readonly afterBytes: number }
  /** Changes one byte of the answer's body on the way. */
  | { readonly kind: "damage-answer"; readonly atByte: number }
  /** Does what was asked, then resets the connection without a word. */
  | { readonly kind: "lose-answer" }
  /** Status 200 with an error as its body, as S3 does in what takes long (Complete, Copy); nothing is done. */
  | { readonly kind: "error-in-200"; readonly code: string };
