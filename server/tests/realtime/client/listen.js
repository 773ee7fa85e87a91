// Connects as a browser does, and writes what it hears, one JSON object a line; commands come by standard input:
// `cut` loses the connection for good until `back`, `end` ends the program.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const [url, tokenUrl, key, channel] = process.argv.slice(2);

const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

async function getToken() {
  const answer = await fetch(tokenUrl, { headers: { authorization: `Bearer ${key}` } });
  return (await answer.json()).token;
}

const client = new Centrifuge(url, { getToken, websocket: WebSocket, minReconnectDelay: 50 });
const subscription = client.newSubscription(channel);
client.on("connected", () => say("connected"));
client.on("disconnected", (context) => say("disconnected", { code: context.code }));
subscription.on("subscribed", (context) =>
  say("subscribed", { wasRecovering: context.wasRecovering, recovered: context.recovered }),
);
subscription.on("unsubscribed", (context) => say("unsubscribed", { code: context.code }));
subscription.on("error", (context) => say("refused", { code: context.error.code }));
subscription.on("publication", (context) => say("publication", { data: context.data }));
subscription.subscribe();
client.connect();

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "cut") client.disconnect();
  if (line === "back") client.connect();
  if (line === "end") process.exit(0);
}
