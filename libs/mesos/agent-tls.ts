/** How an executor speaks to its agent, by the environment that the agent gives it; each variable may be missing. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Whether the agent's API is TLS: what libprocess is set to, unless BERTH_AGENT_SCHEME says otherwise. */
export function agentSpeaksTls({ BERTH_AGENT_SCHEME, LIBPROCESS_SSL_ENABLED }: Environment): boolean {
  return BERTH_AGENT_SCHEME === "https" || (BERTH_AGENT_SCHEME === undefined && isTrue(LIBPROCESS_SSL_ENABLED));
}

/** Whether libprocess checks a server's certificate; its older name of the variable counts too. */
export function checksAgentCertificate({ LIBPROCESS_SSL_VERIFY_SERVER_CERT, LIBPROCESS_SSL_VERIFY_CERT }: Environment): boolean {
  return isTrue(LIBPROCESS_SSL_VERIFY_SERVER_CERT ?? LIBPROCESS_SSL_VERIFY_CERT);
}

function isTrue(text: string | undefined): boolean {
  return text === "1" || text === "true";
}
