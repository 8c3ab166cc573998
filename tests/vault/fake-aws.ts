import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { VaultServer } from "@berth/test-harness";

export interface FakeAws extends AsyncDisposable {
  url: string;
  /** The actions that were asked for, in order. */
  actions: string[];
}

/** AWS itself cannot be had in a test: this answers the IAM and STS calls that Vault's aws engine makes. */
export async function startFakeAws(): Promise<FakeAws> {
  const actions: string[] = [];
  let keys = 0;
  const results: Record<string, (form: URLSearchParams) => string> = {
    GetCallerIdentity: () => "<Arn>arn:aws:iam::123456789012:user/vault</Arn><UserId>AIDA1</UserId><Account>123456789012</Account>",
    GetUser: (form) => user(form),
    CreateUser: (form) => user(form),
    CreateAccessKey: (form) => {
      keys += 1;
      const fields = `<UserName>${form.get("UserName")}</UserName><AccessKeyId>AKIA-test-${keys}</AccessKeyId>`;
      return `<AccessKey>${fields}<Status>Active</Status><SecretAccessKey>aws-secret-key-${keys}</SecretAccessKey></AccessKey>`;
    },
    AssumeRole: (form) => {
      keys += 1;
      const ends = new Date(Date.now() + Number(form.get("DurationSeconds") ?? 3600) * 1000).toISOString();
      const fields = `<AccessKeyId>ASIA-test-${keys}</AccessKeyId><SecretAccessKey>aws-secret-key-${keys}</SecretAccessKey>`;
      const arn = `<Arn>${form.get("RoleArn")}/s</Arn><AssumedRoleId>AROA1:s</AssumedRoleId>`;
      return `<Credentials>${fields}<SessionToken>aws-session-token-${keys}</SessionToken><Expiration>${ends}</Expiration></Credentials><AssumedRoleUser>${arn}</AssumedRoleUser>`;
    },
    ListAccessKeys: () => "<AccessKeyMetadata></AccessKeyMetadata><IsTruncated>false</IsTruncated>",
    ListAttachedUserPolicies: () => "<AttachedPolicies></AttachedPolicies><IsTruncated>false</IsTruncated>",
    ListUserPolicies: () => "<PolicyNames></PolicyNames><IsTruncated>false</IsTruncated>",
    ListGroupsForUser: () => "<Groups></Groups><IsTruncated>false</IsTruncated>",
  };
  const server: Server = createServer((incoming, outgoing) => {
    let text = "";
    incoming.on("data", (chunk: Buffer) => (text += chunk.toString()));
    incoming.on("end", () => {
      const form = new URLSearchParams(text);
      const action = form.get("Action") ?? "";
      actions.push(action);
      const sts = incoming.headers.authorization?.includes("/sts/");
      const namespace = sts ? "https://sts.amazonaws.com/doc/2011-06-15/" : "https://iam.amazonaws.com/doc/2010-05-08/";
      const result = `<${action}Result>${results[action]?.(form) ?? ""}</${action}Result>`;
      outgoing.setHeader("content-type", "text/xml");
      outgoing.end(
        `<${action}Response xmlns="${namespace}">${result}<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></${action}Response>`,
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    actions,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** Mounts Vault's aws engine before the fake, with the roles `user` (renewable lease) and `deploy` (assumed role, session token). */
export async function enableAws(vault: VaultServer, aws: FakeAws, limits: { lease: string; lease_max: string }): Promise<void> {
  await vault.call("POST", "sys/mounts/aws", { type: "aws" });
  const endpoints = { iam_endpoint: aws.url, sts_endpoint: aws.url, region: "us-east-1", sts_region: "us-east-1", max_retries: 0 };
  await vault.call("POST", "aws/config/root", { access_key: "AKIAROOT", secret_key: "root-secret", ...endpoints });
  await vault.call("POST", "aws/config/lease", limits);
  await vault.call("POST", "aws/roles/deploy", { credential_type: "assumed_role", role_arns: "arn:aws:iam::123456789012:role/deploy" });
  const document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}';
  await vault.call("POST", "aws/roles/user", { credential_type: "iam_user", policy_document: document });
}

function user(form: URLSearchParams): string {
  const name = form.get("UserName") ?? "vault";
  return `<User><Path>/</Path><UserName>${name}</UserName><UserId>AIDA1</UserId><Arn>arn:aws:iam::123456789012:user/${name}</Arn></User>`;
}
