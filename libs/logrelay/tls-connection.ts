import { readFile } from "node:fs/promises";
import { isIP, type Socket, type TcpNetConnectOpts } from "node:net";
import type { TlsOptions } from "./types.ts";

/**
 * Begins a TLS connection. The PEM files are read at each call, so that a renewed certificate counts from the next connection on.
 * Throws, with the file's name and what it is for, where one of them cannot be used.
 */
export async function connectTls(to: TcpNetConnectOpts & { host: string }, tls: TlsOptions): Promise<Socket> {
  const { checkServerIdentity, connect, createSecureContext, getCACertificates } = await import("node:tls");
  if ((tls.cert === undefined) !== (tls.key === undefined)) {
    throw new Error(`a client certificate needs two files, and its ${tls.cert === undefined ? "certificate" : "key"} is not set`);
  }
  const [ca, cert, key] = await Promise.all([pem("CA", tls.ca), pem("client certificate", tls.cert), pem("client key", tls.key)]);
  // Node's own list is Mozilla's; what the host's administrator has added is in the system's.
  const trusted = ca ?? [...getCACertificates("default"), ...getCACertificates("system")];
  const material = { ca: trusted, ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) };
  let secureContext: ReturnType<typeof createSecureContext>;
  try {
    secureContext = createSecureContext(material);
  } catch (error) {
    const files = [tls.ca, tls.cert, tls.key].filter((path) => path !== undefined).join(", ");
    const hint = key === undefined ? "" : "; the key must have no passphrase and fit its certificate";
    throw new Error(`${files} cannot be used: ${(error as Error).message}${hint}`);
  }
  const name = nameOf(tls, to.host);
  return connect({
    ...to,
    secureContext,
    servername: isIP(name) === 0 ? name : "",
    rejectUnauthorized: tls.verify ?? true,
    // The name that is meant counts, also where it is an address.
    checkServerIdentity: (_host, certificate) => checkServerIdentity(name, certificate),
  });
}

function nameOf(tls: TlsOptions, host: string): string {
  return tls.serverName === undefined || tls.serverName === "" ? host : tls.serverName;
}

async function pem(what: string, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new Error(`the ${what} file ${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
  }
  // OpenSSL takes a file without any certificate for an empty list of CAs.
  if (!text.includes("-----BEGIN ")) throw new Error(`the ${what} file ${path} is no PEM file`);
  return text;
}

const UNTRUSTED = new Set([
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_SIGNATURE_FAILURE",
]);

/** What went wrong with a TLS connection to `host`, and what the operator can do about it. `early`: it had hardly begun. */
export function tlsProblem(error: Error, tls: TlsOptions, host: string, early: boolean): string {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (UNTRUSTED.has(code)) {
    const by =
      tls.ca === undefined ? "no CA that this host trusts: name its CA's file in syslogCa (tls.ca of a sink)" : `no CA of ${tls.ca}`;
    return `the receiver's certificate is signed by ${by} (${code})`;
  }
  if (code === "CERT_HAS_EXPIRED") return "the receiver's certificate has expired: renew it there";
  if (code === "CERT_NOT_YET_VALID") return "the receiver's certificate is not valid yet: look at both hosts' clocks";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    const { cert } = error as Error & { cert?: { subjectaltname?: string; subject?: { CN?: string } } };
    const names = cert?.subjectaltname || `CN ${cert?.subject?.CN}`;
    return `the receiver's certificate is for ${names}, not for ${nameOf(tls, host)}: set syslogServerName (tls.serverName of a sink)`;
  }
  if (/CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_UNKNOWN|CERTIFICATE_EXPIRED/.test(code)) {
    const what =
      tls.cert === undefined
        ? "the receiver demands a client certificate: set syslogCert and syslogKey (tls.cert and tls.key of a sink)"
        : `the receiver does not accept the client certificate ${tls.cert}: it must be signed by a CA that the receiver trusts, and not expired`;
    return `${what} (${code})`;
  }
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG") return `the receiver speaks no TLS (${code})`;
  // A receiver that checks certificates only after the handshake says nothing more.
  const hint = tls.cert === undefined ? "it may demand a client certificate" : `it may not accept the client certificate ${tls.cert}`;
  return early ? `${error.message}; ${hint}: its own log tells` : error.message;
}
