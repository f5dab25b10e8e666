/** A connection was not made, or ended before the answer did. `cause` is the socket's error, if it gave one. */
export class LostConnection extends Error {
  override readonly name = 'LostConnection';
  /** Whether a part of the answer had come. If not, the call may be made again on another connection. */
  readonly hadAnswer: boolean;

  constructor(cause: unknown, hadAnswer: boolean) {
    super('the connection was lost', { cause });
    this.hadAnswer = hadAnswer;
  }
}
