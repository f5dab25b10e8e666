/** Waits until something is so, for as long as the test may take; looks every 50 ms unless it is soon over. */
export async function until(isSo: () => Promise<boolean> | boolean, everyMs = 50): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, everyMs));
}
