package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"eproxy/internal/buildinfo"
	"eproxy/internal/config"
)

// Cluster is an API server and what is asked of it.
type Cluster struct {
	cfg  config.Kubernetes
	node string // this one's name; "": it is not known
	log  *slog.Logger

	mu        sync.Mutex
	access    *rest.Config // nil: not read yet
	namespace string       // where none is named
	down      bool         // it was said that the API server does not answer
}

// New names an API server. It is not connected to before there is something to ask.
// What this node is called there NODE_NAME says in the environment, which a pod can have from Kubernetes.
func New(cfg config.Kubernetes, log *slog.Logger) *Cluster {
	return &Cluster{cfg: cfg, node: os.Getenv("NODE_NAME"), log: log}
}

// scheme has the types that are asked for, and no more: each group of the API costs
// about a megabyte of the binaries.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := discovery.AddToScheme(s); err != nil {
		panic(err) // of constants
	}
	metav1.AddToGroupVersion(s, discovery.SchemeGroupVersion)
	s.AddKnownTypeWithName(Resources.WithKind("MQTTRoute"), &MQTTRoute{})
	s.AddKnownTypeWithName(Resources.WithKind("MQTTRouteList"), &routeList{})
	s.AddKnownTypeWithName(Resources.WithKind("MQTTFunction"), &MQTTFunction{})
	s.AddKnownTypeWithName(Resources.WithKind("MQTTFunctionList"), &functionList{})
	metav1.AddToGroupVersion(s, Resources)
	s.AddKnownTypeWithName(Knative.WithKind("Service"), &knativeService{})
	s.AddKnownTypeWithName(Knative.WithKind("ServiceList"), &knativeServiceList{})
	metav1.AddToGroupVersion(s, Knative)
	return s
}()

// Requests a second, and at once: a start asks once for each Service, and the API
// server has limits of its own for those that ask too much.
const (
	queriesPerSecond = 50
	queriesAtOnce    = 500
)

// client is a client for a group of the API, and the namespace where none is named.
func (c *Cluster) client(gv schema.GroupVersion) (rest.Interface, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.access == nil {
		access, namespace, err := credentials(c.cfg)
		if err != nil {
			return nil, "", err
		}
		c.access, c.namespace = access, namespace
	}
	access := rest.CopyConfig(c.access)
	access.APIPath, access.GroupVersion = "/apis", &gv
	access.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if gv == discovery.SchemeGroupVersion {
		access.ContentConfig.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		access.ContentConfig.ContentType = runtime.ContentTypeProtobuf
	}
	client, err := rest.RESTClientFor(access)
	if err != nil {
		return nil, "", fmt.Errorf("use the kubeconfig: %w", err)
	}
	return client, c.namespace, nil
}

// namespaceFile is where a pod finds the name of its own namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// credentials are how the API server is reached: by a kubeconfig, or by the service
// account of the pod that this program runs in.
func credentials(cfg config.Kubernetes) (*rest.Config, string, error) {
	var access *rest.Config
	namespace := metav1.NamespaceDefault
	var err error
	if cfg.Kubeconfig != "" {
		file := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: cfg.Kubeconfig}, &clientcmd.ConfigOverrides{})
		if access, err = file.ClientConfig(); err == nil {
			namespace, _, err = file.Namespace()
		}
		if err != nil {
			return nil, "", fmt.Errorf("kubernetes.kubeconfig %s: %w", cfg.Kubeconfig, oneLine(err))
		}
	} else {
		access, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, "", errors.New("this is no pod of a cluster: name a file in kubernetes.kubeconfig")
		}
		if err != nil {
			return nil, "", fmt.Errorf("the pod's service account: %w", oneLine(err))
		}
		if b, err := os.ReadFile(namespaceFile); err == nil && len(b) > 0 {
			namespace = strings.TrimSpace(string(b))
		}
	}
	access.QPS, access.Burst = queriesPerSecond, queriesAtOnce
	access.UserAgent = "eproxy/" + buildinfo.Get().Version
	access.WarningHandler = rest.NoWarnings{}
	return access, namespace, nil
}

// oneLine is an error in one line.
func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }
