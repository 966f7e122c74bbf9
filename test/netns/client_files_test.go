package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"eproxy/test/lib/lab"
)

// replaceFile writes a file anew, as most programs do.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// wasEnded checks that a client is disconnected, with a reason code if it is not 0, and that nothing of it becomes a message
// then, beside those of warm.
func (a *authority) wasEnded(x *accountConn, code byte, topic string) {
	a.t.Helper()
	if got := x.ending(); got != code {
		a.t.Errorf("DISCONNECT with %#x, want %#x", got, code)
	}
	_, _ = x.Write(x.message(topic, 8, "msg after the end"))
	if got := len(first(a.got.all())); got != 3 {
		a.t.Errorf("function got %d messages, want 3", got)
	}
}

// TestFilesTakeRights: who is removed from the password file, or whose token's key is replaced, is disconnected on both
// paths, without a reload; who stays there is not.
func TestFilesTakeRights(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			passwords, key := filepath.Join(dir, "passwd"), filepath.Join(dir, "secret")
			secret := []byte("0123456789abcdef0123456789abcdef")
			line := func(name string) string { return name + ":" + hashOf(t, name) + "\n" }
			replaceFile(t, passwords, line("admin")+line("dev"))
			replaceFile(t, key, string(secret))
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			a := &authority{t, l, start(t, l, mode, podConfig(routeConfig, false)+"auth: {password_file: "+passwords+", jwt: {secret_file: "+key+"}}\n"), r, mode}
			pub := func(want bool) {
				t.Helper()
				out, err := l.Run(t.Context(), lab.Dev, "mosquitto_pub", "-h", lab.NodeV4.String(), "-q", "1", "-i", "m", "-u", "dev", "-P", "dev", "-t", "sensors/m/temp", "-m", "msg m")
				if (err == nil) != want {
					t.Errorf("mosquitto_pub: %v: %s", err, out)
				}
			}
			pub(true)
			t.Run("password", func(t *testing.T) {
				b := a.in(t)
				x := mustLogIn(t, l, account{version: 5, id: "c5", user: "dev"})
				b.warm(x, "sensors/c5/temp")
				replaceFile(t, passwords, line("admin"))
				b.wasEnded(x, 0x87, "sensors/c5/temp")
				pub(false)
			})
			t.Run("token", func(t *testing.T) {
				b := a.in(t)
				token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
					"sub": "device", "exp": time.Now().Add(time.Hour).Unix(), "publish": "sensors/%c/#",
				}).SignedString(secret)
				if err != nil {
					t.Fatal(err)
				}
				x := mustLogIn(t, l, account{version: 4, id: "c4", user: "whoever", password: token})
				b.warm(x, "sensors/c4/temp")
				replaceFile(t, key, strings.ToUpper(string(secret)))
				b.wasEnded(x, 0, "sensors/c4/temp")
			})
			if taken, _ := share(nil, a.sys.counts()); mode != "fallback" && taken == 0 {
				t.Error("the kernel path took nothing")
			}
		})
	}
}
