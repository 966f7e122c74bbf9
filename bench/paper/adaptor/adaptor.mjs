// The same baseline in Node: npm's mqtt and undici.
import mqtt from 'mqtt';
import { Pool } from 'undici';

const [broker, filter, url, connections] = process.argv.slice(2);
const { origin, pathname } = new URL(url);
const pool = new Pool(origin, { connections: Number(connections) });

const fail = (error) => {
  console.error(`adaptor: ${error.message}`);
  process.exit(1);
};

// request makes a request of a message, in CloudEvents' binary mode.
async function request(packet) {
  const { statusCode, body } = await pool.request({
    method: 'POST',
    path: pathname,
    body: packet.payload,
    headers: {
      'ce-specversion': '1.0',
      'ce-type': 'mqtt.publish',
      'ce-source': 'adaptor',
      'ce-id': String(packet.messageId ?? 0),
      'ce-subject': packet.topic,
    },
  });
  await body.dump();
  if (statusCode >= 300) throw new Error(`${url}: ${statusCode}`);
}

const client = mqtt.connect(broker, { clientId: 'adaptor', reconnectPeriod: 0 });
// What it does by itself is to wait for the callback before it looks at the next message. Here it does not: PUBACK
// leaves before the response, as QoS 1 to a broker that is near hardly needs it, and as many requests are under
// way as there are connections.
client.handleMessage = (packet, done) => {
  request(packet).catch((error) => console.error(`adaptor: ${error.message}`));
  done();
};
client.on('error', fail);
client.on('close', () => process.exit(0));
client.on('connect', () => client.subscribe(filter, { qos: 1 }, (error) => (error ? fail(error) : console.error('msg=serving'))));
process.on('SIGTERM', () => client.end());
