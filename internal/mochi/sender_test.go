package mochi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/broker"
	"eproxy/internal/config"
)

// headerStage is a stage whose function keeps the headers of its requests.
func headerStage(t *testing.T, auth config.Auth, grafter broker.Grafter) (*stage, chan http.Header) {
	t.Helper()
	headers := make(chan http.Header, 100)
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }, grafter, auth)
	return s, headers
}

// usernames is a kernel path that takes nothing.
type usernames chan string

func (u usernames) Established(c broker.ConnInfo) broker.Graft {
	u <- c.Username
	return nil
}

// login connects a paho client with a user name and a password, if they are not empty.
func (s *stage) login(id, user, password string) *paho.Client {
	s.t.Helper()
	c := paho.NewClient(paho.ClientConfig{Conn: s.dial()})
	if _, err := c.Connect(context.Background(), &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true,
		Username: user, UsernameFlag: user != "", Password: []byte(password), PasswordFlag: password != ""}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c
}

// TestUsernameOfCheckedPassword: X-Mqtt-Username is there where a password was checked, and says
// whose; on both paths.
func TestUsernameOfCheckedPassword(t *testing.T) {
	users := []config.User{user("dev", "secret"), user("d\u00e9v \"%\r\n", "secret")}
	for _, c := range []struct {
		name, user, password, want string
		auth                       config.Auth
	}{
		{"authenticated", "dev", "secret", "dev", config.Auth{Users: users}},
		{"to be encoded", users[1].Username, "secret", "d%C3%A9v%20%22%25%0D%0A", config.Auth{Users: users}},
		{"anonymous", "", "", "", config.Auth{AllowAnonymous: true, Users: users}},
		{"anonymous with a password", "", "secret", "", config.Auth{AllowAnonymous: true, Users: users}},
		{"anonymous with a user name", "admin", "", "", config.Auth{AllowAnonymous: true}},
		{"anonymous with a user name and a password", "admin", "secret", "", config.Auth{AllowAnonymous: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			grafter := make(usernames, 1)
			s, headers := headerStage(t, c.auth, grafter)
			cl := s.login("d1", c.user, c.password)
			if _, err := cl.Publish(context.Background(), &paho.Publish{Topic: "in/x", QoS: 1}); err != nil {
				t.Fatal(err)
			}
			h := <-headers
			if got := strings.Join(h["X-Mqtt-Username"], "|"); got != c.want || h["X-Mqtt-Client-Id"] != nil {
				t.Errorf("X-Mqtt-Username is %q, want %q; %v", got, c.want, h)
			}
			if got, want := <-grafter, map[bool]string{true: c.user}[c.want != ""]; got != want {
				t.Errorf("the kernel path gets user name %q, want %q", got, want)
			}
		})
	}
}

// TestLaterAccountIsNotTheClients: an account that is made later does not become that of a
// client which called itself so when nobody asked.
func TestLaterAccountIsNotTheClients(t *testing.T) {
	s, headers := headerStage(t, config.Auth{AllowAnonymous: true}, nil)
	cl := s.login("d1", "admin", "guess")
	cfg := *s.cfg
	cfg.Auth = config.Auth{AllowAnonymous: true, Users: []config.User{user("admin", "secret")}}
	if err := s.server.Reload(&cfg); err != nil {
		t.Fatal(err)
	}
	_, _ = cl.Publish(context.Background(), &paho.Publish{Topic: "in/x", QoS: 1}) // it may be refused
	honest := s.login("d2", "admin", "secret")
	if _, err := honest.Publish(context.Background(), &paho.Publish{Topic: "in/x", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	for {
		h := <-headers
		if h.Get("Ce-Source") == "eproxy/d2" {
			return
		}
		if h["X-Mqtt-Username"] != nil {
			t.Errorf("a client whose password nobody checked: %v", h)
		}
	}
}

// TestPosingByProperties: no user property changes who a message is from.
func TestPosingByProperties(t *testing.T) {
	names := []string{"source", "Source", "ce-source", "CE-Source", "id", "ce-id", "type", "ce-type", "subject", "ce-subject", "time", "ce-time",
		"dataschema", "ce-tenant", "specversion", "ce-specversion", "X-Mqtt-Client-Id", "x-mqtt-username", "X-Mqtt-Username", "name",
		"X-Mqtt-Qos", "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "a\r\nce-source", "\r\nX-Mqtt-Username"}
	s, headers := headerStage(t, config.Auth{Users: []config.User{user("dev", "secret")}}, nil)
	for topic, from := range map[string]bool{"in/x": false, "from/x": true} {
		publish := func(p *paho.PublishProperties) http.Header {
			cl := s.login("d1", "dev", "secret")
			if _, err := cl.Publish(context.Background(), &paho.Publish{Topic: topic, QoS: 1, Properties: p}); err != nil {
				return nil // refused
			}
			return <-headers
		}
		want := publish(nil)
		if got := want.Get("X-Mqtt-Client-Id"); got != map[bool]string{true: "d1"}[from] {
			t.Errorf("from_publisher %v: X-Mqtt-Client-Id %q", from, got)
		}
		for _, name := range names {
			got := publish(&paho.PublishProperties{User: paho.UserProperties{{Key: name, Value: "mallory"}}})
			if got == nil && !strings.Contains(name, "\r\n") {
				t.Errorf("property %q: not delivered", name)
			}
			for h, v := range got {
				switch {
				case h == "Ce-Id" && !from:
					if v[0] == "mallory" {
						t.Errorf("property %q makes ce-id %q", name, v)
					}
				case strings.HasPrefix(h, "Ce-") && from && h != "Ce-Specversion", strings.HasPrefix(h, "X-Mqtt-User-"):
				case strings.Join(v, "|") != strings.Join(want[h], "|"):
					t.Errorf("property %q makes %s %q, without it %q (from_publisher %v)", name, h, v, want[h], from)
				}
			}
		}
	}
}
