/**
 * Parses the agent's JSON. Its 64-bit integers are bare numbers of any size, and a TaskInfo goes back to the agent as it came;
 * so an integer that a double cannot hold becomes a string of its digits, which the agent and our own parser take as well.
 */
export function parseAgentJson(text: string): unknown {
  if (!/[:[,]\s*-?\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(
    // Strings and numbers are matched whole, so that neither digits in a text nor those of a fraction are taken for an integer.
    text.replace(/"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g, (token) =>
      !/^-?\d{16,}$/.test(token) || Number.isSafeInteger(Number(token)) ? token : `"${token}"`,
    ),
  );
}
