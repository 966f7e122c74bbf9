package netns

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"eproxy/test/lib/lab"
)

// mosquittoAction is mosquitto_pub with these arguments: TOPIC and ID are the action's, FILE is a file with bytes of every value.
func mosquittoAction(name string, n int, stdin, arguments string) action {
	return action{client: "mosquitto_pub", name: name, n: n, do: func(a *actor) error {
		return onDevice(a.lab, stdin, "mosquitto_pub", a.fill("-h HOST -i ID "+arguments)...)
	}}
}

// fill are arguments with what is this action's own. _ stands for a space.
func (a *actor) fill(arguments string) []string {
	file := filepath.Join(a.t.TempDir(), "payload")
	_ = os.WriteFile(file, everyByte(), 0o600)
	r := strings.NewReplacer("TOPIC", a.topic("plain"), "OWN", a.topic("own"), "STRUCTURED", a.topic("structured"), "ID", a.id,
		"HOST", lab.NodeV4.String(), "FILE", file, "CA", a.ca.CA, "_", " ")
	var out []string
	for _, f := range strings.Fields(arguments) {
		out = append(out, r.Replace(f))
	}
	return out
}

func everyByte() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// mosquittoDies publishes a line, and is killed when that has come.
func mosquittoDies(name, arguments string) action {
	return action{client: "mosquitto_pub", name: name, n: 2, do: func(a *actor) error {
		return a.lab.Do(lab.Dev, func() error {
			cmd := exec.Command("mosquitto_pub", a.fill("-h HOST -i ID -t TOPIC -q 1 -l "+arguments)...)
			in, err := cmd.StdinPipe()
			if err != nil {
				return err
			}
			if err := cmd.Start(); err != nil {
				return err
			}
			_, err = in.Write([]byte("last words\n"))
			if err == nil {
				a.came()
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return err
		})
	}}
}

// mosquittoActions are all options of mosquitto_pub that change what it sends.
func mosquittoActions() []action {
	var out []action
	add := func(name string, n int, stdin, arguments string) {
		out = append(out, mosquittoAction(name, n, stdin, arguments))
	}
	lines := "one\ntwo\n\nthree and a longer line\n"
	for _, v := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		for _, q := range []string{"0", "1", "2"} {
			with := " -V " + v + " -q " + q
			add("-m"+with, 1, "", "-t TOPIC -m hello"+with)
			add("-n"+with, 1, "", "-t TOPIC -n"+with)
			add("-f"+with, 1, "", "-t TOPIC -f FILE"+with)
			add("-l"+with, 4, lines, "-t TOPIC -l"+with)
			add("-s"+with, 1, lines, "-t TOPIC -s"+with)
			add("--repeat"+with, 5, "", "-t TOPIC -m again --repeat 5"+with)
			add("-r"+with, 1, "", "-t TOPIC -m kept -r"+with)
		}
		with := " -V " + v + " -q 1"
		add("-c"+with, 1, "", "-t TOPIC -m x -c"+with)
		add("-k"+with, 1, "", "-t TOPIC -m x -k 5"+with)
		add("-u -P"+with, 1, "", "-t TOPIC -m x -u dev -P secret"+with)
		add("-L"+with, 1, "", "-m x -L mqtt://dev:secret@HOST:1883/TOPIC"+with)
		add("-M 1"+with, 4, lines, "-t TOPIC -l -M 1"+with)
		add("-M 20"+with, 4, lines, "-t TOPIC -l -M 20"+with)
		add("--nodelay"+with, 4, lines, "-t TOPIC -l --nodelay"+with)
		add("--repeat-delay"+with, 3, "", "-t TOPIC -m x --repeat 3 --repeat-delay 0.05"+with)
		add("--will-topic, and DISCONNECT"+with, 1, "", "-t TOPIC -m x --will-topic TOPIC --will-payload w"+with)
		add("--cafile"+with, 1, "", "-t TOPIC -m x -p 8883 --cafile CA"+with)
		out = append(out,
			mosquittoDies("--will-topic"+with, "--will-topic TOPIC -V "+v),
			mosquittoDies("--will-payload --will-qos 2"+with, "--will-topic TOPIC --will-payload gone --will-qos 2 -V "+v),
			mosquittoDies("--will-retain"+with, "--will-topic TOPIC --will-payload gone --will-qos 1 --will-retain -V "+v))
	}
	add("-A", 1, "", "-t TOPIC -m x -A 10.88.0.2")
	out = append(out, mosquittoNames()...)
	return append(out, mosquittoProperties()...)
}

// mosquittoNames are clients whose identifier is another in each run.
func mosquittoNames() []action {
	var out []action
	for name, arguments := range map[string]string{"-I": "-I pre -V mqttv311", "no identifier, 3.1.1": "-V mqttv311", "no identifier, 5": "-V mqttv5", "no identifier, 3.1": "-V mqttv31"} {
		out = append(out, action{client: "mosquitto_pub", name: name, n: 1, vary: `(?m)^ce-source: eproxy/[^\r]*`, do: func(a *actor) error {
			return onDevice(a.lab, "", "mosquitto_pub", a.fill("-h HOST -t TOPIC -q 1 -m x "+arguments)...)
		}})
	}
	return out
}

// mosquittoProperties are the properties of MQTT 5.
func mosquittoProperties() []action {
	const v5 = " -t TOPIC -q 1 -m x -V mqttv5"
	var out []action
	for _, d := range []string{
		"-x 60", "-c -x 60", "-D CONNECT receive-maximum 5", "-D CONNECT maximum-packet-size 2000", "-D CONNECT topic-alias-maximum 4",
		"-D CONNECT request-problem-information 0", "-D CONNECT request-response-information 1", "-D CONNECT user-property a b",
		"-D CONNECT session-expiry-interval 30", "-D DISCONNECT session-expiry-interval 0", "-D DISCONNECT user-property a b",
		"-D PUBLISH payload-format-indicator 1", "-D PUBLISH payload-format-indicator 0", "-D PUBLISH message-expiry-interval 3600", "-D PUBLISH content-type application/json",
		"-D PUBLISH response-topic answers/x", "-D PUBLISH response-topic answers/x -D PUBLISH correlation-data abc", "-D PUBLISH correlation-data abc",
		"-D PUBLISH topic-alias 3", "-D PUBLISH user-property color red", "-D PUBLISH user-property color red -D PUBLISH user-property color blue",
		"-D PUBLISH user-property a_b c", "-D PUBLISH user-property ce-source me -D PUBLISH user-property Host x",
		"-D PUBLISH user-property traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 -D PUBLISH user-property tracestate a=1",
		"-D PUBLISH content-type text/x -D PUBLISH payload-format-indicator 1 -D PUBLISH message-expiry-interval 3600 -D PUBLISH user-property k v -D PUBLISH topic-alias 1",
	} {
		out = append(out, mosquittoAction(d, 1, "", d+v5))
	}
	for _, q := range []string{"0", "2"} {
		d := "-D PUBLISH content-type text/x -D PUBLISH user-property k v -D PUBLISH message-expiry-interval 3600 -q " + q
		out = append(out, mosquittoAction(d, 1, "", d+" -t TOPIC -m x -V mqttv5"))
	}
	out = append(out,
		mosquittoAction("--repeat with topic-alias", 3, "", "--repeat 3 -D PUBLISH topic-alias 2"+v5),
		mosquittoAction("an event's attributes", 1, "", "-t OWN -q 1 -m x -V mqttv5 -D PUBLISH user-property type t -D PUBLISH user-property source s -D PUBLISH user-property ce-subject z"),
		mosquittoAction("an event in JSON", 1, `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":1}}`, "-t OWN -q 1 -s -V mqttv311"),
		mosquittoAction("an event in JSON by its type", 1, `{"specversion":"1.0","id":"1","source":"s","type":"t","data":"d"}`,
			"-t OWN -q 1 -s -V mqttv5 -D PUBLISH content-type application/cloudevents+json"),
		mosquittoAction("to a structured function", 1, "", "-t STRUCTURED -q 1 -m x -V mqttv5 -D PUBLISH user-property k v"))
	for _, w := range []string{"will-delay-interval 1", "payload-format-indicator 1", "message-expiry-interval 3600", "content-type text/x", "response-topic answers/x",
		"correlation-data abc", "user-property k v"} {
		out = append(out, mosquittoDies("-D WILL "+w, "--will-topic TOPIC --will-payload gone -V mqttv5 -D WILL "+w))
	}
	return out
}
