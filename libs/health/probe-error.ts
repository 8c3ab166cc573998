/** The task did not do its part: nobody listens, the connection broke, the answer is not HTTP. */
export class Refused extends Error {
  override readonly name = "Refused";
}

/** The check could not be made: the task's network cannot be entered, a program of the host is missing. */
export class Unable extends Error {
  override readonly name = "Unable";
}

/** The check's time is up. */
export class TimedOut extends Error {
  override readonly name = "TimedOut";
}
