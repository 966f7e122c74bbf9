package netns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// nginxConfig logs each request as a JSON object. nginx does not read the body
// of what it answers with return; the payload is not checked there.
const nginxConfig = `daemon off; master_process off; pid %[1]s/pid; error_log stderr notice;
events { worker_connections 256; }
http {
  log_format j escape=json '{"headers":{"host":"$http_host","ce-subject":"$http_ce_subject","ce-source":"$http_ce_source","ce-id":"$http_ce_id","ce-type":"$http_ce_type","ce-specversion":"$http_ce_specversion","x-mqtt-qos":"$http_x_mqtt_qos","content-length":"$http_content_length"},"status":$status}';
  access_log /dev/stdout j;
  # of the requests of a connection, counted from 1: never more than two refusals in a row
  map $connection_requests $refuse { default 1; ~[0369]$ 0; }
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
%[2]s}
`

// nginxServer is a server block.
func nginxServer(port int, directives string) string {
	return fmt.Sprintf("  server { listen %[1]d; listen [::]:%[1]d; location / { %[2]s } }\n", port, directives)
}

// nginxOK is nginx with default keep-alive settings.
const nginxOK = `return 200 "ok\n";`

// serveNginx runs nginx with these server blocks on both pods; port is one of theirs.
func serveNginx(t *testing.T, l *lab.Lab, got func(request), port int, servers ...string) {
	t.Helper()
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		cmd := nginxCommand(t, servers...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(pod, cmd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		go readJSON(out, got)
		waitListening(t, l, pod, port)
	}
}

// nginxCommand is nginx with these server blocks, and nothing else of its configuration.
func nginxCommand(t *testing.T, servers ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConfig, dir, strings.Join(servers, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return lab.Command(context.Background(), inSbin("nginx"), "-c", conf, "-e", "stderr")
}

// inSbin is the path of a server's program, which a root that came by su may not have in its PATH.
func inSbin(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return filepath.Join("/usr/sbin", name)
}
