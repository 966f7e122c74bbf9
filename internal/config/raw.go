package config

import (
	"time"
)

// raw is the file as written; pointers tell absent from zero.
type raw struct {
	Interfaces   []string        `yaml:"interfaces"`
	XDP          string          `yaml:"xdp"`
	PodsGRO      string          `yaml:"pods_gro"`
	Listeners    []rawListener   `yaml:"listeners"`
	Broker       rawBroker       `yaml:"broker"`
	Auth         *rawAuth        `yaml:"auth"`
	Functions    []rawFunction   `yaml:"functions"`
	Routes       []rawRoute      `yaml:"routes"`
	Kubernetes   rawCluster      `yaml:"kubernetes"`
	Runtime      rawRuntime      `yaml:"runtime"`
	Scaler       rawScaler       `yaml:"scaler"`
	Monitoring   bool            `yaml:"monitoring"`
	Tracing      rawSpans        `yaml:"tracing"`
	Persistence  *rawPersistence `yaml:"persistence"`
	Metrics      rawMetrics      `yaml:"metrics"`
	Limits       rawLimits       `yaml:"limits"`
	DrainTimeout *duration       `yaml:"drain_timeout"`
	BPFFS        string          `yaml:"bpffs"`
}

type rawListener struct {
	Address       string   `yaml:"address"`
	TLS           *rawTLS  `yaml:"tls"`
	Websocket     bool     `yaml:"websocket"`
	Origins       []string `yaml:"origins"`
	ProxyProtocol []string `yaml:"proxy_protocol"`
}

type rawTLS struct {
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"client_ca"`
	CRL      string `yaml:"crl"`
	Username string `yaml:"username"`
}

type rawBroker struct {
	Mode string   `yaml:"mode"`
	URL  string   `yaml:"url"`
	URLs []string `yaml:"urls"`
	CA   string   `yaml:"ca"`
}

type rawAuth struct {
	AllowAnonymous bool      `yaml:"allow_anonymous"`
	Users          []rawUser `yaml:"users"`
	PasswordFile   string    `yaml:"password_file"`
	JWT            *rawJWT   `yaml:"jwt"`
	HTTP           *rawHook  `yaml:"http"`
	Default        rawACL    `yaml:"default"`
	Deny           rawDeny   `yaml:"deny"`
}

type rawJWT struct {
	SecretFile    string `yaml:"secret_file"`
	PublicKeyFile string `yaml:"public_key_file"`
	JWKSFile      string `yaml:"jwks_file"`
	Issuer        string `yaml:"issuer"`
	Audience      string `yaml:"audience"`
	Username      string `yaml:"username"`
	Publish       string `yaml:"publish"`
	Subscribe     string `yaml:"subscribe"`
}

type rawHook struct {
	URL     string    `yaml:"url"`
	Timeout *duration `yaml:"timeout"`
	Valid   *duration `yaml:"valid"`
}

type rawACL struct {
	Publish       []string `yaml:"publish"`
	Subscribe     []string `yaml:"subscribe"`
	DenyPublish   []string `yaml:"deny_publish"`
	DenySubscribe []string `yaml:"deny_subscribe"`
}

type rawDeny struct {
	Addresses []string `yaml:"addresses"`
	Clients   []string `yaml:"clients"`
}

type rawUser struct {
	Username      string   `yaml:"username"`
	PasswordHash  string   `yaml:"password_hash"`
	Publish       []string `yaml:"publish"`
	Subscribe     []string `yaml:"subscribe"`
	DenyPublish   []string `yaml:"deny_publish"`
	DenySubscribe []string `yaml:"deny_subscribe"`
}

type rawFunction struct {
	Name        string            `yaml:"name"`
	URL         string            `yaml:"url"`
	Pods        []string          `yaml:"pods"`
	Kubernetes  *rawKubernetes    `yaml:"kubernetes"`
	Discover    rawDiscover       `yaml:"discover"`
	Run         *rawRun           `yaml:"run"`
	Drain       []string          `yaml:"drain"`
	Probe       string            `yaml:"probe"`
	Paused      bool              `yaml:"paused"`
	Topology    string            `yaml:"topology"`
	Concurrency *int              `yaml:"concurrency"`
	Pipeline    string            `yaml:"pipeline"`
	Timeout     *duration         `yaml:"timeout"`
	Deadline    *duration         `yaml:"deadline"`
	Queue       rawQueue          `yaml:"queue"`
	Retry       rawRetry          `yaml:"retry"`
	DeadLetter  *rawDeadLetter    `yaml:"dead_letter"`
	Headers     map[string]string `yaml:"headers"`
	ContentType string            `yaml:"content_type"`
	CloudEvents rawCloudEvents    `yaml:"cloudevents"`
	Autoscaling rawAutoscaling    `yaml:"autoscaling"`
	Batch       *rawBatch         `yaml:"batch"`
	Tracing     *rawTracing       `yaml:"tracing"`
}

type rawSpans struct {
	OTLP string `yaml:"otlp"`
}

// rawTracing: true alone is all of it with its defaults, false none of it.
type rawTracing struct {
	Off    bool
	Sample *float64 `yaml:"sample"`
}

type rawAutoscaling struct {
	Knative    *rawKnative  `yaml:"knative"`
	Kubernetes *rawWorkload `yaml:"kubernetes"`
}

type rawWorkload struct {
	Deployment  string `yaml:"deployment"`
	StatefulSet string `yaml:"statefulset"`
	Namespace   string `yaml:"namespace"`
	Min         *int   `yaml:"min"`
	Max         *int   `yaml:"max"`
}

type rawKnative struct {
	Port     *int   `yaml:"port"`
	Revision string `yaml:"revision"`
}

type rawScaler struct {
	Knative string   `yaml:"knative"`
	KEDA    *rawKEDA `yaml:"keda"`
}

type rawKEDA struct {
	Listen string  `yaml:"listen"`
	TLS    *rawTLS `yaml:"tls"`
}

type rawKubernetes struct {
	Service   string `yaml:"service"`
	Knative   string `yaml:"knative"`
	Namespace string `yaml:"namespace"`
	Port      string `yaml:"port"`
}

type rawCluster struct {
	Name       string           `yaml:"name"`
	Kubeconfig string           `yaml:"kubeconfig"`
	Routes     []rawRouteSource `yaml:"routes"`
}

type rawRouteSource struct {
	Namespace string   `yaml:"namespace"`
	Topics    []string `yaml:"topics"`
}

type rawDiscover struct {
	File       string         `yaml:"file"`
	DNS        string         `yaml:"dns"`
	Kubernetes *rawKubernetes `yaml:"kubernetes"`
}

type rawRun struct {
	Command   []string          `yaml:"command"`
	Env       map[string]string `yaml:"env"`
	Dir       string            `yaml:"dir"`
	User      string            `yaml:"user"`
	Memory    string            `yaml:"memory"`
	CPU       string            `yaml:"cpu"`
	Instances *rawInstances     `yaml:"instances"`
	Zygote    string            `yaml:"zygote"`
	Imports   []string          `yaml:"imports"`
	Sandbox   string            `yaml:"sandbox"`
	Network   string            `yaml:"network"`
	Port      *int              `yaml:"port"`
	Start     *duration         `yaml:"start"`
	Stop      *duration         `yaml:"stop"`
	Idle      *duration         `yaml:"idle"`
	Lambda    *duration         `yaml:"lambda"`
	PageOut   *duration         `yaml:"page_out"`
}

// rawInstances are limits; a number alone is both.
type rawInstances struct {
	Min *int `yaml:"min"`
	Max *int `yaml:"max"`
}

type rawRuntime struct {
	Addresses string `yaml:"addresses"`
	Memory    string `yaml:"memory"`
}

type rawQueue struct {
	Messages *int      `yaml:"messages"`
	Bytes    *int      `yaml:"bytes"`
	Spool    *rawSpool `yaml:"spool"`
}

type rawSpool struct {
	Dir   string `yaml:"dir"`
	Bytes string `yaml:"bytes"`
}

type rawRetry struct {
	Attempts   *int      `yaml:"attempts"`
	Backoff    *duration `yaml:"backoff"`
	MaxBackoff *duration `yaml:"max_backoff"`
	Final      *[]int    `yaml:"final"`
}

type rawDeadLetter struct {
	File    string `yaml:"file"`
	MaxSize string `yaml:"max_size"`
	Keep    *int   `yaml:"keep"`
	Topic   string `yaml:"topic"`
	URL     string `yaml:"url"`
}

type rawCloudEvents struct {
	Type          string `yaml:"type"`
	Source        string `yaml:"source"`
	FromPublisher bool   `yaml:"from_publisher"`
	Mode          string `yaml:"mode"`
}

type rawBatch struct {
	MaxMessages *int      `yaml:"max_messages"`
	MaxBytes    *int      `yaml:"max_bytes"`
	Linger      *duration `yaml:"linger"`
}

type rawRoute struct {
	Topic      string   `yaml:"topic"`
	Function   string   `yaml:"function"`
	Functions  []string `yaml:"functions"`
	AlsoBroker bool     `yaml:"also_broker"`
	Ordered    bool     `yaml:"ordered"`
}

type rawMetrics struct {
	Listen    string `yaml:"listen"`
	Page      bool   `yaml:"page"`
	TokenFile string `yaml:"token_file"`
}

type rawPersistence struct {
	Dir   string `yaml:"dir"`
	Bytes string `yaml:"bytes"`
}

type rawLimits struct {
	Connections       *int `yaml:"connections"`
	Pods              *int `yaml:"pods"`
	MaxPacketSize     *int `yaml:"max_packet_size"`
	InflightPerClient *int `yaml:"inflight_per_client"`
	Routes            *int `yaml:"routes"`
	Observed          *int `yaml:"observed"`
	Copies            *int `yaml:"copies"`
}

// duration is a Go duration string.
type duration string

func (d *duration) value(fallback time.Duration) (time.Duration, error) {
	if d == nil {
		return fallback, nil
	}
	return time.ParseDuration(string(*d))
}
