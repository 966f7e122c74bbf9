// Connects with the npm mqtt client and publishes: node actions.js URL, and on standard input, as JSON, {connect: its options, abrupt: whether
// the connection ends without DISCONNECT, publishes: [{topic, payload in base64, options}], each after the one before}.
const mqtt = require('mqtt')
const fs = require('fs')
const { connect, abrupt, publishes } = JSON.parse(fs.readFileSync(0, 'utf8'))
const revive = (properties) => {
  if (properties && properties.correlationData) properties.correlationData = Buffer.from(properties.correlationData, 'base64')
}
if (connect.will) {
  connect.will.payload = Buffer.from(connect.will.payload, 'base64')
  revive(connect.will.properties)
}
const client = mqtt.connect(process.argv[2], { reconnectPeriod: 0, ...connect })
client.on('error', (e) => { console.error(String(e)); process.exit(1) })
client.on('connect', async () => {
  for (const { topic, payload, options } of publishes) {
    revive(options.properties)
    await client.publishAsync(topic, Buffer.from(payload, 'base64'), options)
  }
  if (abrupt) client.stream.destroy()
  client.end(abrupt, {}, () => process.exit(0))
})
